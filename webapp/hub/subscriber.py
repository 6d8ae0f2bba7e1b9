"""The life of one reader: open, catch up, park at the head, be woken, say goodbye."""

from __future__ import annotations

import random
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING
from uuid import uuid4

from ..core import control_events, sse
from ..errors import ServiceUnavailable
from ..scheduling import yield_to_loop
from .deadlines import Deadlines
from .read_queue import Left, Reading
from .seat import Seat, deliver
from .socket_protocol import nonblocking_send

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..auth.authorizer import Grant
    from ..brokers.base import Gap
    from ..core.events import Event, EventId
    from ..core.sse import Payload
    from .feeds import Feed
    from .hub import Hub
    from .socket_protocol import SubscriberSocket

_ANNOUNCED = 64 << 10  # bytes of what is in no log, at once
_RETRY = 5  # seconds between two looks at a log that is away, jittered
_HEARTBEAT = sse.Payload(sse.HEARTBEAT)


class Subscriber(Seat):
    """One open stream.

    :param position: where it begins; what lies after it is sent.
    :param lost: why events before `position` cannot be sent: `aged` or `unknown`. None if all
        can.
    :param grant: what the reader's token says, and until when.
    """

    # There may be thousands.
    __slots__ = (
        "_caught_up",
        "_connection",
        "_expiring",
        "_gap",
        "_hub",
        "_reading",
        "client",
        "grant",
        "life",
        "lost",
        "name",
        "reason",
        "transient_position",
    )

    def __init__(
        self, hub: Hub, feed: Feed, position: EventId, *, lost: str | None, grant: Grant
    ) -> None:
        super().__init__(feed, position)
        self.client = ""  # whose stream it is, as far as limits ask
        # All transient events up to here were sent to it.
        self.transient_position = hub.fanout.transient.head
        self.name = f"urn:uuid:{uuid4()}" if hub.presence else ""
        self.reason: str | None = None
        self._hub = hub
        self.lost = lost
        self.grant = grant
        self._connection: SubscriberSocket | None = None
        self._gap: Gap | None = None  # in the log, that it was not told of
        self.life = Deadlines(hub.settings.max_age, grant.expires)
        self._expiring = False  # it is to be told so
        self._caught_up = False
        self._reading: Reading | None = None  # what it reads of the past, while it does

    def frames(self, connection: SubscriberSocket | None = None) -> Iterator[bytes]:
        """Yield all that the reader is sent, until one of the reasons of `end`.

        :param connection: the reader's socket, where the server hands it over: events go straight
            to it, and a hang-up is seen at once, not only when the next write fails.
        """
        opened = time.monotonic()
        self._connection = connection
        self.chunked, self.send, self.sock = nonblocking_send(connection)
        self._hub.join(self)
        try:
            self._hub.journal.opened(self)
            yield self._opening()
            with connection.on_hangup(self._left) if connection else nullcontext():
                while self.reason is None:
                    if frame := self._noticed():
                        yield frame
                    elif frames := self._missed():
                        yield from frames
                    elif frame := self._awaited():
                        yield frame
            if self.reason not in {"client_left", "too_slow", "error"}:
                yield self._farewell(self.reason)
        except (GeneratorExit, BrokenPipeError):
            self._left()  # the server gave up writing, or this did
            raise
        finally:
            self._hub.leave(self)
            self._hub.journal.ended(self, time.monotonic() - opened, self.sent)

    def end(self, reason: str) -> None:
        """End the stream soon.

        :param reason: `client_left`, `drain`, `max_age`, `token_expired`, `too_slow`, `kicked` or
            `error`; the first one counts.
        """
        self.reason = self.reason or reason
        self.wakeup.set()
        if self._reading:
            self._reading.cancel()

    def lose(self, gap: Gap) -> None:
        """Tell the reader, wherever it is, that the log goes on after a gap."""
        self._gap = gap
        self.feed.forget_blank()
        self.wake()

    def tell(self, payload: Payload, upto: EventId) -> None:
        """Hand a parked reader its part of what is in no log, which may be nothing."""
        if self.parked:
            self.transient_position = upto
            if payload.raw:
                self._keep_up()
                deliver([self], payload, self.cursor, self.last_id_sent, 0)

    def look_again(self) -> None:
        """Wake a parked reader to look for what it was not given."""
        self._keep_up()
        self.wake()

    def beat(self) -> None:
        """Give a parked reader a heartbeat."""
        if self.parked:
            self._keep_up()
            deliver([self], _HEARTBEAT, self.cursor, self.last_id_sent, 0)

    def park(self) -> None:
        """Be handed what comes, from this instant."""
        self.parked = True
        self.feed.parked.add(self)

    def unpark(self) -> None:
        """Be handed nothing more."""
        self.parked = False
        self.feed.parked.discard(self)

    def wake(self) -> None:
        """Be handed nothing more, and look for it."""
        self.unpark()
        self.wakeup.set()

    def _keep_up(self) -> None:
        # While it was parked it was given all that it sees of what was handed out.
        self.cursor = max(self.cursor, self.feed.late_from or self._hub.fanout.dispatched_up_to)

    def _left(self) -> None:
        timed_out = self._connection is not None and self._connection.write_timed_out
        self.end("too_slow" if timed_out else "client_left")

    def _noticed(self) -> bytes:
        if not self._expiring or self.grant.expires is None:
            return b""
        self._expiring = False
        self.last_id_sent = self.cursor
        return self._said("hub.expiring", expires=round(self.grant.expires))

    def _missed(self) -> Iterable[bytes]:
        """Return more of what was missed; nothing means that the head is reached, this instant, or
        that the stream is to end.
        """
        began = time.monotonic()
        self._reading = self._reading or Reading(self.client)
        while self.reason is None:
            try:
                frames = self._looked(self._reading, began)
            except ServiceUnavailable:
                return [self._patience()]
            except Left:
                break
            if frames is not None:
                return frames
        return ()

    def _looked(self, reading: Reading, began: float) -> Iterable[bytes] | None:
        """Return what follows the cursor, as `_missed`; None: look again."""
        found = self._hub.history.look(self.feed, reading, self.cursor)
        if gap := self._gap or found.gap:
            self._gap = None
            self.cursor = self.last_id_sent = gap.position
            return [self._said("hub.reset", reason=gap.reason)]
        self.cursor = found.upto
        if not found.more:
            return self._at_head()
        yield_to_loop()  # a fast reader never blocks: let the others have their turn
        if found.seen:
            return self._replayed(found.seen)
        # What lies behind need not be looked through again.
        long = time.monotonic() - began >= self._hub.settings.heartbeat
        return [self._marked()] if long else None

    def _at_head(self) -> Iterable[bytes] | None:
        if self._misses_announced():
            # To match them may yield to the loop, and then it is not the head any more.
            frames = self._announced()
            return [frames] if frames else None
        return self._renewed()

    def _replayed(self, seen: list[Event]) -> Iterable[bytes]:
        self.last_id_sent = seen[-1].position
        self.sent += len(seen)
        replay = self._hub.history.replays.replay(self.client, self.feed, seen)
        self._hub.metrics.delivered(len(seen), replay.size)
        return replay

    def _patience(self) -> bytes:
        """Wait for a log that is away; the reader stays, and sees that somebody is there."""
        longest = min(self._hub.settings.heartbeat, _RETRY)
        self.wakeup.wait(random.uniform(0.5, 1) * longest)  # noqa: S311 - no secret
        self.wakeup.clear()
        return sse.HEARTBEAT

    def _misses_announced(self) -> bool:
        return (
            self.feed.wants_presence and self.transient_position < self._hub.fanout.transient.head
        )

    def _announced(self) -> bytes:
        """Return what is in no log and was not given to it."""
        transient = self._hub.fanout.transient
        while self._misses_announced():
            if self.transient_position < transient.floor:
                self.transient_position = transient.head
                return self._said("hub.reset", reason="presence")
            events = transient.after(self.transient_position, _ANNOUNCED)
            self.transient_position = events[-1].position
            if frames := self.feed.frames(filter(self.feed.matches, events), {}):
                return frames
        return b""

    def _renewed(self) -> Iterable[bytes]:
        return () if self.last_id_sent >= self._hub.fanout.stale_before else [self._marked()]

    def _marked(self) -> bytes:
        self.last_id_sent = self.cursor
        return self._said("hub.mark")

    def _awaited(self) -> bytes:
        """Park until there is something to do; return what the dispatcher gave to be yielded."""
        if self.reason is not None:
            return b""
        # Nothing may yield to the loop between the empty page above and this line.
        self.park()
        self._reading = None
        if not self._caught_up:
            self._caught_up = True
            self._hub.metrics.replay_done(self.sent)
        self.wakeup.wait()
        self.wakeup.clear()
        if self.parked:  # it is to end
            self.unpark()
            self._keep_up()
        rest, self.rest = self.rest, b""
        if self._connection is None or not rest:
            return bytes(rest)
        self._connection.sendall(rest)  # the end of a chunk that was begun
        return b""

    def keep_time(self, now: float) -> None:
        """End the stream if it is too old, or its token, at a monotonic time; tell it before."""
        if self.life.ends_soon(now):
            self._expiring = True
            self.wakeup.set()
        if reason := self.life.over(now):
            self.end(reason)

    def _opening(self) -> bytes:
        about: dict[str, object] = {
            "topics": sorted(self.feed.selectors),
            "replay": self._hub.history.count(self.feed, self.cursor),
        }
        if self.name:
            about["subscriber"] = self.name
        return control_events.open_event(about, self.cursor, self.lost, self._hub.settings.retry)

    def _farewell(self, reason: str) -> bytes:
        settings = self._hub.settings
        spread = settings.drain if reason == "drain" else 0
        return control_events.bye_event(reason, self.cursor, settings.retry, spread)

    def _said(self, name: str, **about: object) -> bytes:
        return control_events.control_event(name, about, self.cursor)
