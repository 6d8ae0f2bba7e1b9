"""The life of one reader: open, catch up, park at the head, be woken, say goodbye."""

from __future__ import annotations

import json
import logging
import random
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from gevent.event import Event as Signal

from webapp import wire
from webapp.errors import Unavailable
from webapp.pace import Pace, give_way

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from webapp.auth import Grant
    from webapp.brokers.base import Gap
    from webapp.events import EventId
    from webapp.feeds import Feed
    from webapp.hub import Hub
    from webapp.peer import Buffer, Peer
    from webapp.wire import Payload

log = logging.getLogger(__name__)

_NEVER = float("inf")
_NOTICE = 60  # seconds before a token's end
_RETRY = 5  # seconds between two looks at a log that is away, jittered

_HEARTBEAT = wire.Payload(wire.HEARTBEAT)

VERSION = "0.1.0"


class Subscription:
    """One open stream.

    :param place: where it begins; what lies after it is sent.
    :param lost: why events before `place` cannot be sent (`aged`, `unknown`); None: none are lost.
    :param grant: what the reader's token says, and until when.
    """

    # There may be thousands.
    __slots__ = (
        "_connection",
        "_deadline",
        "_expiring",
        "_gap",
        "_given",
        "_hub",
        "_notice",
        "_rest",
        "_sent",
        "_woken",
        "client",
        "cursor",
        "feed",
        "grant",
        "lost",
        "reason",
        "told",
    )

    def __init__(
        self, hub: Hub, feed: Feed, place: EventId, *, lost: str | None, grant: Grant
    ) -> None:
        self.feed = feed
        self.client = ""  # whose stream it is, as far as limits ask
        self.cursor = place  # all that it sees up to here was given to it
        self.told = place  # the newest id that it knows
        self.reason: str | None = None
        self._hub = hub
        self.lost = lost
        self.grant = grant
        self._connection: Peer | None = None
        self._given = b""  # by the dispatcher, to be yielded
        self._rest: Buffer = b""  # of a chunk that the dispatcher began
        self._gap: Gap | None = None  # in the log, that it was not told of
        self._deadline = self._last_moment()
        self._notice = (
            time.monotonic() + grant.expires - time.time() - _NOTICE if grant.expires else _NEVER
        )
        self._expiring = False  # it is to be told so
        self._woken = Signal()
        self._sent = 0

    def frames(self, connection: Peer | None = None) -> Iterator[bytes]:
        """Yield all that the reader is sent, until one of the reasons of `end`.

        :param connection: the reader's socket, where the server hands it over: events go straight
            to it, and a hang-up is seen at once, not only when the next write fails.
        """
        opened = time.monotonic()
        self._connection = connection
        self._hub.join(self)
        try:
            yield self._opening()
            with connection.watched(self._left) if connection else nullcontext():
                while self.reason is None:
                    if frame := self._noticed() or self._missed() or self._awaited():
                        yield frame
            if self.reason not in {"client_left", "too_slow"}:
                yield self._farewell()
        except (GeneratorExit, BrokenPipeError):
            self._left()  # the server gave up writing, or this did
            raise
        finally:
            self._hub.leave(self)
            log.info(
                "stream ended: reason=%s seconds=%.1f events=%d topics=%s",
                self.reason or "error",
                time.monotonic() - opened,
                self._sent,
                sorted(self.feed.selectors),
            )

    def end(self, reason: str) -> None:
        """End the stream soon.

        :param reason: `client_left`, `drain`, `max_age`, `token_expired`, `too_slow` or `kicked`;
            the first one counts.
        """
        self.reason = self.reason or reason
        self._woken.set()

    def lose(self, gap: Gap) -> None:
        """Tell the reader, wherever it is, that the log goes on after a gap."""
        self._gap = gap
        self.feed.parked.discard(self)
        self._woken.set()

    def give(self, payload: Payload, upto: EventId, told: EventId, count: int) -> None:
        """Hand a parked reader its part of a batch; others read it themselves.

        It goes straight to the socket, and the reader sleeps on. What does not fit wakes it, and
        so does everything where there is no connection to write to.

        :param upto: the end of the batch.
        :param told: the place of the last event in the payload.
        :param count: how many events the payload holds.
        """
        if self not in self.feed.parked:
            return
        # Before the write: whatever becomes of it, nobody gives the reader this again.
        self.cursor, self.told = upto, told
        self._sent += count
        self._write(payload)

    def beat(self) -> None:
        """Give a parked reader a heartbeat."""
        if self in self.feed.parked:
            self._keep_up()
            self._write(_HEARTBEAT)

    def _keep_up(self) -> None:
        # While it was parked it was given all that it sees of what was handed out.
        self.cursor = max(self.cursor, self._hub.fanout.dispatched)

    def _write(self, payload: Payload) -> None:
        if self._connection is None:
            self._given = payload.plain
        else:
            try:
                self._rest = self._connection.send_now(payload)
            except OSError:
                self._left()
            else:
                if not self._rest:
                    return
        self.feed.parked.discard(self)
        self._woken.set()

    def _left(self) -> None:
        stalled = self._connection is not None and self._connection.stalled
        self.end("too_slow" if stalled else "client_left")

    def _noticed(self) -> bytes:
        if not self._expiring or self.grant.expires is None:
            return b""
        self._expiring = False
        self.told = self.cursor
        return self._frame("hub.expiring", {"expires": round(self.grant.expires)})

    def _missed(self) -> bytes:
        """Return more of what was missed; nothing means that the head is reached, this instant."""
        pace, began = Pace(), time.monotonic()
        while self.reason is None:
            try:
                page = self._hub.history.page(self.cursor)
            except Unavailable:
                return self._patience()
            if gap := self._gap or page.gap:
                self._gap = None
                self.cursor = self.told = gap.place
                return self._frame("hub.reset", {"reason": gap.reason})
            if not page.events:
                return self._renewed()
            self.cursor = page.events[-1].place
            seen = []
            for event in page.events:
                if self.feed.sees(event):
                    seen.append(event)
                pace.keep()
            give_way()  # a fast reader never blocks: let the others have their turn
            if seen:
                self.told = seen[-1].place
                self._sent += len(seen)
                return self.feed.frames(seen, {})
            if time.monotonic() - began >= self._hub.settings.heartbeat:
                return self._marked()  # what lies behind need not be looked through again
        return b""

    def _patience(self) -> bytes:
        """Wait for a log that is away; the reader stays, and sees that somebody is there."""
        heartbeat = self._hub.settings.heartbeat
        self._woken.wait(random.uniform(0.5, 1) * min(heartbeat, _RETRY))  # noqa: S311 - no secret
        self._woken.clear()
        return wire.HEARTBEAT

    def _renewed(self) -> bytes:
        return b"" if self.told >= self._hub.fanout.renew_before else self._marked()

    def _marked(self) -> bytes:
        self.told = self.cursor
        return self._frame("hub.mark", {})

    def _awaited(self) -> bytes:
        """Park until there is something to do; return what the dispatcher gave to be yielded."""
        if self.reason is not None:
            return b""
        # Nothing may yield to the loop between the empty page above and this line.
        self.feed.parked.add(self)
        self._woken.wait()
        self._woken.clear()
        if self in self.feed.parked:
            self.feed.parked.discard(self)  # it is to end
            self._keep_up()
        if self._connection is not None and self._rest:
            rest, self._rest = self._rest, b""
            self._connection.sendall(rest)  # the end of a chunk that was begun
        given, self._given = self._given, b""
        return given

    def check_deadline(self, now: float) -> None:
        """End the stream if it is too old, or its token, at a monotonic time; tell it before."""
        if now >= self._notice:
            self._notice = _NEVER
            self._expiring = True
            self._woken.set()
        if now >= self._deadline:
            expired = self.grant.expires is not None and time.time() >= self.grant.expires
            self.end("token_expired" if expired else "max_age")

    def _opening(self) -> bytes:
        about = {
            "topics": sorted(self.feed.selectors),
            "replay": self._hub.history.count(self.feed.sees, self.cursor),
            "server": f"tidings/{VERSION}",
        }
        retry = b"retry: %d\n" % self._retry()
        if self.lost is None:
            return retry + self._frame("hub.open", about)
        # The first id comes with the reset: a reader cut before it was told is told next time.
        opening = wire.frame(json.dumps(about), type="hub.open")
        return retry + opening + self._frame("hub.reset", {"reason": self.lost})

    def _farewell(self) -> bytes:
        drain = self._hub.settings.drain if self.reason == "drain" else 0
        retry = self._retry() + round(random.uniform(0, drain) * 1000)  # noqa: S311 - no secret
        about = {"reason": self.reason}
        return b"retry: %d\n" % retry + self._frame("hub.bye", about)

    def _frame(self, name: str, about: Mapping[str, object]) -> bytes:
        # The place, and never an event's own id: that event may be one the reader must not see.
        return wire.frame(json.dumps(about), type=name, id=str(self.cursor))

    def _retry(self) -> int:
        return jittered_retry(self._hub.settings.retry)

    def _last_moment(self) -> float:
        """Return the monotonic time at which the stream ends: its age or its token's end."""
        now, age = time.monotonic(), self._hub.settings.max_age
        ends = [now + age * random.uniform(0.8, 1)] if age else []  # noqa: S311 - no secret
        if self.grant.expires is not None:
            ends.append(now + self.grant.expires - time.time())
        return min(ends, default=_NEVER)


def jittered_retry(seconds: float) -> int:
    """Return a reconnection time in milliseconds, 100 to 150 %: readers that left at once
    do not come back at once.
    """
    return round(seconds * 1000 * random.uniform(1, 1.5))  # noqa: S311 - no secret
