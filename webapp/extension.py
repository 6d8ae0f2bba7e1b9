"""A hub in a Flask app: `Tidings(app)`."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from flask import Blueprint, current_app, has_app_context, has_request_context, request

from . import log_writers
from .auth import app_grants
from .auth.app_authorizer import AppAuthorizer
from .auth.refusals import reserved_topic
from .brokers import has_gevent, require_gevent
from .config.server_check import check_worker_class
from .config.settings import Settings
from .config.startup import or_end
from .core.events import Draft
from .core.topics import DEFAULT_TOPIC, is_reserved
from .errors import BadRequest, Misconfigured, TidingsError
from .views import (
    client_address,
    error_handlers,
    json_values,
    origins,
    pages,
    presence,
    static_files,
)
from .views.publish import check_sizes
from .wiring import VIEWS, build_services, with_file_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from flask import Flask, Request

    from .auth.authorizer import Grant
    from .core.events import Event
    from .views.services import Services

    Authorize = Callable[[Request], Grant | Mapping[str, Any] | None]

_PREFIX = "TIDINGS_"
_FIELDS = frozenset(("data", "topic", "type", "id", "private", "retry"))


class Tidings:
    """A hub in a Flask app. Its pages and paths are below `url_prefix`; the app publishes by
    `publish`. Nothing else of the app is changed.

    Its settings are the environment variables `TIDINGS_…`, or else `app.config["TIDINGS_…"]`. The
    event log is a file in the app's instance folder by default.

    :param app: None: `init_app` follows.
    :param url_prefix: such as `/realtime`, where its `EventSource` is `/realtime/events`.
    :param authorize: called at each request that has no valid token. It returns what the app's user
        may do: a mapping such as `{"subscribe": ["/users/7"], "publish": []}` with topic patterns,
        or a `Grant`; None: the user is anonymous. What it raises refuses the request. It runs
        before the first byte is sent, in the app's request context.
    :raises Misconfigured: a setting is not valid.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        url_prefix: str = "/tidings",
        authorize: Authorize | None = None,
    ) -> None:
        self._url_prefix = "/" + url_prefix.strip("/") if url_prefix.strip("/") else ""
        self._authorize = authorize
        self._apps: list[Flask] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the hub to an app. A hub may be added to several apps; each has its own event log
        then, unless their settings name the same.

        :raises Misconfigured: a setting is not valid.
        """
        if has_gevent():
            or_end(check_worker_class)
        settings = with_file_limits(_settings(app))
        authorizer = partial(_authorizer, authorize=self._authorize)
        services = build_services(settings, authorizer)
        services.url_prefix = self._url_prefix
        app.extensions["tidings"] = services
        app.register_blueprint(_blueprint(settings), url_prefix=self._url_prefix)
        # In the app's own views, too, reading a body may raise one.
        app.register_error_handler(TidingsError, error_handlers.on_tidings_error)
        self._apps.append(app)

    def publish(  # noqa: PLR0913 - the fields of an event
        self,
        data: Any = "",
        *,
        topic: str | Iterable[str] = DEFAULT_TOPIC,
        type: str | None = None,
        id: str | None = None,
        private: bool = False,
        retry: int | None = None,
    ) -> str:
        """Publish an event; it is in the event log when this returns. It may be called anywhere,
        from any thread: in a view, in a task of Celery, in a shell.

        :param data: text; any other value is sent as JSON.
        :param topic: or several; the first is the canonical topic.
        :param type: for `addEventListener`; None means `message`.
        :param id: your own, so that publishing the event again does nothing.
        :param private: only subscribers whose grant matches a topic get it.
        :param retry: milliseconds until clients reconnect.
        :return: the event's id.
        :raises BadRequest: a field is not valid.
        :raises TypeError: the data is no text, and not JSON.
        :raises ValueError: it has a number that is not JSON, such as NaN.
        :raises Conflict: the id is taken by an event with other content.
        :raises ServiceUnavailable: the event log cannot be reached.
        :raises RuntimeError: the hub is in several apps, and there is no app context.
        """
        draft = _draft(data, topic, type=type, id=id, private=private, retry=retry)
        return self._append([draft])[0].id

    def publish_many(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """Publish several events, all or none.

        :param events: each has the arguments of `publish` by their names.
        :return: their ids.
        :raises BadRequest: one is not valid, or has an unknown field.
        """
        drafts = []
        for event in events:
            if unknown := event.keys() - _FIELDS:
                detail = f"An event has no field {min(unknown)}."
                raise BadRequest(detail, f"Its fields are {', '.join(sorted(_FIELDS))}.")
            drafts.append(_draft(**event))
        return [event.id for event in self._append(drafts)] if drafts else []

    def _append(self, drafts: list[Draft]) -> list[Event]:
        services = self._services()
        for draft in drafts:
            for topic in draft.topics:
                if is_reserved(topic):
                    raise reserved_topic(topic)
        check_sizes(drafts, services.settings)
        hub = services.hub
        if has_gevent() and has_request_context():
            return hub.publish(drafts)
        return hub.broker.append(drafts) if hub.has_started else log_writers.append(hub, drafts)

    def _services(self) -> Services:
        """Return the services of the current app, or of the only one."""
        app: Flask | None = None
        if has_app_context():
            app = current_app._get_current_object()  # type: ignore[attr-defined] # noqa: SLF001 - public, as Flask documents it
        if app not in self._apps:
            if len(self._apps) != 1:
                message = "Publish within app.app_context(): the hub is in no app, or in several."
                raise RuntimeError(message)
            [app] = self._apps
        services: Services = app.extensions["tidings"]
        _check_memory(services)
        return services


def _check_memory(services: Services) -> None:
    """Refuse to publish into the memory of a process that serves nobody."""
    in_memory = services.settings.broker_url.startswith("memory:")
    if in_memory and not (has_request_context() or services.hub.has_started):
        detail = "Nobody can subscribe to memory:// of this process, which serves no requests."
        remedy = "Set TIDINGS_BROKER_URL to an SQLite file or a Redis that all processes share."
        raise Misconfigured(detail, remedy)


def _draft(  # noqa: PLR0913 - the fields of an event
    data: Any = "",
    topic: str | Iterable[str] = DEFAULT_TOPIC,
    *,
    type: str | None = None,
    id: str | None = None,
    private: bool = False,
    retry: int | None = None,
) -> Draft:
    topics = (topic,) if isinstance(topic, str) else tuple(dict.fromkeys(topic))
    return Draft(
        topics=topics,
        data=data if isinstance(data, str) else json_values.to_json((data, False)),
        type=type or None,
        id=id or None,
        private=bool(private),  # stored events are compared as text
        retry=retry,
    )


def _settings(app: Flask) -> Settings:
    """Return the settings of the environment, and else of the app."""
    own = {name: _text(it) for name, it in app.config.items() if name.startswith(_PREFIX)}
    environ = {**own, **os.environ}
    settings = replace(Settings.from_env(environ), demo=False, embedded=True)
    if settings.broker_url == Settings.broker_url and f"{_PREFIX}BROKER_URL" not in environ:
        url = f"sqlite:///{os.path.join(app.instance_path, 'tidings.db')}"  # noqa: PTH118 - text
        settings = replace(settings, broker_url=url)
    return settings


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list | tuple | set):
        return ",".join(map(str, value))
    return str(value)


def _authorizer(
    settings: Settings,
    is_revoked: Callable[[Grant], bool],
    authorize: Authorize | None,
) -> AppAuthorizer:
    def ask() -> Grant | None:
        return app_grants.ask(authorize, _request()) if authorize else None

    def check_origin() -> None:
        origins.check_publisher(_request(), settings)

    return AppAuthorizer(settings, is_revoked, ask if authorize else None, check_origin)


def _request() -> Request:
    return cast("Request", request._get_current_object())  # type: ignore[attr-defined] # noqa: SLF001 - public, as Flask documents it


def _blueprint(settings: Settings) -> Blueprint:
    """Return all views of a hub, with error handlers and hooks for them alone."""
    blueprint = Blueprint("tidings", __name__)
    for module in (*VIEWS, static_files):
        blueprint.register_blueprint(module.bp)
    if settings.auth_enabled:
        blueprint.register_blueprint(presence.bp)
    blueprint.before_request(require_gevent)
    if settings.trusted_proxies:
        blueprint.before_request(partial(_see_client, settings.trusted_proxies))
    error_handlers.init_app(blueprint)
    blueprint.after_request(pages.set_nosniff)
    if settings.cors_origins:
        origins.allow_reading(blueprint, settings.cors_origins)
    return blueprint


def _see_client(proxies: int) -> None:
    """See the client's address and scheme instead of its proxy's, for the hub's views only."""
    seen = _request()
    seen.remote_addr, seen.scheme = client_address.before(seen.environ, proxies)
