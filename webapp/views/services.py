"""The hub, the authorizer, presence and the quotas of an app, which its views share.

Each app has its own, so that a process can hold several.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from flask.globals import request_ctx

from ..errors import NotFound
from .quotas import PipeQuota, UnfinishedQuota
from .rate_limit import Rate
from .refusal_log import RefusalLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed.wsgi import WSGIEnvironment
    from flask import Request

    from ..auth.authorizer import Authorizer
    from ..hub.hub import Hub
    from ..hub.streams.stream import Stream
    from ..presence.service import Presence

T = TypeVar("T")

NO_PRESENCE = (
    "Presence needs a key, and this hub has none.",
    "Set TIDINGS_JWT_KEY, or give Tidings a function authorize where it is in an app.",
)


class Services:
    """The hub of an app, who may use it, and how much of it: `app.extensions["tidings"]`.

    :param presence: None where the hub has no key, and no app's login: then nobody may see who is
        connected.
    """

    url_prefix = ""
    """The path below which an app has its hub."""
    knows_server = False
    """Whether the hub of an app knows what its server can hold."""

    def __init__(self, hub: Hub, authorizer: Authorizer, presence: Presence | None = None) -> None:
        self.settings = settings = hub.settings
        self.hub = hub
        self.authorizer = authorizer
        self.presence = presence
        self.log_probe = hub.log_probe
        self.refusal_log = RefusalLog(hub.sampler.refusals)
        self.publish_rate = Rate(settings.publish_rate)
        self.pipes = PipeQuota(settings.max_pipes or 0, settings.max_pipes_per_publisher)
        self.unfinished_bodies = UnfinishedQuota(settings.max_body_bytes)

    @property
    def is_at_root(self) -> bool:
        """Whether an app has the hub at its root, where its own page and static files are."""
        return self.settings.embedded and not self.url_prefix

    def frames(self, stream: Stream, environ: WSGIEnvironment) -> Iterator[bytes]:
        """Begin a stream, and return what the server sends.

        :raises ServiceUnavailable: the server cannot hold another one.
        """
        return stream.frames(environ.get("tidings.connection"))

    def call(self, function: Callable[..., T], *values: Any, **options: Any) -> T:
        """Return what a function returns whose first argument is the hub. It is called where the
        hub runs, which may be another thread.
        """
        return function(self.hub, *values, **options)

    def require_presence(self) -> Presence:
        """Return the list of connected subscribers.

        :raises NotFound: the hub has no key, so it has no such list.
        """
        if self.presence is None:
            raise NotFound(*NO_PRESENCE)
        return self.presence


def current() -> tuple[Request, Services]:
    """Return the current request, and the services of the app that serves it.

    Flask's proxies are passed once: each use of one costs half a microsecond.
    """
    proxy: Any = request_ctx
    context = proxy._get_current_object()  # noqa: SLF001 - public, as Flask documents it
    return context.request, context.app.extensions["tidings"]


def current_services() -> Services:
    """Return the services of the app that serves the current request."""
    return current()[1]
