"""What operators read about streams: a line when one opens and a line when it ends, as logfmt."""

from __future__ import annotations

import logging
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import quote

from .observer import Observer

if TYPE_CHECKING:
    from .subscriber import Subscriber

logger = logging.getLogger(__name__)

_MAX_TOPICS = 5  # named in a line; more are counted
_MAX_NAME_CHARS = 100
_UNQUOTED = "/:@{}*!$&()+;?#[]~'"  # beside letters and digits; no space, no comma


class StreamLog(Observer):
    """Writes the lines about streams."""

    def opened(self, subscriber: Subscriber) -> None:
        """Log that a stream opens, and from which position."""
        logger.info("stream opened: %s from=%s", _Description(subscriber), subscriber.cursor)

    def closed(self, subscriber: Subscriber) -> None:
        """Log that a stream has ended: why, after how long, and how many events it was sent."""
        logger.info(
            "stream ended: reason=%s seconds=%.1f events=%s %s",
            subscriber.reason or "error",
            monotonic() - subscriber.opened_at,
            subscriber.events_sent,
            _Description(subscriber),
        )


class _Description:
    """The client, subject and topics of a subscriber. The text is formatted only when a line is
    written. It has no line breaks and no control characters, whatever the client sent.
    """

    __slots__ = ("_subscriber",)

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber

    def __str__(self) -> str:
        topics = sorted(self._subscriber.selectors)
        names = ",".join([_safe(topic) for topic in topics[:_MAX_TOPICS]])
        more = f" more_topics={len(topics) - _MAX_TOPICS}" if len(topics) > _MAX_TOPICS else ""
        sub = self._subscriber.grant.subject
        subject = f" sub={_safe(sub)}" if sub else ""
        return f"client={_safe(self._subscriber.client) or '-'}{subject} topics={names}{more}"


@lru_cache(maxsize=256)
def _safe(text: str) -> str:
    # A claim of a token may hold half a surrogate pair.
    short = text if len(text) <= _MAX_NAME_CHARS else f"{text[:_MAX_NAME_CHARS]}…"
    return quote(short, safe=_UNQUOTED, errors="replace")
