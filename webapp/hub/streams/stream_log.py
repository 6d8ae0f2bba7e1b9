"""What operators read about streams: a line when one opens and a line when it ends, as logfmt."""

from __future__ import annotations

import logging
from time import monotonic, time
from typing import TYPE_CHECKING

from ...core.escaping import escape
from ..observer import Observer

if TYPE_CHECKING:
    from ..delivery.subscriber import Subscriber

logger = logging.getLogger(__name__)

_MAX_TOPICS = 5  # named in a line; more are counted


class StreamLog(Observer):
    """Writes the lines about streams."""

    def __init__(self) -> None:
        fields = {"name": logger.name, "levelno": logging.INFO, "levelname": "INFO"}
        self._fields = vars(logging.makeLogRecord(fields))  # of each record

    def opened(self, subscriber: Subscriber) -> None:
        """Log that a stream opens, and from which position."""
        if logger.isEnabledFor(logging.INFO):
            self._log(f"stream opened: {_description(subscriber)} from={subscriber.cursor}")

    def closed(self, subscriber: Subscriber) -> None:
        """Log that a stream has ended: why, after how long, and how many events it was sent."""
        if logger.isEnabledFor(logging.INFO):
            seconds = monotonic() - subscriber.opened_at
            reason = f"reason={subscriber.reason or 'error'} seconds={seconds:.1f}"
            events = f"events={subscriber.events_sent}"
            self._log(f"stream ended: {reason} {events} {_description(subscriber)}")

    def _log(self, message: str) -> None:
        # `logger.info` also finds out from where it is called, which takes most of its time.
        record = logging.LogRecord.__new__(logging.LogRecord)
        vars(record).update(self._fields)
        record.msg, record.created = message, time()
        record.msecs = record.created % 1 * 1000
        logger.handle(record)


def _description(subscriber: Subscriber) -> str:
    """Return the client, subject and topics of a subscriber, without line breaks and control
    characters, whatever the client sent.
    """
    topics = sorted(subscriber.patterns)
    names = ",".join([escape(topic) for topic in topics[:_MAX_TOPICS]])
    more = f" more_topics={len(topics) - _MAX_TOPICS}" if len(topics) > _MAX_TOPICS else ""
    sub = subscriber.grant.subject
    subject = f" sub={escape(sub)}" if sub else ""
    if subscriber.grant.ignored:
        subject = f" ignored_token={subscriber.grant.ignored}"
    return f"client={escape(subscriber.client) or '-'}{subject} topics={names}{more}"
