"""Matches events for the feeds with URI templates, or with many in their grant, after all others.

Matching a template takes a thousand times as long as looking a topic up, and any client may ask for
many templates. So the dispatcher first delivers a batch to all other feeds, and then matches it for
these, for a short time. The feeds that it does not reach are *late*. A task of its own matches for
them, feed by feed, in small steps that leave half of the time to others. `Feed.late_from` is the
position in the window that a late feed has reached.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from gevent.event import Event as Signal
from gevent.lock import RLock

from ...scheduling import BackgroundSlice, TimeSlice
from ...tasks import skip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...core.events import Event, EventId
    from ...core.window import Window
    from .fanout import FanOut
    from .feeds import Feed

_BATCH_S = 0.002  # for which the dispatcher matches templates for one batch
_EVENT_S = 0.00001  # more for each event of the batch
_EVENT_WORK = 300  # the most `Feed.work` that the dispatcher does for one event: two milliseconds
_PAGE_BYTES = 8 << 10  # of the window, matched in one step


class LateFeeds:
    """The feeds that were not sent all events up to where the dispatcher is."""

    def __init__(self, window: Window, fanout: FanOut) -> None:
        self.step = RLock()
        """Held during a step, in which positions must not be moved back."""
        self._window = window
        self._fanout = fanout
        # In the order of their turns, with the position at which each became late.
        self._since: dict[Feed, EventId] = {}
        self._arrived = Signal()

    def take(self, batch: Sequence[Event], after: EventId) -> None:
        """Send the feeds that are matched last their part of a batch, for a short time.

        :param after: the position before the batch.
        """
        parts: dict[Feed, list[Event]] = {}
        time_slice = TimeSlice()
        for event in batch:
            for feed in self._fanout.feeds.matched_last.candidates(event.draft.topics):
                if feed.parked and feed.late_from is None:
                    parts.setdefault(feed, []).append(event)
            time_slice.checkpoint()
        left = _BATCH_S + len(batch) * _EVENT_S
        # The cheapest feeds come first, so that expensive ones do not make them late.
        for feed in sorted(parts, key=lambda feed: feed.variables + feed.grant_variables):
            began, events = monotonic(), parts[feed]
            seen, count = _match(feed, events, began + left)
            left -= monotonic() - began
            late = count < len(events)
            upto = (events[count - 1].position if count else after) if late else batch[-1].position
            if seen:
                self._fanout.send(feed, seen, upto, time_slice, {})
            if late:
                feed.late_from = self._since[feed] = upto
                self._arrived.set()
            time_slice.checkpoint()

    def run(self) -> None:
        """Match events for the late feeds; never returns."""
        while True:
            time_slice = BackgroundSlice()
            while self._since:
                with self.step:
                    self._step(next(iter(self._since)), time_slice)
                time_slice.checkpoint()
            self._arrived.wait()
            self._arrived.clear()

    def clear(self) -> None:
        """Let no feed be late: the window begins again, and all subscribers are woken."""
        for feed in self._since:
            feed.late_from = None
        self._since.clear()

    def _step(self, feed: Feed, time_slice: TimeSlice) -> None:
        try:
            done = self._advance(feed, time_slice)
            self._fanout.wake_ended()
        except Exception as error:  # noqa: BLE001 - the other feeds go on
            skip("dispatch", error)
            self._fanout.leave_to_streams([feed], self._window.head)
            done = True
        since = self._since.pop(feed)
        if done:  # nothing has yielded to the loop since that was found
            feed.late_from = None
            self._fanout.refresh_late(feed, since, self._window.head)
        else:
            self._since[feed] = since  # its next turn comes after those of all others

    def _advance(self, feed: Feed, time_slice: TimeSlice) -> bool:
        """Send a feed some of what it has not been sent; return whether it now has all."""
        upto = feed.late_from
        if upto is None or not feed.parked:  # a subscriber that parks later has read all
            return True
        if upto < self._window.floor:
            self._fanout.leave_to_streams([feed], self._window.head)
            return True
        seen: list[Event] = []
        events = self._window.after(upto, _PAGE_BYTES)
        if not events:  # what follows is hidden
            upto = self._window.head
        for event in events:
            if feed.matches(event, time_slice):
                seen.append(event)
            upto = event.position
            time_slice.checkpoint()
        if seen:
            self._fanout.send(feed, seen, upto, time_slice, {})
        feed.late_from = upto
        return upto >= self._window.head


def _match(feed: Feed, events: Sequence[Event], until: float) -> tuple[list[Event], int]:
    """Return which events a feed's subscribers see, and how many were looked at in time."""
    seen: list[Event] = []
    for count, event in enumerate(events):
        if feed.work(event) > _EVENT_WORK or monotonic() > until:
            return seen, count
        if feed.matches(event):
            seen.append(event)
    return seen, len(events)
