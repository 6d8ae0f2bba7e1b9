"""The addresses that the hub listens on: which they are, and whether they are free."""

from __future__ import annotations

import errno
import os
import socket
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ..errors import Misconfigured

if TYPE_CHECKING:
    from ..config.settings import Settings

_LOOPBACK = "127.0.0.1:8000"
_TRIES, _RETRY_S = 5, 1.0  # as gunicorn does: the hub that was there before may be stopping


def chosen(settings: Settings) -> list[str]:
    """Return TIDINGS_BIND, else all addresses with the platform's port, else loopback."""
    if settings.bind:
        return list(settings.bind)
    return [_LOOPBACK if settings.port is None else f"{_any_host()}:{settings.port}"]


def _any_host() -> str:
    """Return the name of all addresses: a socket of IPv6 accepts IPv4, too, unless the system says
    otherwise.
    """
    try:
        with closing(socket.socket(socket.AF_INET6)) as sock:
            only_ipv6 = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:  # there is no IPv6
        only_ipv6 = True
    return "0.0.0.0" if only_ipv6 else "[::]"  # noqa: S104 - it is refused without a key


def are_inherited() -> bool:
    """Whether systemd, or the gunicorn that this one replaces, hands its sockets over."""
    return "LISTEN_FDS" in os.environ or "GUNICORN_FD" in os.environ


def await_free(cfg: Any, settings: Settings, log: Any) -> None:
    """Wait a little until all addresses of gunicorn's configuration can be listened on.

    :raises Misconfigured: one of them cannot, with the setting to change.
    """
    for address in cfg.address:
        if isinstance(address, tuple) and not cfg.reuse_port:
            _await_one(address, settings, log)


def _await_one(address: tuple[str, int], settings: Settings, log: Any) -> None:
    for number in range(1, _TRIES + 1):
        try:
            _listen(address)
        except OSError as error:
            if number == _TRIES or error.errno != errno.EADDRINUSE:
                raise _refusal(address, settings, error) from None
            if number == 1:
                log.info("%s is in use. The hub waits until it is free.", _text(address))
            time.sleep(_RETRY_S)
        else:
            return


def _listen(address: tuple[str, int]) -> None:
    """Listen for a moment, in the way of gunicorn."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with closing(socket.socket(family)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1)


def _refusal(address: tuple[str, int], settings: Settings, error: OSError) -> Misconfigured:
    if error.errno == errno.EADDRINUSE:
        detail = f"Another program listens on {_text(address)} already."
    else:
        detail = f"The hub cannot listen on {_text(address)}: {error.strerror}."
    if settings.port is not None and not settings.bind:
        return Misconfigured(detail, "Set PORT to another port, or end the other program.")
    remedy = "To choose another address, set TIDINGS_BIND, such as TIDINGS_BIND=127.0.0.1:8123."
    return Misconfigured(detail, remedy)


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
