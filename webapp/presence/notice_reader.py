"""Follows the notices of all processes: sends presence events, and ends streams on demand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gevent.event import Event as Signal

from ..brokers.presence_base import JOINED, LEFT
from ..core.events import Event, HubDraft
from ..core.transient_event import TransientEvent
from ..errors import TidingsError
from ..scheduling import cooperative
from ..tasks import Skipping
from .connections import ANSWER, QUESTION
from .documents import CONTEXT, subscription_documents
from .revocations import REVOKE, Revocations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..brokers.presence_base import PresenceStore
    from ..hub.delivery.subscriber import Subscriber
    from ..hub.hub import Hub
    from .connections import ConnectionLister

_DISCONNECT, _DISCONNECT_SUBJECT = "!", "@"
"""How notices begin that end streams: of a JSON list of subscribers, or of subjects."""
_SKIPPING = Skipping("presence")


def disconnecting(names: list[str]) -> str:
    """Return a notice that ends the streams of some subscribers."""
    return _DISCONNECT + json.dumps(names)


def disconnecting_subject(subject: str) -> str:
    """Return a notice that ends the streams of a subject."""
    return _DISCONNECT_SUBJECT + json.dumps([subject])


class NoticeReader:
    """Reads notices when it is woken, and acts on them."""

    def __init__(
        self,
        hub: Hub,
        store: PresenceStore,
        revocations: Revocations,
        connections: ConnectionLister,
    ) -> None:
        self._hub = hub
        self._store = store
        self._revocations = revocations
        self._connections = connections
        self._wakeup = Signal()
        self._last_notice = 0
        self._event_number = 0

    def start(self) -> None:
        """Begin after the newest notice, with all revocations of before.

        :raises ServiceUnavailable: the store cannot be reached.
        """
        self._last_notice = self._store.notices_after(None).last_number
        self._load_revocations()
        self._store.on_notice(self.wake)

    def wake(self) -> None:
        """Read notices soon: there may be new ones."""
        self._wakeup.set()

    def run(self) -> None:
        """Read all notices, whenever this is woken."""
        while True:
            self._wakeup.clear()
            self._read_all()
            self._wakeup.wait()

    def end_revoked(self) -> None:
        """End the streams of this process whose tokens are revoked."""
        self._end(lambda subscriber: self._revocations.is_revoked(subscriber.grant))

    def _read_all(self) -> None:
        while True:
            try:
                batch = self._store.notices_after(self._last_notice)
                if not batch.complete:
                    self._load_revocations()
            except TidingsError:
                return  # the registrar logs it, and wakes this when the store answers again
            self._last_notice = batch.last_number
            if not batch.complete:
                self._hub.transient.reset()
                self._event_number += 1  # the number of all events that were missed
            self._apply(batch.notices)
            if not batch.notices:
                return

    def _apply(self, notices: list[str]) -> None:
        names, subjects = set[str](), set[str]()
        revoked = list[tuple[str, float]]()
        for notice in cooperative(notices):
            with _SKIPPING:
                sign, text = notice[:1], notice[1:]
                if sign == _DISCONNECT:
                    names.update(json.loads(text))
                elif sign == _DISCONNECT_SUBJECT:
                    subjects.update(map(str, json.loads(text)))
                elif sign == REVOKE:
                    until, _, what = text.partition(" ")
                    revoked.append((what, float(until)))
                elif sign in {QUESTION, ANSWER}:
                    self._connections.read(notice)
        self._revocations.end_logins(subjects)
        if names or subjects:
            self._end(lambda it: it.name in names or (it.grant.subject or "") in subjects)
        if revoked:
            self._revocations.remember(revoked)
            self.end_revoked()
        if self._hub.transient.wanted:
            self._hub.transient.deliver(self._events(notices))

    def _events(self, notices: list[str]) -> Iterator[Event]:
        """Yield the presence events of some notices, one at a time: each notice may have a hundred
        subscriptions.
        """
        for notice in notices:
            if (sign := notice[:1]) in {JOINED, LEFT}:
                with _SKIPPING:
                    name, _, record = notice[1:].partition(" ")
                    for document in subscription_documents(name, record, active=sign == JOINED):
                        yield self._event(document)

    def _event(self, document: dict[str, Any]) -> Event:
        data = json.dumps({"@context": CONTEXT, **document}, allow_nan=False)
        draft = HubDraft(topics=(document["id"],), data=data, private=True)
        self._event_number += 1
        return TransientEvent(self._event_number, draft)

    def _end(self, condition: Callable[[Subscriber], bool]) -> None:
        for subscriber in cooperative(self._hub):
            if condition(subscriber):
                subscriber.end("kicked")

    def _load_revocations(self) -> None:
        self._revocations.load()
        self.end_revoked()
