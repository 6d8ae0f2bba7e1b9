"""What operators read of a stream: one line when it opens and one when it ends, as logfmt."""

from __future__ import annotations

import logging
from copy import copy
from functools import lru_cache
from time import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..tasks import Skipping

if TYPE_CHECKING:
    from ..core.events import EventId
    from .subscriber import Subscriber

logger = logging.getLogger(__name__)

_TOPICS = 5  # named in a line; more are counted
_LONG = 100  # characters of a name
_PLAIN = "/:@{}*!$&()+;?#[]~'"  # beside letters and digits, as they are; no space, no comma
_TOGETHER = 100  # lines
_SKIPPING = Skipping("stream_log")


class StreamLog:
    """The lines about streams. Those of streams that open are formatted and written some together,
    at a fraction of what each would cost by itself: a storm of readers would pay for it.
    """

    def __init__(self) -> None:
        self._opened: list[tuple[float, Subscriber, EventId]] = []

    def opened(self, subscriber: Subscriber) -> None:
        """Note that a stream opens, and from where in the log; it is written by `flush`."""
        if logger.isEnabledFor(logging.INFO):
            self._opened.append((time(), subscriber, subscriber.cursor))
            if len(self._opened) >= _TOGETHER:
                self.flush()

    def ended(self, subscriber: Subscriber, seconds: float, events: int) -> None:
        """Write that a stream has ended: why, after how long, and how many events it was sent."""
        self.flush()
        if logger.isEnabledFor(logging.INFO):
            why = f"reason={subscriber.reason or 'error'} seconds={seconds:.1f} events={events}"
            with _SKIPPING:
                _write([(time(), f"stream ended: {why} {_who(subscriber)}")])

    def flush(self) -> None:
        """Write what is waiting, with the time at which it was noted."""
        if opened := self._opened:
            self._opened, lines = [], list[tuple[float, str]]()
            for at, subscriber, position in opened:
                with _SKIPPING:
                    lines.append((at, f"stream opened: {_who(subscriber)} from={position}"))
            _write(lines)


def _who(subscriber: Subscriber) -> str:
    """Return who reads what, on one line and safe whatever the client made up."""
    topics = sorted(subscriber.feed.selectors)
    names = ",".join([_safe(topic) for topic in topics[:_TOPICS]])
    more = f" more_topics={len(topics) - _TOPICS}" if len(topics) > _TOPICS else ""
    subject = f" sub={_safe(subscriber.grant.subject)}" if subscriber.grant.subject else ""
    return f"client={_safe(subscriber.client) or '-'}{subject} topics={names}{more}"


@lru_cache(maxsize=256)
def _safe(text: str) -> str:
    # A claim of a token may hold half a surrogate pair.
    short = text if len(text) <= _LONG else f"{text[:_LONG]}…"
    return quote(short, safe=_PLAIN, errors="replace")


def _write(lines: list[tuple[float, str]]) -> None:
    """Log some lines at once, which `Lines` takes apart, without asking who calls."""
    text = "\n".join([line for _, line in lines])
    record = logger.makeRecord(logger.name, logging.INFO, "", 0, text, (), None)
    record.lines = lines
    logger.handle(record)


class Lines(logging.Formatter):
    """Formats what is several lines at once as if each had been logged when it was noted.

    :param inner: formats one of them, and everything else.
    """

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        lines = getattr(record, "lines", None)
        if lines is None:
            return self._inner.format(record)
        texts, each = [], copy(record)  # other handlers get it as it is
        for each.created, each.msg in lines:
            each.msecs = each.created % 1 * 1000
            texts.append(self._inner.format(each))
        return "\n".join(texts)
