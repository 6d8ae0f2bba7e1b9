"""Warns of a transaction that keeps deleted rows from being removed.

The server removes no row that an open transaction might still read. While one stays open, the
tables of the event log grow, and each append walks over more old versions of a row. The server
tells everybody who holds what back, but the age only to those who may read its statistics: so a
transaction of the same process that holds the same for a minute counts, too.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .database import Channel

logger = logging.getLogger(__name__)

_LONG_S = 60.0
_OLDEST = """
SELECT pid, coalesce(backend_xid, backend_xmin)::text, coalesce(usename::text, application_name),
  coalesce(state, 'state unknown'), extract(epoch FROM clock_timestamp() - xact_start)::float8
FROM pg_stat_activity
WHERE (datname = current_database() OR datname IS NULL) AND pid <> pg_backend_pid()
  AND coalesce(backend_xid, backend_xmin) IS NOT NULL
  AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
ORDER BY greatest(age(backend_xid), age(backend_xmin)) DESC, xact_start, age(backend_xid) DESC
LIMIT 1
"""
_WARNING = (
    "a transaction of another program has been open for %.0f s (process %d, %s, %s): meanwhile no"
    " deleted row of the event log can be removed, its tables grow, and publishing becomes slower."
    " End it, with SELECT pg_terminate_backend(%d) if need be. PostgreSQL's setting"
    " idle_in_transaction_session_timeout ends idle ones."
)


class SnapshotWatch:
    """Looks for such a transaction.

    :param long_s: seconds, from which one is warned of.
    """

    def __init__(self, long_s: float = _LONG_S) -> None:
        self._long_s = long_s
        self._holder: tuple[int, str] | None = None  # the oldest one, at the last look
        self._since = 0.0  # a monotonic time: of the first look that found it

    def look(self, channel: Channel) -> None:
        """Look, and warn. The caller limits how often."""
        rows = channel.call(_OLDEST)
        holder = rows[0][:2] if rows else None
        if holder != self._holder:
            self._holder, self._since = holder, monotonic()
        if not rows:
            return
        [(pid, _, user, state, age)] = rows
        if age is None:
            age = monotonic() - self._since
        if age >= self._long_s:
            logger.warning(_WARNING, age, pid, user, state, pid)
