"""Moves what transactions of apps have published to the event log.

One process does it, over a connection of its own; another one takes over when it has said nothing
for a while. It waits for a notification, which is fastest. While many transactions publish it looks
by itself every few milliseconds, because all that notify commit one after another.
"""

from __future__ import annotations

import logging
import secrets
from time import monotonic
from typing import TYPE_CHECKING

import gevent

from ...backoff import jitter
from ...errors import TidingsError
from ...tasks import count_skipped, lasting
from .database import Channel
from .notifications import POLL_INTERVAL_S, Notifications
from .snapshot_watch import SnapshotWatch

if TYPE_CHECKING:
    from .database import Database, ReadChannels

logger = logging.getLogger(__name__)

_LEASE_S = 1.2
_RENEW_S = 0.4
_TRY_S = 0.5  # how often the other processes look whether it is their turn
_BUSY_EVENTS, _BUSY_WINDOW_S = 50, 1.0  # if more are moved in this time, it looks by itself
_BUSY_S = 5.0  # how long it then does
_BUSY_INTERVAL_S = 0.01
_EVERYTHING_S = 60.0  # how often it looks at what it should have seen already
_TIMEOUT_S = 60.0  # a transaction may have published a million events
_LOG_INTERVAL_S = 60.0  # between two lines about events that were refused
_LEAD = "SELECT tidings.lead(%s::text, %s::float8, %s::boolean)"
_MOVE = "SELECT * FROM tidings.move(%s::boolean)"
_REFUSED = "the event log refused %d events of transactions: see the table tidings.refused"


class Relay:
    """Moves events while it is this process's turn.

    :param channels: over which it asks whether it is.
    """

    def __init__(self, database: Database, channels: ReadChannels) -> None:
        self._database, self._channels = database, channels
        self._channel = Channel(database)
        self._notifications = Notifications(database, self._channel, "tidings_outbox")
        self._watch = SnapshotWatch()
        self._process = secrets.token_hex(8)
        self._task: gevent.Greenlet[[], None] | None = None
        self._busy_until = 0.0
        self._window_at, self._window_events = 0.0, 0  # its beginning, and what was moved
        self._everything_at = 0.0  # when it looks at everything next
        self._refused, self._logged_at = 0, float("-inf")  # since that line was logged

    def start(self) -> None:
        """Take part from now on."""
        if not self._task and not self._channel.closed:
            self._task = lasting("relay", self._run)

    def stop(self) -> None:
        """End it; another process takes over."""
        if self._task:
            self._task.kill(block=False)
        self._notifications.stop()
        self._channel.close()

    def _run(self) -> None:
        while True:
            try:
                if self._leads(self._channels):
                    self._move_until_lost()
            except TidingsError:  # the follower logs it
                self._channel.drop()
            gevent.sleep(_TRY_S * jitter(0.5, 1))

    @property
    def _is_busy(self) -> bool:
        """Whether it looks by itself, so that transactions need not notify it."""
        return monotonic() < self._busy_until or self._database.listens is False

    def _leads(self, channel: ReadChannels | Channel) -> bool:
        [(leads,)] = channel.call(_LEAD, (self._process, _LEASE_S, not self._is_busy))
        return bool(leads)

    def _move_until_lost(self) -> None:
        self._everything_at = 0.0
        renewed_at = monotonic()
        while True:
            if self._notifications.prepare():
                self._everything_at = 0.0
            was_waiting = not self._is_busy
            more = self._move()
            # Say at once that it looks by itself: until then all transactions notify.
            if monotonic() - renewed_at > _RENEW_S or (was_waiting and self._is_busy):
                renewed_at = monotonic()
                if not self._leads(self._channel):
                    return
            if not more:
                self._pause()

    def _move(self) -> bool:
        """Move some events. Returns whether there may be more."""
        everything = monotonic() >= self._everything_at
        [(moved, refused, more)] = self._channel.call(_MOVE, (everything,), timeout=_TIMEOUT_S)
        if everything and not more:
            self._everything_at = monotonic() + _EVERYTHING_S
            self._watch.look(self._channel)  # here: it is one process of all, once a minute
        self._note(moved)
        if refused:
            count_skipped("relay", refused)
            self._log_refused(refused)
        return bool(more)

    def _note(self, moved: int) -> None:
        if monotonic() - self._window_at > _BUSY_WINDOW_S:
            self._window_at, self._window_events = monotonic(), 0
        self._window_events += moved
        if self._window_events > _BUSY_EVENTS:
            self._busy_until = monotonic() + _BUSY_S

    def _log_refused(self, number: int) -> None:
        self._refused += number
        if monotonic() - self._logged_at >= _LOG_INTERVAL_S:
            logger.warning(_REFUSED, self._refused)
            self._refused, self._logged_at = 0, monotonic()

    def _pause(self) -> None:
        if monotonic() < self._busy_until + 2 * _LEASE_S:  # longer than it has said
            gevent.sleep(_BUSY_INTERVAL_S)
        elif self._database.listens:
            self._notifications.wait("tidings_outbox", _RENEW_S)
        else:
            gevent.sleep(POLL_INTERVAL_S)
