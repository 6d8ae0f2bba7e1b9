"""Follows the notices of all processes: sends presence events, and ends streams on demand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gevent.event import Event as Signal

from ..brokers.presence_base import JOINED, LEFT
from ..core.events import Event, HubDraft, TransientEvent
from ..errors import TidingsError
from ..scheduling import cooperative
from ..tasks import Skipping
from .documents import CONTEXT, subscription_documents
from .revocations import REVOKE, Revocations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..brokers.presence_base import PresenceStore
    from ..hub.hub import Hub
    from ..hub.subscriber import Subscriber

DISCONNECT = "!"
"""The first character of a notice with a JSON list of subscribers whose streams are to end."""
_SKIPPING = Skipping("presence")


class NoticeReader:
    """Reads notices when it is woken, and does what they say."""

    def __init__(self, hub: Hub, store: PresenceStore, revocations: Revocations) -> None:
        self._hub = hub
        self._store = store
        self._revocations = revocations
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
        """Have notices read: there may be new ones."""
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
        names, revoked = set[str](), list[tuple[str, float]]()
        for notice in cooperative(notices):
            with _SKIPPING:
                sign, text = notice[:1], notice[1:]
                if sign == DISCONNECT:
                    names.update(json.loads(text))
                elif sign == REVOKE:
                    until, _, what = text.partition(" ")
                    revoked.append((what, float(until)))
        if names:
            self._end(lambda subscriber: subscriber.name in names)
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
