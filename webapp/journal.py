"""What operators read of a stream: one line when it opens and one when it ends, as logfmt."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from webapp.subscription import Subscription

log = logging.getLogger(__name__)

_TOPICS = 5  # named in a line; more are counted
_LONG = 100  # characters of a name
_PLAIN = "/:@{}*!$&()+;?#[]~'"  # beside letters and digits, as they are; no space, no comma


def opened(reader: Subscription) -> None:
    """Note that a stream opens, and from where in the log."""
    if log.isEnabledFor(logging.INFO):
        _note(f"stream opened: {_who(reader)} from={reader.cursor}")


def ended(reader: Subscription, seconds: float, events: int) -> None:
    """Note that a stream has ended: why, after how long, and how many events it was sent."""
    if log.isEnabledFor(logging.INFO):
        why = f"reason={reader.reason or 'error'} seconds={seconds:.1f} events={events}"
        _note(f"stream ended: {why} {_who(reader)}")


def _who(reader: Subscription) -> str:
    """Return who reads what, on one line and safe whatever the client made up."""
    topics = sorted(reader.feed.selectors)
    names = ",".join([_safe(topic) for topic in topics[:_TOPICS]])
    more = f" more_topics={len(topics) - _TOPICS}" if len(topics) > _TOPICS else ""
    subject = f" sub={_safe(reader.grant.subject)}" if reader.grant.subject else ""
    return f"client={_safe(reader.client) or '-'}{subject} topics={names}{more}"


@lru_cache(maxsize=256)
def _safe(text: str) -> str:
    return quote(text if len(text) <= _LONG else f"{text[:_LONG]}…", safe=_PLAIN)


def _note(line: str) -> None:
    # As log.info, without a look at who calls, which a storm of readers would pay for.
    log.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, line, (), None))
