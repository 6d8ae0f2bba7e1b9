"""Receives from a client within some seconds, with TLS or without."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from gevent import Timeout

_LEAST_S = 0.001


def receive(sock: Any, size: int, seconds: float) -> bytes:
    """Return some bytes.

    :param sock: a client's socket, of gevent.
    :raises TimeoutError: none arrived in time.
    """
    seconds = max(seconds, _LEAST_S)
    sock.settimeout(seconds)
    # With TLS, the socket's time-out begins again with each part of a record, or of a handshake.
    deadline = Timeout(seconds, TimeoutError()) if hasattr(sock, "cipher") else nullcontext()
    with deadline:
        data: bytes = sock.recv(size)
    return data
