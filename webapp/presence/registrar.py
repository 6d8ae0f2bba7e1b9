"""Writes to the presence store which subscribers of this process joined and left."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event as Signal

from ..backoff import Backoff
from ..brokers.presence_base import RENEW_AFTER
from ..errors import TidingsError
from ..scheduling import cooperative
from ..tasks import Skipping, skip
from .changes import Changes
from .documents import subscriber_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..brokers.presence_base import PresenceStore
    from ..hub.delivery.subscriber import Subscriber

logger = logging.getLogger(__name__)

_SKIPPING = Skipping("presence")
_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.1  # after a write, so that changes gather; longer for many
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.5, 5.0


class Registrar:
    """Registers subscribers in batches, and renews this process's lease.

    :param subscribers: all of this process. They are registered again when the lease had expired.
    :param lease: in seconds.
    :param on_written: called after each write.
    """

    def __init__(
        self,
        subscribers: Iterable[Subscriber],
        store: PresenceStore,
        lease: float,
        on_written: Callable[[], None],
    ) -> None:
        self._subscribers = subscribers
        self._store = store
        self._renew_interval = lease * RENEW_AFTER
        self._on_written = on_written
        self._changes = Changes()
        self._has_changes = Signal()

    def join(self, subscriber: Subscriber) -> None:
        """Register a subscriber soon."""
        self._changes.join(subscriber.name, subscriber.client, subscriber_record(subscriber))
        self._wake()

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a subscriber soon."""
        self._changes.leave(subscriber.name)
        self._wake()

    def run(self) -> None:
        """Write changes as they come, and renew the lease before it expires."""
        backoff, renew_at = Backoff(_FIRST_RETRY_S, _LONGEST_RETRY_S), 0.0
        while True:
            if not self._changes:
                self._has_changes.wait(max(0.0, renew_at - monotonic()))
            self._has_changes.clear()
            batch = self._changes.next_batch()
            try:
                known = self._write(batch)
            except TidingsError as error:
                if not backoff.failures:
                    logger.warning("presence cannot be stored: %s", error)
                self._changes.restore(batch)
                gevent.sleep(backoff.next())
                continue
            backoff.reset()
            renew_at = monotonic() + self._renew_interval
            self._changes.confirm(batch)
            if not known:
                self._reregister(batch)
            self._on_written()
            gevent.sleep(min(_LONGEST_PAUSE_S, _PAUSE_S + len(batch) / 1000))

    def _wake(self) -> None:
        if self._changes:
            self._has_changes.set()

    def _write(self, batch: dict[str, str | None]) -> bool:
        """Write a batch. If one of its changes cannot be written, write the others."""
        try:
            return self._store.heartbeat(batch)
        except TidingsError:
            raise
        except Exception as error:  # noqa: BLE001 - a bad change must not end this task
            skip("presence", error)
        known = True
        for name, record in batch.items() if len(batch) > 1 else ():
            known = self._write({name: record}) and known
        return known

    def _reregister(self, batch: dict[str, str | None]) -> None:
        # The lease had expired, and the store dropped all subscribers of this process.
        self._changes.keep_only(batch)
        for subscriber in cooperative(it for it in self._subscribers if it.is_listed):
            with _SKIPPING:
                self._changes.rejoin(subscriber.name, subscriber_record(subscriber))
