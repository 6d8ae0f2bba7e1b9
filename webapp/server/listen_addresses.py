"""The addresses that the hub listens on: which they are, and whether they are free."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.settings import Settings

_LOOPBACK = "127.0.0.1:8000"
_PROBE_TIMEOUT_S = 1.0
_TRIES, _RETRY_S = 5, 1.0  # as gunicorn does: the hub that was there before may be stopping


def choose(settings: Settings) -> list[str]:
    """Return TIDINGS_BIND, else all addresses with the platform's port, else loopback."""
    if settings.bind:
        return list(settings.bind)
    return [_LOOPBACK if settings.port is None else f"{_any_host()}:{settings.port}"]


def _any_host() -> str:
    """Return the name of all addresses: those of IPv6 too, if such a socket accepts IPv4 here."""
    try:
        with closing(socket.socket(socket.AF_INET6)) as sock:
            sock.bind(("::", 0))
            sock.listen(1)
            address = ("127.0.0.1", sock.getsockname()[1])
            socket.create_connection(address, _PROBE_TIMEOUT_S).close()
    except OSError:
        return "0.0.0.0"  # noqa: S104 - it is refused without a key
    return "[::]"


def are_inherited() -> bool:
    """Whether systemd, or the gunicorn that this one replaces, hands its sockets over."""
    return "LISTEN_FDS" in os.environ or "GUNICORN_FD" in os.environ


def await_free(cfg: Any, settings: Settings, log: Any) -> None:
    """Wait a little until all addresses of gunicorn's configuration can be listened on.

    :raises Misconfigured: one of them cannot, with the setting to change.
    """
    for address in cfg.address:
        if isinstance(address, tuple) and not cfg.reuse_port:
            _await_one(partial(_listen, address), _text(address), settings, log)
        elif isinstance(address, str) and not address.startswith("\0"):
            _await_one(partial(_check_path, Path(address)), f"unix:{address}", settings, log)


def _await_one(probe: Callable[[], None], address: str, settings: Settings, log: Any) -> None:
    for number in range(1, _TRIES + 1):
        try:
            probe()
        except OSError as error:
            if number == _TRIES or error.errno != errno.EADDRINUSE:
                raise _refusal(address, settings, error) from None
            if number == 1:
                log.info("%s is in use. The hub waits until it is free.", address)
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


def _check_path(path: Path) -> None:
    """Raise an OSError if gunicorn could not make a socket there, or would take another server's:
    it replaces whatever socket it finds.
    """
    with closing(socket.socket(socket.AF_UNIX)) as sock, suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise OSError(errno.EEXIST, "There is a file that is not a socket")
        if sock.connect_ex(str(path)) == 0:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        code = errno.EACCES if path.parent.is_dir() else errno.ENOENT
        raise OSError(code, os.strerror(code))


def _refusal(address: str, settings: Settings, error: OSError) -> Misconfigured:
    if error.errno == errno.EADDRINUSE:
        detail = f"Another program listens on {address} already."
    else:
        detail = f"The hub cannot listen on {address}: {error.strerror}."
    if settings.port is not None and not settings.bind:
        return Misconfigured(detail, "Set PORT to another port.")
    remedy = "To choose another address, set TIDINGS_BIND, such as TIDINGS_BIND=127.0.0.1:8123."
    return Misconfigured(detail, remedy)


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
