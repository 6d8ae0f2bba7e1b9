"""A hub in a Flask app: `Tidings(app)`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from flask import Blueprint, current_app, has_app_context, has_request_context, request

from ..auth import app_grants
from ..auth.app_authorizer import AppAuthorizer
from ..auth.refusals import reserved_topic
from ..config import app_check, app_settings
from ..config.startup import or_end
from ..core.topics import DEFAULT_TOPIC, EVERYTHING, is_reserved
from ..errors import Misconfigured, TidingsError
from ..hub.deletion import delete, remove
from ..hub.listings.topic_listing import list_all
from ..views import (
    app_arguments,
    client_address,
    csrf,
    error_handlers,
    origins,
    presence,
)
from ..views.delete import check_exact
from ..views.pages import live_page, page, static_files
from ..views.publish import check_limits
from ..wiring import VIEWS, build_services, with_file_limits
from . import app_server, log_writers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from flask import Flask, Request

    from ..auth.authorizer import Grant
    from ..config.settings import Settings
    from ..core.events import Draft, Event
    from ..hub.hub import Hub
    from ..hub.listings.topic_listing import ListedTopic
    from ..views.services import Services

    Authorize = Callable[[Request], Grant | Mapping[str, Any] | None]


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
        self._url_prefix = app_settings.url_prefix(url_prefix)
        self._authorize = authorize
        self._apps: list[Flask] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the hub to an app. A hub may be added to several apps; each has its own event log
        then, unless their settings name the same.

        :raises Misconfigured: a setting is not valid, or the app has a hub already.
        """
        app_check.check(app)
        has_login = self._authorize is not None
        found = app_settings.read(app.config, app.instance_path, has_login=has_login)
        settings = with_file_limits(found)
        or_end(app_server.check, settings)
        build = partial(self._build, settings)
        app.extensions["tidings"] = services = build()
        begin = partial(app_server.begin, app, build)
        blueprint = _blueprint(settings, begin, at_root=services.is_at_root)
        app.register_blueprint(blueprint, url_prefix=self._url_prefix or None)
        # In the app's own views, too, reading a body may raise one.
        app.register_error_handler(TidingsError, error_handlers.on_tidings_error)
        self._apps.append(app)

    def _build(self, settings: Settings) -> Services:
        services = build_services(settings, partial(_authorizer, authorize=self._authorize))
        services.url_prefix = self._url_prefix
        return services

    def publish(  # noqa: PLR0913 - the fields of an event
        self,
        data: Any = "",
        *,
        topic: str | Iterable[str] = DEFAULT_TOPIC,
        type: str | None = None,
        id: str | None = None,
        private: bool = False,
        retry: int | None = None,
        end: bool = False,
        ttl: float | str | None = None,
    ) -> str:
        """Publish an event; it is in the event log when this returns. Any thread may call it.

        :param data: text; any other value is sent as JSON.
        :param topic: or several; the first is the canonical topic.
        :param type: for `addEventListener`; None means `message`.
        :param id: your own, so that publishing the event again does nothing.
        :param private: only subscribers whose grant matches a topic get it.
        :param retry: milliseconds until clients reconnect.
        :param end: it is the last event of its topics: their streams end, and take no more.
        :param ttl: seconds, or a text such as `10m`, after which the event is not sent any more.
        :return: the event's id.
        :raises BadRequest: a field is not valid.
        :raises TypeError: the data is no text, and not JSON.
        :raises ValueError: it has a number that is not JSON, such as NaN.
        :raises Conflict: the id is taken by an event with other content, or a topic has ended.
        :raises ServiceUnavailable: the event log cannot be reached.
        :raises RuntimeError: the hub is in several apps, and there is no app context.
        """
        draft = app_arguments.draft(
            data, topic, type=type, id=id, private=private, retry=retry, end=end, ttl=ttl
        )
        return self._append([draft])[0].id

    def publish_many(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """Publish several events, all or none.

        :param events: each has the arguments of `publish` by their names.
        :return: their ids.
        :raises BadRequest: one is not valid, or has an unknown field.
        :raises ContentTooLarge: they are over 2,000, 1 MB of data, or 4,000 topics.
        """
        drafts = app_arguments.drafts(events)
        return [event.id for event in self._append(drafts)] if drafts else []

    def topics(
        self, pattern: str | Iterable[str] = EVERYTHING, *, limit: int = 100, after: str = ""
    ) -> list[ListedTopic]:
        """Return topics that the event log has events of, private ones too, sorted by their names.

        :param pattern: a topic or a topic pattern, or several.
        :param limit: how many at most, up to 1,000.
        :param after: the last topic of the page before this one.
        :raises BadRequest: an argument is not valid.
        :raises ServiceUnavailable: the event log cannot be reached.
        :raises RuntimeError: the hub is in several apps, and there is no app context.
        """
        asked = app_arguments.page(pattern, limit, after)
        services = self._services()
        if _is_served(services.hub):
            return services.call(_list_topics, *asked)
        return log_writers.run(services.hub, lambda writer: list_all(writer.reader, *asked))

    def delete(self, topic: str, id: str | None = None) -> int:
        """Remove an event, or all events of a canonical topic, and return how many there were. This
        process sends nobody one of them any more, and others stop a moment later.

        :param id: a position or your own id; None: all of the topic that there are now.
        :raises BadRequest: the topic is a pattern.
        """
        check_exact(topic)
        services = self._services()
        if _is_served(services.hub):
            return services.call(delete, topic, id)
        return log_writers.run(services.hub, lambda it: remove(it.broker, topic, id)).number

    def disconnect(self, *, subject: str | int = "", subscriber: str = "") -> None:
        """End streams on all workers and machines. Their clients may connect again, and `authorize`
        is called again.

        :param subject: end all streams of a user: the `subject` that `authorize` returned, or the
            `sub` of their tokens.
        :param subscriber: end one stream: the `subscriber` of its `hub.open`, and of presence.
        :raises BadRequest: both are given, or none.
        :raises NotFound: the hub has neither a function `authorize` nor a key.
        :raises ServiceUnavailable: the presence store cannot be reached.
        :raises RuntimeError: the hub is in several apps, and there is no app context.
        """
        notice = app_arguments.disconnection(subject, subscriber)
        services = self._services()
        presence = services.require_presence()
        if _is_served(services.hub):
            presence.broadcast(notice)
        else:
            log_writers.run(services.hub, lambda writer: writer.presence.broadcast(notice))

    def _append(self, drafts: list[Draft]) -> list[Event]:
        services = self._services()
        for draft in drafts:
            for topic in draft.topics:
                if is_reserved(topic):
                    raise reserved_topic(topic)
        check_limits(drafts, services.settings)
        hub = services.hub
        if has_request_context():
            return hub.publish(drafts)
        if hub.has_started:
            return hub.broker.append(drafts)
        return log_writers.run(hub, lambda writer: writer.broker.append(drafts))

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
        if has_request_context():
            app_server.begin(app, partial(self._build, app.extensions["tidings"].settings))
        services: Services = app.extensions["tidings"]
        _check_memory(services)
        return services


def _is_served(hub: Hub) -> bool:
    return hub.has_started or has_request_context()


def _list_topics(hub: Hub, *asked: Any) -> list[ListedTopic]:
    hub.start()
    return list_all(hub.reader, *asked)


def _check_memory(services: Services) -> None:
    """Refuse to publish into the memory of a process that serves nobody."""
    in_memory = services.settings.broker_url.startswith("memory:")
    if in_memory and not (has_request_context() or services.hub.has_started):
        detail = "Nobody can subscribe to memory:// of this process, which serves no requests."
        remedy = "Set TIDINGS_BROKER_URL to an event log that all processes share, such as a file."
        raise Misconfigured(detail, remedy)


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


def _blueprint(settings: Settings, begin: Callable[[], None], *, at_root: bool) -> Blueprint:
    """Return all views of a hub, with error handlers and hooks for them alone.

    :param begin: called before each request.
    :param at_root: whether its paths are those of the app.
    """
    blueprint = Blueprint(app_check.BLUEPRINT, __name__)
    own = [module.bp for module in (*VIEWS, presence)]
    for it in own:
        blueprint.register_blueprint(it)
    if at_root:  # the app has a page and static files of its own
        blueprint.register_blueprint(static_files.bp, url_prefix=static_files.BELOW_ROOT)
    else:
        blueprint.register_blueprint(static_files.bp)
        blueprint.register_blueprint(live_page.bp)
    # Called before the app's own hooks.
    blueprint.url_value_preprocessor(lambda *_: csrf.exempt(own))
    blueprint.before_request(begin)
    if settings.trusted_proxies:
        blueprint.before_request(partial(_see_client, settings.trusted_proxies))
    error_handlers.init_blueprint(blueprint)
    blueprint.after_request(page.set_nosniff)
    if settings.cors_origins:
        origins.allow_reading(blueprint, settings.cors_origins)
    return blueprint


def _see_client(proxies: int) -> None:
    """See the client's address and scheme instead of its proxy's, and the path that a proxy has
    removed, for the hub's views only.
    """
    seen = _request()
    seen.root_path = client_address.prefix(seen.environ, proxies) or seen.root_path
    seen.remote_addr, seen.scheme = client_address.before(seen.environ, proxies)
