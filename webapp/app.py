"""Build the app: wire the hub, its settings and its views. Nothing is started here."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from gevent import monkey

from .brokers import require_gevent
from .config import exposure
from .config.folders import TEMPLATES
from .config.server_check import Server, check_server
from .config.settings import Settings
from .config.startup import end_at_once, or_end
from .errors import Misconfigured
from .hub.demo import Demo
from .views import error_handlers, origins, presence
from .views.client_address import behind
from .views.flask_app import HubFlask
from .views.pages import live_page, page
from .wiring import VIEWS, build_services, with_file_limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

_SOCKETS_TIMEOUT_S = 60.0
_SOCKETS_POLL_S = 0.05


def create_app(settings: Settings | None = None) -> Flask:
    """Build and wire the app; nothing is started before it serves.

    :param settings: None reads them from the environment.
    :raises Misconfigured: the settings contradict each other, or the server cannot hold streams.
    """
    check_server()
    require_gevent()
    settings = with_file_limits(settings or Settings.from_env(os.environ))
    exposure.check(settings, 1, [])
    app = HubFlask(__name__, template_folder=str(TEMPLATES))
    services = build_services(settings)
    if settings.demo:
        services.hub.observers.append(Demo(services.hub.publish))
    app.extensions["tidings"] = services
    if settings.trusted_proxies:
        app.wsgi_app = behind(app.wsgi_app, settings.trusted_proxies)  # type: ignore[method-assign]
    # Redirects would be HTML pages.
    app.url_map.merge_slashes = app.url_map.redirect_defaults = False
    if settings.loopback_only:  # the hub has no key, so others must not reach it
        app.before_request(error_handlers.reject_foreign_hosts)
        if not Server.is_stream_worker:
            exposure.guard(app, settings, end_at_once)
    error_handlers.init_app(app)
    app.after_request(page.set_nosniff)
    for module in (*VIEWS, live_page):
        app.register_blueprint(module.bp)
    if settings.auth_enabled:
        app.register_blueprint(presence.bp)
    if settings.cors_origins:
        origins.allow_reading(app, settings.cors_origins)
    return app


def load() -> Flask:
    """Return the app for a server that imports it; end the process where it must not be served."""
    if Server.is_stream_worker:
        return create_app()
    app = or_end(create_app)
    settings: Settings = app.extensions["tidings"].settings
    if settings.loopback_only:
        # A thread of the system, because the server may block gevent's loop.
        start = monkey.get_original("_thread", "start_new_thread")
        start(_check_sockets, (settings, monkey.get_original("time", "sleep")))
    return app


def _check_sockets(settings: Settings, sleep: Callable[[float], None]) -> None:
    """Check a server's sockets as soon as it has some. After a minute the first request does."""
    until = time.monotonic() + _SOCKETS_TIMEOUT_S
    while not (found := exposure.listening_addresses()):
        if time.monotonic() > until:
            return
        sleep(_SOCKETS_POLL_S)
    try:
        exposure.check(settings, 1, found)
    except Misconfigured as error:
        end_at_once(error)
