"""Services for the views of an app whose server has threads that gevent has not patched.

The hub runs in a thread of its own, which begins with the first request of a process: servers fork
after they have loaded the app. All that the app brings, such as `authorize`, runs in the threads of
the server.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from ..config import wsgi_server
from ..hub.served_hubs import drain_at_stop
from ..hub.streams.client_watch import ClientWatch
from ..hub.streams.thread_socket import ThreadFrames, ThreadSocket
from ..loop_thread import InLoop, LoopThread
from ..views.request_room import PipesInRoom, RequestRoom
from ..views.services import Services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed.wsgi import WSGIEnvironment
    from flask import Flask

    from ..config.wsgi_server import WsgiServer
    from ..hub.hub import Hub
    from ..hub.streams.stream import Stream

T = TypeVar("T")

logger = logging.getLogger(__name__)

_LAST_BYTES_S = 2.0  # until streams have sent their ends when the process does
_STOP_S = 2.0


class _Process:
    """The hub's thread of this process, and the server that it waits for."""

    def __init__(self, server: WsgiServer | None) -> None:
        self.server = server
        self.loop = LoopThread()
        self.room = RequestRoom(server)
        self.hubs: list[Hub] = []

    def end(self) -> None:
        """End all streams, and close the event logs."""
        for hub in self.hubs:
            self.loop.start(hub.drain)
        self.room.wait_until_empty(_LAST_BYTES_S)
        for answer in [self.loop.start(hub.stop) for hub in self.hubs]:
            answer.wait(_STOP_S)


class ThreadedServices(Services):
    """The services of an app, for threads that are not the hub's.

    :param inner: the services as the hub's thread has them.
    """

    def __init__(self, process: _Process, inner: Services) -> None:
        in_loop: Callable[[Any], Any] = partial(InLoop, process.loop)
        vars(self).update(vars(inner))
        self.hub = in_loop(inner.hub)
        self.presence = inner.presence and in_loop(inner.presence)
        self.log_probe, self.publish_rate = in_loop(inner.log_probe), in_loop(inner.publish_rate)
        limits = inner.settings.max_pipes or 0, inner.settings.max_pipes_per_publisher
        self.pipes = PipesInRoom(*limits, process.room)
        self.room = process.room
        self._loop = process.loop
        self._inner = inner

    def frames(self, stream: Stream, environ: WSGIEnvironment) -> Iterator[bytes]:
        """Begin a stream in the hub's thread, and return what the server sends."""
        self.room.take()
        socket = ThreadSocket(self._loop, client_watch(environ), self.settings.write_timeout)
        self._loop.start(socket.run, stream)
        return ThreadFrames(socket, self.room.leave)

    def call(self, function: Callable[..., T], *values: Any, **options: Any) -> T:
        """Return what a function returns whose first argument is the hub, in the hub's thread."""
        return self._loop.call(function, self._inner.hub, *values, **options)


def client_watch(environ: WSGIEnvironment) -> ClientWatch:
    """Return what notices that the client of a request leaves, as far as its server shows it."""
    if sock := environ.get("werkzeug.socket") or environ.get("gunicorn.socket"):
        return ClientWatch(sock.fileno())
    if uwsgi := sys.modules.get("uwsgi"):
        return ClientWatch(uwsgi.connection_fd())
    if has_left := environ.get("waitress.client_disconnected"):
        return ClientWatch(has_left.__self__.socket.fileno(), lambda: not has_left())
    return ClientWatch(None)


class _Here:
    """What this process has. A fork has not the threads of its parent, so it begins again."""

    process: _Process | None
    lock: Lock

    def __init__(self) -> None:
        self.built: WeakKeyDictionary[Flask, Services] = WeakKeyDictionary()
        """The services of each app before the process began to serve."""
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Let the next request begin."""
        self.process, self.lock = None, Lock()
        for app, services in self.built.items():
            app.extensions["tidings"] = services
        self.built.clear()

    def begin(self, environ: WSGIEnvironment) -> _Process:
        """Return the hub's thread; start it if there is none.

        :param environ: of a request.
        """
        if self.process is None:
            server = wsgi_server.serving(environ, patched=False)
            self.process = process = _Process(server)
            atexit.register(process.end)
            if server and server.worker:
                process.loop.start(drain_at_stop, server.worker, process.hubs)
            if server and not wsgi_server.loading() and (notice := server.notice()):
                logger.warning(notice)
        return self.process


_here = _Here()


def serve(app: Flask, build: Callable[[], Services], environ: WSGIEnvironment) -> None:
    """Have a hub in a thread of this process serve an app, unless it does.

    :param build: makes its services.
    :param environ: of the first request.
    """
    if isinstance(app.extensions["tidings"], ThreadedServices):
        return
    with _here.lock:
        if isinstance(app.extensions["tidings"], ThreadedServices):
            return
        process = _here.begin(environ)
        inner = process.loop.call(build)
        process.hubs.append(inner.hub)
        _here.built[app] = app.extensions["tidings"]
        app.extensions["tidings"] = ThreadedServices(process, inner)
