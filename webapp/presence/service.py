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

from ..brokers.presence_base import JOINED, LEFT, RENEW_AFTER
from ..core.events import Event, HubDraft, TransientEvent
from ..errors import TidingsError
from ..scheduling import cooperative
from ..tasks import Skipping, lasting, skip
from .changes import Changes
from .documents import CONTEXT, about, subscription_documents
from .revocations import REVOKE, Revocations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..auth.authorizer import Grant
    from ..brokers.presence_base import PresenceStore
    from ..hub.hub import Hub
    from ..hub.subscriber import Subscriber
    from .revocations import Revoked

logger = logging.getLogger(__name__)

_KICK = "!"  # how a notice about those who are sent away begins
_KICKED = 1000  # streams in one notice
_SKIPPING = Skipping("presence")
# Seconds in which more come, to be written down together; longer in a storm.
_GATHERING, _LONGEST_GATHERING = 0.02, 0.1
_FIRST_REST, _LONGEST_REST = 0.5, 5.0  # seconds, while what keeps the roster is away
_FAREWELL = 1.0  # seconds that a process which stops takes to say so


class Presence:
    """What a hub knows of its readers and of those of all others that share its log.

    :param lease: in seconds, after which a killed process's readers are gone.
    """

    def __init__(self, hub: Hub, roster: PresenceStore, lease: float) -> None:
        self._hub = hub
        self._roster = roster
        self._beat = lease * RENEW_AFTER
        self._changes = Changes()
        self._changed, self._noticed = Signal(), Signal()
        self._told = 0
        self._number = 0
        self._revocations = Revocations(roster, hub.settings.max_token_age)
        self._tasks: list[gevent.Greenlet[[], None]] = []

    def start(self) -> list[gevent.Greenlet[[], None]]:
        """Begin to write and to follow; return what does it.

        :raises Unavailable: what keeps the roster cannot be reached.
        """
        self._roster.heartbeat({})
        self._told = self._roster.notices_after(None).last_number
        self._learn()
        self._roster.on_notice(self._noticed.set)
        self._tasks = [lasting("presence", self._write), lasting("presence", self._follow)]
        return self._tasks

    def stop(self) -> None:
        """Take this process's readers away, and let go of the roster."""
        if not self._tasks:
            return
        gevent.killall(self._tasks)
        try:
            gevent.with_timeout(_FAREWELL, self._roster.deregister, timeout_value=None)
        except TidingsError as error:
            logger.warning("others will notice that this process's readers left: %s", error)
        self._roster.close()

    def __call__(self, subscriber: Subscriber, opened: bool) -> None:  # noqa: FBT001 - an observer
        """Note that a reader came or left."""
        if opened:
            self._changes.came(subscriber.name, subscriber.client, about(subscriber))
        else:
            self._changes.left(subscriber.name)
        if self._changes:
            self._changed.set()

    def subscribers(
        self, topic: str | None = None, subscriber: str | None = None
    ) -> list[tuple[str, str]]:
        """Return all subscribers of all processes, each with its record, which
        `subscription_documents` reads.

        :param topic: return only those that have this selector.
        :param subscriber: return only this one.
        :raises Unavailable: what keeps the roster cannot be reached.
        """
        found = list[tuple[str, str]]()
        for name, text in cooperative(self._roster.subscribers()):
            with _SKIPPING:  # it may be damaged
                if subscriber not in {None, name}:
                    continue
                if topic is None or any(subscription_documents(name, text, topic, active=True)):
                    found.append((name, text))
        return found

    def kick(self, names: list[str]) -> None:
        """End streams, wherever they are; their readers may come back."""
        for part in _parts(names):
            self._roster.broadcast(_KICK + json.dumps(part))

    def revoke(self, revoked: Revoked, until: float | None) -> None:
        """End all streams of some tokens, and refuse these tokens; see `Revocations.add`."""
        self._revocations.add(revoked, until)
        self._end_refused()

    def is_revoked(self, grant: Grant) -> bool:
        """Whether a token was revoked."""
        return self._revocations.is_revoked(grant)

    # Writing

    def _write(self) -> None:
        """Write down who came and left, and live on."""
        rest, until = _FIRST_REST, 0.0
        while True:
            if not self._changes:
                self._changed.wait(max(0.0, until - monotonic()))
            self._changed.clear()
            changes = self._changes.take()
            try:
                known = self._renew(changes)
            except TidingsError as error:
                if rest == _FIRST_REST:
                    logger.warning("who listens cannot be written down: %s", error)
                self._changes.restore(changes)
                gevent.sleep(rest)
                rest = min(_LONGEST_REST, rest * 2)
                continue
            rest, until = _FIRST_REST, monotonic() + self._beat
            self._changes.settle(changes)
            if not known:
                self._again(changes)
            self._noticed.set()  # what was not heard of is found now
            gevent.sleep(min(_LONGEST_GATHERING, _GATHERING + len(changes) / 1000))

    def _renew(self, changes: dict[str, str | None]) -> bool:
        """Write changes down; where one of them cannot be, the others are all the same."""
        try:
            return self._roster.heartbeat(changes)
        except TidingsError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is about
            skip("presence", error)
        known = True
        for name, text in changes.items() if len(changes) > 1 else ():
            known = self._renew({name: text}) and known
        return known

    def _again(self, changes: dict[str, str | None]) -> None:
        # This process was silent for longer than its lease, and what it had written was dropped.
        self._changes.lose(changes)
        for subscriber in cooperative(self._hub):
            with _SKIPPING:
                self._changes.again(subscriber.name, about(subscriber))

    # Following

    def _follow(self) -> None:
        """Tell readers what is noticed, and do what is asked for."""
        self._noticed.set()  # it may begin anew after an error
        while True:
            self._noticed.wait()
            self._noticed.clear()
            try:
                news = self._roster.notices_after(self._told)
                if not news.complete:
                    self._learn()
            except TidingsError:
                continue  # the writer says so, and sets the signal when it is back
            self._told = news.last_number
            if not news.complete:
                self._hub.fanout.reset_transient()
                self._number += 1  # the number that now stands for what was missed
            self._heed(news.notices)
            if news.notices:
                self._noticed.set()  # there may be more

    def _heed(self, notices: list[str]) -> None:
        kicked, revoked = set[str](), list[tuple[str, float]]()
        for notice in cooperative(notices):
            with _SKIPPING:
                sign, text = notice[:1], notice[1:]
                if sign == _KICK:
                    kicked.update(json.loads(text))
                elif sign == REVOKE:
                    until, _, what = text.partition(" ")
                    revoked.append((what, float(until)))
        if kicked:
            self._kick(kicked)
        if revoked:
            self._revocations.remember(revoked)
            self._end_refused()
        if self._hub.fanout.feeds.presence_feeds:
            self._hub.fanout.deliver_announced(self._events(notices))

    def _events(self, notices: list[str]) -> Iterator[Event]:
        """Yield what is told of some notices; they are made only when they are asked for, since
        each may be a hundred events.
        """
        for notice in notices:
            if (sign := notice[:1]) in {JOINED, LEFT}:
                with _SKIPPING:
                    name, _, told = notice[1:].partition(" ")
                    for document in subscription_documents(name, told, active=sign == JOINED):
                        yield self._event(document)

    def _event(self, document: dict[str, Any]) -> Event:
        data = json.dumps({"@context": CONTEXT, **document}, allow_nan=False)
        draft = HubDraft(topics=(document["id"],), data=data, private=True)
        self._number += 1
        return TransientEvent(self._number, draft)

    def _kick(self, names: set[str]) -> None:
        for subscriber in cooperative(self._hub):
            if subscriber.name in names:
                subscriber.end("kicked")

    def _learn(self) -> None:
        self._revocations.learn()
        self._end_refused()

    def _end_refused(self) -> None:
        for subscriber in cooperative(self._hub):
            if self.is_revoked(subscriber.grant):
                subscriber.end("kicked")


def _parts(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _KICKED):
        yield names[start : start + _KICKED]
