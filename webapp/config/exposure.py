"""Whether others can reach this process: the sockets at which it really listens decide.

A setting, a command line and a configuration only say what somebody intended: systemd passes other
sockets, and some servers bind after they have loaded the app.
"""

from __future__ import annotations

import _socket  # the socket module's sockets are gevent's, and need an event loop
import ipaddress
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask import Flask

    from .settings import Settings

_DESCRIPTOR_FOLDERS = ("/proc/self/fd", "/dev/fd")  # of Linux, and of macOS and the BSDs
_MAX_GUESSED_DESCRIPTOR = 1024


def check(settings: Settings, workers: int, addresses: Iterable[Any]) -> None:
    """Refuse to serve at addresses where the hub would break a promise or be open to strangers.

    :param workers: how many processes serve.
    :param addresses: of all listening sockets.
    :raises Misconfigured: with the setting to change.
    """
    reachable = settings.port is not None or not all(map(is_loopback, addresses))
    settings.check_workers(workers)
    settings.check_exposure(reachable=reachable)


def is_loopback(address: Any) -> bool:
    """Whether only this machine's users can connect to an address.

    False for a Unix socket: usually there is a proxy in front of it.
    """
    host = address[0] if isinstance(address, tuple) else ""
    try:
        ip = ipaddress.ip_address(str(host))
    except ValueError:
        return host == "localhost"
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def listening_addresses() -> list[Any]:
    """Return the addresses of all sockets at which this process accepts connections."""
    found = []
    for descriptor in _descriptors():
        with suppress(OSError):  # not a socket, or closed meanwhile
            sock = _socket.socket(fileno=descriptor)
            try:
                if sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN):
                    found.append(sock.getsockname())
            finally:
                sock.detach()  # it stays open
    return found


def _descriptors() -> Iterable[int]:
    for folder in _DESCRIPTOR_FOLDERS:
        with suppress(OSError):
            return map(int, os.listdir(folder))  # noqa: PTH208 - names only
    return range(_MAX_GUESSED_DESCRIPTOR)


def guard(app: Flask, settings: Settings, refuse: Callable[[Misconfigured], None]) -> None:
    """Let the app check where it is served before it answers its first request.

    Where no listening socket can be seen, each request is judged by the address of its client.

    :param refuse: called where the app must not be served; it does not return.
    """
    inner, checked = app.wsgi_app, False

    def guarded(environ: dict[str, Any], start_response: Any) -> Any:
        nonlocal checked
        if not checked:
            found = listening_addresses()
            try:
                check(settings, 1, found or [(environ.get("REMOTE_ADDR", ""), 0)])
            except Misconfigured as error:
                refuse(error)
            checked = bool(found)
        return inner(environ, start_response)

    app.wsgi_app = guarded  # type: ignore[method-assign]
