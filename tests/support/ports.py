"""Ports for servers of the tests."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from random import sample
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def ports() -> Iterator[int]:
    """Yield ports that other processes with tests do not, none of them twice."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = range(20_000 + number, 32_000, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    yield from sample(mine, len(mine))


PORTS = ports()


def free_port() -> int:
    """Return a port that nobody listens to, nor is given to a client while its server is down.

    It is not given again: hubs may look for a server there long after it has gone.
    """
    while True:
        port = next(PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def has_ipv6() -> bool:
    """Whether this machine can be reached at ::1."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
