"""Match events for the feeds that have URI templates, apart from those that name their topics.

To match a template takes a thousand times as long as to look a topic up, and anybody may ask for
many. So the dispatcher matches a batch for such feeds after all others have been sent theirs, for
a short time. What it does not come to is matched here, feed by feed, in small steps that leave half
of the time to others. Such a feed is late: `Feed.late_from` is its own position in the window.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Protocol

from gevent.event import Event as Signal
from gevent.lock import RLock

from ..scheduling import BackgroundSlice, TimeSlice
from ..tasks import skip

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..core.events import Event, EventId
    from ..core.window import Window
    from .feeds import Feed, FeedIndex

_BATCH_S = 0.002  # that the dispatcher matches templates for one batch
_EVENT_S = 0.00001  # more of it for each event
_EVENT_WORK = 300  # as `Feed.work` has it, the most that one event may take there: two milliseconds
_PAGE_BYTES = 8 << 10  # of the window, for a step


class Sender(Protocol):
    """What the dispatcher does for a feed."""

    def send_part(
        self,
        feed: Feed,
        events: Sequence[Event],
        upto: EventId,
        pace: TimeSlice,
        made: dict[EventId, bytes],
    ) -> None:
        """Send its subscribers events that they see, which are all up to a position."""

    def leave_to_streams(self, feeds: Iterable[Feed], upto: EventId) -> None:
        """Let its subscribers read the events up to a position themselves."""

    def refresh_late(self, feed: Feed, since: EventId, position: EventId) -> None:
        """Give its subscribers the fresh cursor that they missed since a position."""


class LateFeeds:
    """The feeds that have not been sent all that the dispatcher has sent to others."""

    def __init__(self, window: Window, feeds: FeedIndex, sender: Sender) -> None:
        self.step = RLock()
        """Held during a step: nobody else may move the positions back meanwhile."""
        self._window = window
        self._feeds = feeds
        self._sender = sender
        # In turn, with the position at which each became late.
        self._since: dict[Feed, EventId] = {}
        self._arrived = Signal()

    def take(self, batch: Sequence[Event], after: EventId) -> None:
        """Send the feeds with templates their part of a batch, as far as a short time goes.

        :param after: the position before the batch.
        """
        parts: dict[Feed, list[Event]] = {}
        pace = TimeSlice()
        for event in batch:
            for feed in self._feeds.with_templates(event.draft.topics):
                if feed.parked and feed.late_from is None:
                    parts.setdefault(feed, []).append(event)
            pace.checkpoint()
        left = _BATCH_S + len(batch) * _EVENT_S
        # Those that take the least come first: many that take long must not make others late.
        for feed in sorted(parts, key=_variables):
            began, events = monotonic(), parts[feed]
            seen, count = _matched(feed, events, began + left)
            left -= monotonic() - began
            late = count < len(events)
            upto = (events[count - 1].position if count else after) if late else batch[-1].position
            if seen:
                self._sender.send_part(feed, seen, upto, pace, {})
            if late:
                feed.late_from = self._since[feed] = upto
                self._arrived.set()
            pace.checkpoint()

    def run(self) -> None:
        """Match what is late, until it is killed."""
        while True:
            pace = BackgroundSlice()
            while self._since:
                with self.step:
                    self._step(next(iter(self._since)), pace)
                pace.checkpoint()
            self._arrived.wait()
            self._arrived.clear()

    def clear(self) -> None:
        """Forget all: the window begins again, and nobody is parked."""
        for feed in self._since:
            feed.late_from = None
        self._since.clear()

    def _step(self, feed: Feed, pace: TimeSlice) -> None:
        try:
            done = self._advance(feed, pace)
        except Exception as error:  # noqa: BLE001 - the other feeds go on
            skip("dispatch", error)
            self._sender.leave_to_streams([feed], self._window.head)
            done = True
        since = self._since.pop(feed)
        if done:  # this instant, so nothing may yield to the loop before this line
            feed.late_from = None
            self._sender.refresh_late(feed, since, self._window.head)
        else:
            self._since[feed] = since  # behind all others

    def _advance(self, feed: Feed, pace: TimeSlice) -> bool:
        """Send a feed some of what it has not been sent; return whether it now has all."""
        upto = feed.late_from
        if upto is None or not feed.parked:  # who parks later has all
            return True
        if upto < self._window.floor:
            self._sender.leave_to_streams([feed], self._window.head)
            return True
        seen: list[Event] = []
        for event in self._window.after(upto, _PAGE_BYTES):
            if feed.matches(event, pace):
                seen.append(event)
            upto = event.position
            pace.checkpoint()
        if seen:
            self._sender.send_part(feed, seen, upto, pace, {})
        feed.late_from = upto
        return upto >= self._window.head


def _variables(feed: Feed) -> int:
    return feed.variables


def _matched(feed: Feed, events: Sequence[Event], until: float) -> tuple[list[Event], int]:
    """Return which events a feed's subscribers see, and how many were looked at in time."""
    seen: list[Event] = []
    for count, event in enumerate(events):
        if feed.work(event) > _EVENT_WORK or monotonic() > until:
            return seen, count
        if feed.matches(event):
            seen.append(event)
    return seen, len(events)
