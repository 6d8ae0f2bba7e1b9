"""Who listens, everywhere: written down in a roster, told as subscription events, ended on demand.

There is presence only where there is a key, since only those may see it to whom a token grants it.
A reader is written down soon after its stream opens, many together; the event that says so comes
back from the roster, so that all processes tell the same, and nobody is told of one who is not
written down. Such events are in no log: they have no place, and are told once.
"""

from __future__ import annotations

import json
import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event as Signal

from webapp.brokers.roster import CAME, LEFT, MOMENT, TOGETHER
from webapp.errors import TidingsError
from webapp.events import Announcement, Draft, Event
from webapp.pace import Pace, paced
from webapp.revocations import REVOKE, Revocations
from webapp.subscriptions import CONTEXT, about, described

if TYPE_CHECKING:
    from collections.abc import Iterator

    from webapp.auth import Grant
    from webapp.brokers.roster import Roster
    from webapp.hub import Hub
    from webapp.revocations import Revoked
    from webapp.subscription import Subscription

log = logging.getLogger(__name__)

_KICK = "!"  # how a notice about those who are sent away begins
MOST_BYTES = 8 << 20  # of what one process writes down
_WRITTEN = 1000  # changes at once
# Seconds in which more come, to be written down together; longer in a storm.
_GATHERING, _LONGEST_GATHERING = 0.02, 0.1
_FIRST_REST, _LONGEST_REST = 0.5, 5.0  # seconds, while what keeps the roster is away
_FAREWELL = 1.0  # seconds that a process which stops takes to say so


class Presence:
    """What a hub knows of its readers and of those of all others that share its log.

    :param lease: in seconds, after which a killed process's readers are gone.
    """

    def __init__(self, hub: Hub, roster: Roster, lease: float) -> None:
        self._hub = hub
        self._roster = roster
        self._beat = lease * MOMENT
        self._changes: dict[str, str | None] = {}
        self._written: set[str] = set()
        self._sizes: dict[str, int] = {}  # of those that are listed, or soon will be
        self._bytes, self._overfull = 0, False
        self._changed, self._noticed = Signal(), Signal()
        self._told = 0
        self._number = 0
        self._revocations = Revocations(roster, hub.settings.max_token_age)
        self._tasks: list[gevent.Greenlet[[], None]] = []

    def start(self) -> list[gevent.Greenlet[[], None]]:
        """Begin to write and to follow; return what does it.

        :raises Unavailable: what keeps the roster cannot be reached.
        """
        self._roster.renew({})
        self._told = self._roster.news(None).upto
        self._learn()
        self._roster.listen(self._noticed.set)
        self._tasks = [gevent.spawn(self._write), gevent.spawn(self._follow)]
        return self._tasks

    def stop(self) -> None:
        """Take this process's readers away, and let go of the roster."""
        if not self._tasks:
            return
        gevent.killall(self._tasks)
        try:
            gevent.with_timeout(_FAREWELL, self._roster.retire, timeout_value=None)
        except TidingsError as error:
            log.warning("others will notice that this process's readers left: %s", error)
        self._roster.close()

    def __call__(self, reader: Subscription, opened: bool) -> None:  # noqa: FBT001 - an observer
        """Note that a reader came or left."""
        if opened:
            self._admit(reader.name, about(reader))
        elif (size := self._sizes.pop(reader.name, None)) is not None:
            self._bytes -= size
            if reader.name in self._written:
                self._changes[reader.name] = None
            else:
                self._changes.pop(reader.name, None)
            self._changed.set()

    def _admit(self, name: str, text: str) -> None:
        """Take a reader up, unless there is no room: strangers would fill the log's server."""
        if self._bytes + len(text) > MOST_BYTES:
            if not self._overfull:
                log.warning("who listens is over %d bytes: others are not listed", MOST_BYTES)
            self._overfull = True
            return
        # At the limit each one that leaves makes room for one: that is no news.
        self._overfull = self._overfull and self._bytes > MOST_BYTES // 2
        self._sizes[name] = len(text)
        self._bytes += len(text)
        self._changes[name] = text
        self._changed.set()

    def subscriptions(
        self, topic: str | None = None, subscriber: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield what is subscribed to everywhere, as Mercure describes it.

        :param topic: yield only subscriptions with this selector.
        :param subscriber: yield only those of this one.
        :raises Unavailable: what keeps the roster cannot be reached.
        """
        pace = Pace()
        for name, text in self._roster.readers():
            pace.keep()
            if subscriber in {None, name}:
                yield from described(name, text, topic, active=True)

    def kick(self, names: list[str]) -> None:
        """End streams, wherever they are; their readers may come back."""
        for part in _parts(names):
            self._roster.post(_KICK + json.dumps(part))

    def revoke(self, revoked: Revoked, until: float | None) -> None:
        """End all streams of some tokens, and refuse these tokens; see `Revocations.add`."""
        self._revocations.add(revoked, until)
        self._end_refused()

    def refuses(self, grant: Grant) -> bool:
        """Whether a token was revoked."""
        return self._revocations.refuses(grant)

    # Writing

    def _write(self) -> None:
        """Write down who came and left, and live on."""
        rest, until = _FIRST_REST, 0.0
        while True:
            if not self._changes:
                self._changed.wait(max(0.0, until - monotonic()))
            self._changed.clear()
            changes = self._taken()
            try:
                known = self._roster.renew(changes)
            except TidingsError as error:
                if rest == _FIRST_REST:
                    log.warning("who listens cannot be written down: %s", error)
                # What changed since counts.
                self._changes = {**changes, **self._changes}
                gevent.sleep(rest)
                rest = min(_LONGEST_REST, rest * 2)
                continue
            rest, until = _FIRST_REST, monotonic() + self._beat
            self._settle(changes)
            if not known:
                self._again(changes)
            self._noticed.set()  # what was not heard of is found now
            gevent.sleep(min(_LONGEST_GATHERING, _GATHERING + len(changes) / 1000))

    def _taken(self) -> dict[str, str | None]:
        taken: dict[str, str | None] = {}
        size = 0
        while self._changes and len(taken) < _WRITTEN and size < TOGETHER:
            name = next(iter(self._changes))
            text = self._changes.pop(name)
            taken[name] = text
            size += len(text or "")
            if text is not None:
                self._written.add(name)  # it may be, from now on
        return taken

    def _settle(self, changes: dict[str, str | None]) -> None:
        for name, text in changes.items():
            if text is None:
                self._written.discard(name)

    def _again(self, changes: dict[str, str | None]) -> None:
        # This process was silent for longer than its lease, and what it had written was dropped.
        self._written &= changes.keys()
        for reader in self._hub:
            if reader.name in self._sizes and reader.name not in self._written:
                self._changes.setdefault(reader.name, about(reader))

    # Following

    def _follow(self) -> None:
        """Tell readers what is noticed, and do what is asked for."""
        while True:
            self._noticed.wait()
            self._noticed.clear()
            try:
                news = self._roster.news(self._told)
                if not news.whole:
                    self._learn()
            except TidingsError:
                continue  # the writer says so, and sets the signal when it is back
            self._told = news.upto
            if not news.whole:
                self._hub.fanout.forget_announced()
            self._heed(news.notices)
            if news.notices:
                self._noticed.set()  # there may be more

    def _heed(self, notices: list[str]) -> None:
        hearing, events = bool(self._hub.fanout.feeds.hearing), list[Event]()
        kicked, revoked = set[str](), list[tuple[str, float]]()
        for notice in paced(notices):
            sign, text = notice[0], notice[1:]
            if sign in {CAME, LEFT}:
                if hearing:
                    events += self._events(text, active=sign == CAME)
            elif sign == _KICK:
                kicked.update(json.loads(text))
            elif sign == REVOKE:
                until, _, what = text.partition(" ")
                revoked.append((what, float(until)))
        if kicked:
            self._kick(kicked)
        if revoked:
            self._revocations.remember(revoked)
            self._end_refused()
        if events:
            self._hub.fanout.announce(events)

    def _events(self, text: str, *, active: bool) -> Iterator[Event]:
        name, _, told = text.partition(" ")
        for document in described(name, told, active=active):
            self._number += 1
            draft = Draft(
                topics=(document["id"],),
                data=json.dumps({"@context": CONTEXT, **document}),
                private=True,
            )
            yield Announcement(self._number, draft)

    def _kick(self, names: set[str]) -> None:
        for reader in paced(self._hub):
            if reader.name in names:
                reader.end("kicked")

    def _learn(self) -> None:
        self._revocations.learn()
        self._end_refused()

    def _end_refused(self) -> None:
        for reader in paced(self._hub):
            if self.refuses(reader.grant):
                reader.end("kicked")


def _parts(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _WRITTEN):
        yield names[start : start + _WRITTEN]
