"""The path of subscriptions: of all, of one topic, or of one subscriber to a topic.

Each part of the path is percent-encoded, because topics may have slashes. Many proxies decode the
path, and merge slashes that follow each other: `%2Fusers%2F7` arrives as `users/7`.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Self
from urllib.parse import unquote

from werkzeug.routing import BaseConverter

from ..core.topics import SUBSCRIPTIONS_PATH
from ..errors import NotFound
from ..presence.documents import subscription_path

_SUBSCRIBER = "urn:uuid:"  # how the names of all subscribers begin


class PartConverter(BaseConverter):
    """A part of a URL that may have slashes, also at its ends, as Werkzeug's own has not."""

    regex = ".*?"
    part_isolating = False


class SubscriptionPath(NamedTuple):
    """What a path names. Its text is the path as listings have it, with each part encoded."""

    topic: str | None = None
    """The topic or topic pattern; None: the path names all subscriptions."""
    subscriber: str | None = None
    is_decoded: bool = False
    """Whether a proxy has decoded the path, and may have merged slashes of the topic."""

    def __str__(self) -> str:
        return subscription_path(self.topic, self.subscriber)

    @classmethod
    def parse(cls, raw_url: str) -> Self:
        """Return what the path of a URL names.

        :param raw_url: as it was sent, not decoded.
        :raises NotFound: the path is written in another way.
        """
        _, found, below = raw_url.partition("?")[0].partition(SUBSCRIPTIONS_PATH)
        first, *parts = below.split("/")
        if not found or first:
            detail = "The path has at most a topic and a subscriber, each percent-encoded."
            raise NotFound(detail, f"See the list at {SUBSCRIPTIONS_PATH}, which has their paths.")
        texts = [unquote(part) for part in parts]
        if not texts:
            return cls()
        subscriber = texts.pop() if texts[1:] and texts[-1].startswith(_SUBSCRIBER) else None
        return cls("/".join(texts), subscriber, is_decoded=len(texts) > 1 or not texts[0])

    def may_be_of(self, topic: str) -> bool:
        """Return whether a proxy may have made this path of that of a topic."""
        return _merge_slashes(topic) == _merge_slashes(self.topic or "")


def _merge_slashes(topic: str) -> str:
    return re.sub("/+", "/", f"/{topic}/")
