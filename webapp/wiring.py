"""Build what the hub's views share, for the hub's own app and for apps that have a hub in them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .auth.authorizer import Authorizer
from .brokers import connect, connect_presence
from .config.file_limit import file_limit
from .hub.hub import Hub
from .hub.served_hubs import ServedHubs
from .presence.service import Presence
from .views import console, delete, health, openapi, publish, subscribe, topics
from .views.pages import console_page
from .views.services import Services

if TYPE_CHECKING:
    from collections.abc import Callable

    from .auth.authorizer import Grant
    from .config.settings import Settings

VIEWS = (
    subscribe,
    publish,
    delete,
    topics,
    health,
    openapi,
    console_page,
    *console.VIEWS,
)
"""The modules with the blueprints that every hub has."""


def build_services(
    settings: Settings,
    make_authorizer: Callable[[Settings, Callable[[Grant], bool]], Authorizer] = Authorizer,
) -> Services:
    """Return a hub, and what decides who may use it. Nothing is started.

    :param make_authorizer: called with what says whether a grant was revoked.
    """
    hub = Hub(connect(settings), settings, settings.max_subscribers or 0)
    ServedHubs.built[hub] = None
    if not settings.has_presence:
        return Services(hub, make_authorizer(settings, _is_never_revoked))
    service = Presence(hub, connect_presence(settings, hub.broker), settings.presence_lease)
    hub.observers.append(service)
    return Services(hub, make_authorizer(settings, service.is_revoked), service)


def _is_never_revoked(_: Grant) -> bool:
    return False


def with_file_limits(settings: Settings) -> Settings:
    """Replace each limit of open connections that is None by a part of the file limit."""
    files = file_limit()
    streams = files * 8 // 10 if settings.max_subscribers is None else settings.max_subscribers
    pipes = files // 10 if settings.max_pipes is None else settings.max_pipes
    return replace(settings, max_subscribers=streams, max_pipes=pipes)
