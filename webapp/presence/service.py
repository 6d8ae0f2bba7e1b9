"""Presence: which subscribers are connected to any process that shares the event log.

A hub without a key has no presence, because only a token can grant access to it, or the login of
an app that the hub is in.

A subscriber is registered in the presence store soon after its stream opens, many at a time. The
event that says so is made from the store's notice. So all processes send the same events, and only
about registered subscribers. Such events are not in the event log: they have no position, and are
sent once.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import gevent

from ..errors import TidingsError
from ..hub.observer import Observer
from ..scheduling import cooperative
from ..tasks import Skipping, lasting
from .connections import ConnectionLister
from .documents import subscription_documents
from .notice_reader import NoticeReader, disconnecting
from .registrar import Registrar
from .revocations import Revocations

if TYPE_CHECKING:
    from ..auth.authorizer import Grant
    from ..brokers.presence_base import PresenceStore
    from ..hub.delivery.subscriber import Subscriber
    from ..hub.hub import Hub
    from ..scheduling import TimeSlice
    from .connections import Connections, Filter
    from .revocations import Revocation

logger = logging.getLogger(__name__)

_NAMES_PER_NOTICE = 1000
_DEREGISTER_TIMEOUT_S = 1.0
_SKIPPING = Skipping("presence")


class Presence(Observer):
    """The subscribers of all processes, and what may be done to them.

    :param lease: in seconds, after which the subscribers of a killed process are dropped.
    """

    def __init__(self, hub: Hub, store: PresenceStore, lease: float) -> None:
        self._store = store
        self._revocations = Revocations(store, hub.settings.max_token_age)
        self._connections = ConnectionLister(hub, store)
        self._reader = NoticeReader(hub, store, self._revocations, self._connections)
        self._registrar = Registrar(hub, store, lease, on_written=self._reader.wake)
        self._tasks: list[gevent.Greenlet[[], None]] = []

    def start(self) -> None:
        """Register this process and begin to follow the notices.

        :raises ServiceUnavailable: the presence store cannot be reached.
        """
        self._store.heartbeat({})
        self._reader.start()
        self._tasks = [lasting("presence", it.run) for it in (self._registrar, self._reader)]

    def stop(self) -> None:
        """Remove this process's subscribers, and close the store."""
        if not self._tasks:
            return
        gevent.killall(self._tasks)
        try:
            gevent.with_timeout(_DEREGISTER_TIMEOUT_S, self._store.deregister, timeout_value=None)
        except TidingsError as error:
            logger.warning("this process's subscribers stay listed for a while: %s", error)
        self._store.close()

    def opened(self, subscriber: Subscriber) -> None:
        """Register a subscriber soon; end its stream if its token was revoked meanwhile."""
        if self.is_revoked(subscriber.grant):
            subscriber.end("kicked")
        if subscriber.is_listed:
            self._registrar.join(subscriber)

    def closed(self, subscriber: Subscriber) -> None:
        """Deregister a subscriber soon."""
        if subscriber.is_listed:
            self._registrar.leave(subscriber)

    def subscribers(
        self,
        topic: str | None = None,
        subscriber: str | None = None,
        time_slice: TimeSlice | None = None,
    ) -> list[tuple[str, str]]:
        """Return the subscribers of all processes: the id of each, and its record for
        `subscription_documents`.

        :param topic: return only those with this topic or topic pattern.
        :param subscriber: return only this one.
        :param time_slice: of the work that this is a part of.
        :raises ServiceUnavailable: the presence store cannot be reached.
        """
        found = list[tuple[str, str]]()
        text = "" if topic is None else json.dumps(topic)  # as it is in records
        for name, record in cooperative(self._store.subscribers(text), time_slice):
            with _SKIPPING:  # a record may be damaged
                if subscriber not in {None, name}:
                    continue
                if topic is None or any(subscription_documents(name, record, topic, active=True)):
                    found.append((name, record))
        return found

    def connections(self, wanted: Filter) -> Connections:
        """Return a page of the open streams of all processes; see `ConnectionLister.list`.

        :raises ServiceUnavailable: the presence store cannot be reached.
        """
        return self._connections.list(wanted)

    def disconnect(self, names: list[str]) -> None:
        """End the streams of some subscribers in all processes; they may connect again."""
        for start in range(0, len(names), _NAMES_PER_NOTICE):
            self.broadcast(disconnecting(names[start : start + _NAMES_PER_NOTICE]))

    def broadcast(self, notice: str) -> None:
        """Send a notice of a `NoticeReader` to all processes.

        :raises ServiceUnavailable: the presence store cannot be reached.
        """
        self._store.broadcast(notice)

    def revoke(self, revocation: Revocation, until: float | None) -> None:
        """End all streams of some tokens, and refuse these tokens; see `Revocations.add`."""
        self._revocations.add(revocation, until)
        self._reader.end_revoked()

    def is_revoked(self, grant: Grant) -> bool:
        """Return whether a token was revoked."""
        return self._revocations.is_revoked(grant)
