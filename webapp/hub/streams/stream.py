"""The stream of one subscriber: all that it is sent, from `hub.open` to `hub.bye`.

    OPENING ---> CATCHING_UP <---> PARKED
       |              |              |
       +--------------+--------------+---> ENDING

- OPENING: the stream is registered, and `hub.open` is sent.
- CATCHING_UP: the stream is sent its snapshot if it asked for one; then it reads the event log from
  its cursor on, page by page.
- PARKED: it has sent everything, and the fan-out writes new events to its socket. It catches up
  again when the socket did not take all of them, and when there is something else to send.
- ENDING: `reason` is set. `hub.bye` is sent, unless the client left or was cut off. From any state,
  a write that fails ends the stream at once.

A stream without control events sends `retry:` and `id:` instead of `hub.open`, and `retry:` instead
of `hub.bye`. It cannot say that events are missing, so it then ends.

The stream parks in the method that found nothing more to read (`_read_on`, `_reached_head`).
Nothing between the two may yield to the event loop: an event that was published meanwhile would
never be sent.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from ...backoff import jitter
from ...core import control_events, sse
from ...core.events import EventId
from ...errors import ServiceUnavailable
from ...scheduling import yield_to_loop
from ..delivery.removals import AFTER_ALL
from ..read_queue import Reading, ReadingCancelled
from ..socket_protocol import PARKED, LastFrame
from .socket_stream import SocketStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ...auth.authorizer import Grant
    from ...core.events import Event
    from ..delivery.feeds import Feed
    from ..reads.snapshot import Snapshot
    from ..reads.start import Start
    from ..socket_protocol import Keeper, SubscriberSocket
    from .stream_context import StreamContext

_BEFORE_ALL = EventId(0, 0)
_RETRY_INTERVAL_S = 5  # between two reads of an unavailable event log at most, jittered


class Stream(SocketStream):
    """What is sent to one subscriber."""

    __slots__ = ("_replayed", "latest", "looked_for")

    def __init__(
        self,
        context: StreamContext,
        feed: Feed,
        grant: Grant,
        position: EventId,
        reset_reason: str | None = None,
    ) -> None:
        super().__init__(context, feed, grant, position, reset_reason)
        self.latest = False
        """Whether it is sent a snapshot wherever events are missing."""
        self.looked_for: EventId | None = None
        """The newest end that was known when its topics were looked up last."""
        self._replayed = False  # whether it has reached the head once

    def begin(self, start: Start, client: str) -> None:
        """Begin as its client asked for.

        :param client: the name under which limits count it.
        """
        self.client = client
        self.latest = start.latest
        if start.latest and (self.reset_reason or start.cursor is None):
            self.begin_snapshot()
        self.transient_position = self._context.transient.begin(self.feed, start)

    def frames(self, socket: SubscriberSocket | None = None) -> Iterator[bytes]:
        """Yield all that the client is sent.

        While the stream is parked this waits, or yields `PARKED` if the socket has a `wakeup`; see
        `socket_protocol`.

        :param socket: the client's socket, if the server has one. Events are then written to
            it directly, and a disconnect ends the stream at once, not when a write fails.
        """
        keeper = self._attach(socket)
        # Not a context manager, which would take a hundred bytes for each parked subscriber.
        self._context.register(self)
        try:
            yield self._encoded(self._open_event())
            with socket.on_hangup(self._on_disconnect) if socket else nullcontext():
                while self.reason is None:
                    if frame := self._expiry_warning():
                        yield self._encoded(frame)
                    elif frames := self._catch_up():
                        frames = map(self.gzip.part, frames) if self.gzip else frames
                        yield from self._until_removed(frames)
                    elif self.parked:
                        if keeper is None:
                            self._wait()
                        else:
                            keeper.keeps_stream = False
                            yield PARKED
                            if not keeper.keeps_stream:
                                keeper = None
                                self._detach()
                        if frame := self._unpark():
                            yield frame  # it is encoded already
            self._await_turn(keeper)
            if frame := self._last_frame():
                yield LastFrame(frame)
        except (GeneratorExit, BrokenPipeError):
            self._on_disconnect()  # the server gave up writing, or `_unpark` did
            raise
        finally:
            self._end_snapshot()
            self._context.unregister(self)

    def _await_turn(self, keeper: Keeper | None) -> None:
        """Let a few streams end in each turn of the loop, unless the keeper of this one does."""
        if keeper is None or not keeper.keeps_stream:
            self._context.turns.wait()

    def _until_removed(self, frames: Iterable[bytes]) -> Iterator[bytes]:
        for frame in frames:
            yield frame
            if self.reason == "removed":  # what follows may have been
                return

    # CATCHING_UP

    def _catch_up(self) -> Iterable[bytes]:
        """Return the next frames, or none: then the stream is parked, or is to end."""
        since = time.monotonic()
        self.reading = self.reading or Reading(self.client)
        try:
            while self.reason is None and not self.parked:
                try:
                    frames = self._read_on(self.reading, since)
                except ServiceUnavailable:
                    frames = [self._wait_for_log(self.reading)]
                if frames:
                    return frames
        except ReadingCancelled:  # `reason` says why
            return ()
        return ()

    def _read_on(self, reading: Reading, since: float) -> Iterable[bytes]:
        """Read the next page; return what of it the subscriber is sent, which may be nothing. Park
        where nothing follows.
        """
        if self.snapshot and not self.gap:
            return self._read_snapshot(self.snapshot, reading, since)
        after, removals = self.cursor, self._context.fanout.removals
        count, self.sending = removals.count, None
        found = self._context.history.look(self.feed, reading, after)
        if gap := self.gap or found.gap:
            self.gap = None
            self.cursor = gap.position
            if self.latest:
                self.begin_snapshot()
            self._note_id()
            return self._reset(gap.reason)
        self.cursor = found.upto
        if not found.more:
            return () if self._look_for_end(reading) else self._reached_head()
        yield_to_loop()  # writing to a fast client never waits
        if removals.touch(count, after, found.upto):
            self.cursor = after
            return ()
        if found.seen:
            self.sending = after, found.upto
            return self._replay(found.seen)
        # Where nothing was found for a long time, tell the client how far the search is.
        return [self._mark()] if self._is_long(since) else ()

    def _look_for_end(self, reading: Reading) -> bool:
        """End the stream if all its topics have ended. Returns whether it looked, which yields to
        the loop: then the head may have moved.
        """
        ends, newest = self._context.ends, self.feed.newest_end
        if not self._replayed:  # there may be one that its feed was not sent
            newest = ends.newest if ends.may_end(self.feed) else None
        if newest is None or newest == self.looked_for or newest > self.cursor:
            return False
        ended_at = ends.shared_end_of(self.feed, reading)
        self.looked_for = newest
        if ended_at and ended_at <= self.cursor:
            self.end("ended")
        return True

    def begin_snapshot(self) -> None:
        """Send a snapshot next, and then what follows it."""
        self._end_snapshot()
        self.snapshot = self._context.snapshots.begin(self.feed)

    def _end_snapshot(self) -> None:
        if self.snapshot:
            self.snapshot.close()
            self.snapshot = None

    def _read_snapshot(self, snapshot: Snapshot, reading: Reading, since: float) -> Iterable[bytes]:
        """Read on in a snapshot; return what of it the subscriber is sent, which may be nothing.
        Only its last frame has an id.
        """
        removals = self._context.fanout.removals
        count = removals.count
        events = snapshot.read(reading)
        self.feed.note_ends(events)
        yield_to_loop()
        events = removals.without(count, events)
        self.sending = _BEFORE_ALL, AFTER_ALL
        self.events_sent += len(events)
        replays, position = self._context.replays, snapshot.position
        if not snapshot.ended or position is None:
            if events:
                return replays.snapshot(self.client, self.feed, events, None)
            return [sse.HEARTBEAT] if self._is_long(since) else ()
        self._end_snapshot()
        self.cursor = self.last_id_sent = position
        if events:
            return replays.snapshot(self.client, self.feed, events, position)
        return [self._mark() if self.feed.form.control else control_events.id_field(position)]

    def _is_long(self, since: float) -> bool:
        return time.monotonic() - since >= self._context.settings.heartbeat

    def _reached_head(self) -> Iterable[bytes]:
        """Park, or return what has to be sent before."""
        if self._context.transient.misses(self, self.feed):
            # This may yield to the loop, and then the head may have moved.
            return self._missed_transient()
        if self.feed.form.control and self.last_id_sent < self._context.fanout.stale_before:
            return [self._mark()]
        if self.reason is None:
            self._park()
        return ()

    def _park(self) -> None:
        self.feed.park(self)
        self.reading = self.unsent_frame = self.sending = None
        if not self._replayed:
            self._replayed = True
            self._note_caught_up()

    def _note_caught_up(self) -> None:
        if self.feed.is_counted:
            self._context.metrics.replay_events.note(self.events_sent)

    def _replay(self, seen: list[Event]) -> Iterable[bytes]:
        self.last_id_sent = seen[-1].position
        self.events_sent += len(seen)
        self.feed.note_ends(seen)
        replay = self._context.replays.replay(self.client, self.feed, seen)
        if self.feed.is_counted:
            self._context.metrics.delivered.add(len(seen))
            self._context.metrics.delivered_bytes.add(replay.size)
        return replay

    def _missed_transient(self) -> Iterable[bytes]:
        missed = self._context.transient.next_missed(self, self.feed)
        if missed is None:
            return self._reset("presence")
        return [missed] if missed else ()

    def _wait_for_log(self, reading: Reading) -> bytes:
        """Wait before the next try; return what shows the client that the hub is there."""
        longest = min(self._context.settings.heartbeat, _RETRY_INTERVAL_S)
        reading.wait(jitter(0.5, 1) * longest)
        return sse.HEARTBEAT
