"""Whether others can reach this process, as told by the sockets that it really has.

A bind, a command line and a configuration only say what somebody wanted: systemd hands over other
sockets, and some servers bind after they have loaded the app.
"""

from __future__ import annotations

import _socket  # the socket module's are gevent's, and need an event loop
import ipaddress
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask import Flask

    from .settings import Settings

_DESCRIPTORS = ("/proc/self/fd", "/dev/fd")  # of Linux, and of macOS and the BSDs
_MOST_GUESSED = 1024


def check(settings: Settings, workers: int, addresses: Iterable[Any]) -> None:
    """Refuse to serve at addresses where the hub would lie or be open to strangers.

    :param workers: how many processes serve.
    :param addresses: of all listening sockets.
    :raises Misconfigured: with the setting to change.
    """
    reachable = settings.port is not None or not all(map(is_loopback, addresses))
    settings.check_exposure(workers=workers, reachable=reachable)


def is_loopback(address: Any) -> bool:
    """Whether only this machine's users can connect to an address.

    A Unix socket counts as one that others can reach: a proxy is usually in front of it.
    """
    host = address[0] if isinstance(address, tuple) else ""
    try:
        ip = ipaddress.ip_address(str(host))
    except ValueError:
        return host == "localhost"
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def addresses() -> list[Any]:
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
    for folder in _DESCRIPTORS:
        with suppress(OSError):
            return map(int, os.listdir(folder))  # noqa: PTH208 - names only
    return range(_MOST_GUESSED)


def guard(app: Flask, settings: Settings, refuse: Callable[[Misconfigured], None]) -> None:
    """Check where the app is served before it answers its first request.

    Where no listening socket can be seen, each request is judged by the address of its client.

    :param refuse: called where it must not be served; it does not return.
    """
    inner, checked = app.wsgi_app, False

    def guarded(environ: dict[str, Any], start_response: Any) -> Any:
        nonlocal checked
        if not checked:
            found = addresses()
            try:
                check(settings, 1, found or [(environ.get("REMOTE_ADDR", ""), 0)])
            except Misconfigured as error:
                refuse(error)
            checked = bool(found)
        return inner(environ, start_response)

    app.wsgi_app = guarded  # type: ignore[method-assign]
