"""Build the app: wire the hub, its settings and its views; start nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .core.version import __version__

if TYPE_CHECKING:
    from flask import Flask

    from .auth.authorizer import Authorizer
    from .config.settings import Settings
    from .hub.hub import Hub

__all__ = ["__version__", "create_app"]


def create_app(settings: Settings | None = None) -> Flask:
    """Build and wire the app; nothing is started before it serves.

    :param settings: None reads them from the environment.
    :raises Misconfigured: the settings contradict each other, or the server cannot hold streams.
    """
    # Here and not above: gunicorn's master imports this package for its worker class, and what
    # these import (ssl) must not be imported before gevent has patched the worker.
    from .auth.authorizer import Authorizer
    from .brokers import connect
    from .config import exposure
    from .config.settings import Settings
    from .config.startup import Server, check_server, end_at_once
    from .hub.demo import Demo
    from .hub.hub import Hub
    from .hub.quota import behind
    from .views import error_handlers, events, health, openapi, origins, pages
    from .views.flask_app import HubFlask

    check_server()
    settings = _with_max_pipes(settings or Settings.from_env(os.environ))
    exposure.check(settings, 1, [])
    templates = Path(__file__).parent.parent / "templates"
    app = HubFlask(__name__, template_folder=str(templates))
    hub = Hub(connect(settings), settings, _max_readers(settings))
    app.extensions["tidings"] = hub
    if settings.trusted_proxies:
        app.wsgi_app = behind(app.wsgi_app, settings.trusted_proxies)  # type: ignore[method-assign]
    if settings.demo:
        hub.observers.append(Demo(hub))
    app.url_map.merge_slashes = False  # its redirects would be pages
    if settings.local:  # then it is not served where others can reach it
        app.before_request(error_handlers.reject_foreign_hosts)
        if not Server.is_ours:
            exposure.guard(app, settings, end_at_once)
    error_handlers.init_app(app)
    app.after_request(pages.set_nosniff)
    authority = Authorizer(settings)
    if settings.auth_enabled:
        _list_readers(app, hub, authority)
    app.register_blueprint(events.make_blueprint(hub, authority, settings))
    app.register_blueprint(health.make_blueprint(hub, authority))
    app.register_blueprint(openapi.make_blueprint(settings))
    app.register_blueprint(pages.bp)
    if settings.cors_origins:
        app.after_request(origins.without_credentials)
        _allow_origins(app, settings.cors_origins)
    return app


def _list_readers(app: Flask, hub: Hub, authority: Authorizer) -> None:
    """Let those who may know who listens, and send readers away."""
    from .brokers import connect_presence
    from .presence.service import Presence
    from .views import presence

    settings = hub.settings
    hub.presence = Presence(hub, connect_presence(settings, hub.broker), settings.presence_lease)
    hub.observers.append(hub.presence)
    authority.is_revoked = hub.presence.is_revoked
    app.register_blueprint(presence.make_blueprint(hub, hub.presence, authority, settings))


def _max_readers(settings: Settings) -> int:
    from .config.startup import file_limit

    if settings.max_subscribers is not None:
        return settings.max_subscribers
    return file_limit() * 8 // 10


def _with_max_pipes(settings: Settings) -> Settings:
    from .config.startup import file_limit

    most = file_limit() // 10 if settings.max_pipes is None else settings.max_pipes
    return replace(settings, max_pipes=most)


_CURSORS = ("Last-Event-ID", "Mercure-Last-Event-ID")


def _allow_origins(app: Flask, origins: tuple[str, ...]) -> None:
    from flask_cors import CORS

    from .views.origins import patterns

    CORS(
        app,
        origins=patterns(origins),
        allow_headers=["Authorization", "Cache-Control", "Content-Type", *_CURSORS],
        expose_headers=["Link", *_CURSORS],
        methods=["GET", "HEAD", "POST", "OPTIONS"],
        supports_credentials="*" not in origins,
        send_wildcard=False,
        max_age=86400,
    )
