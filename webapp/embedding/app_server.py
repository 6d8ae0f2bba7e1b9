"""The server of an app that has a hub in it: what it can hold, and where the hub runs in it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import gevent
from flask import request

from ..config import wsgi_server
from ..config.server_check import Server
from ..hub.served_hubs import ServedHubs, drain_at_stop
from ..loop_thread import has_gevent
from . import threaded_services

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from ..config.settings import Settings
    from ..views.services import Services

logger = logging.getLogger(__name__)


def check(settings: Settings) -> None:
    """Refuse a server that cannot serve streams, and say how many it can hold if they are few.

    :raises Misconfigured: with what to do.
    """
    if Server.is_stream_worker or not (server := wsgi_server.loading()):
        return
    server.check(patched=has_gevent())
    settings.check_workers(server.workers)
    if notice := server.notice():
        logger.warning(notice)


def begin(app: Flask, build: Callable[[], Services]) -> None:
    """Have a hub serve an app, unless it does; called in each request.

    :param build: makes the app's services again, for a hub in a thread of its own.
    """
    if Server.is_stream_worker:
        return
    if not has_gevent():
        threaded_services.serve(app, build, request.environ)
        return
    services: Services = app.extensions["tidings"]
    if not services.knows_server:
        services.knows_server = True
        if server := wsgi_server.serving(request.environ, patched=True):
            if server.streams:
                services.hub.quota.cap(server.streams // len(ServedHubs.built))
            if server.worker:
                gevent.spawn(drain_at_stop, server.worker, [services.hub])
