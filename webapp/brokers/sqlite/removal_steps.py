"""The transactions that remove events from an SQLite file. Every call blocks.

The row of a removed event is emptied, and stays until it is trimmed: so its position and its own
id are known, and the counts of rows and bytes stay right. A removal of many events empties some in
each step. Any process may do the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...core.events import Draft
from ...core.removals import Removal, remnant
from ...errors import BadRequest, ServiceUnavailable
from . import removals, topic_ends
from .index_removal import Entry, unindex
from .rows import from_key, to_key
from .topic_index import index_state
from .topic_search import TopicSearch

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from ...core.events import EventId
    from .log_table import LogTable

STEP_ROWS, STEP_BYTES, STEP_ENTRIES = 250, 512 << 10, 1000
"""What a step empties at most, or one event: rows, their bytes, and entries of the index. It takes
some milliseconds, for which all commits wait.
"""
_MAX_PENDING = 64
_INSERT = "INSERT INTO removals VALUES (?, ?, ?, ?, ?)"
_GET = "SELECT topic, first, last FROM removals WHERE position = ?"
_ADVANCE = "UPDATE removals SET first = ?, removed = removed + ? WHERE position = ?"
_FORGET = "DELETE FROM removals WHERE position = ? RETURNING removed"
# Their processes have ended before they could ask for the number.
_FORGET_OLD = "DELETE FROM removals WHERE first > last AND position <= (SELECT floor FROM log)"
_EMPTY = "UPDATE events SET draft = ? WHERE place = ?"


class Begun(NamedTuple):
    """A removal after its first step."""

    position: EventId | None  # of its entry in the event log; None: there was nothing to remove
    number: int | None  # how many events it removed; None: there is more to do


class _Step(NamedTuple):
    removed: int
    next_key: int  # what comes before was removed


class RemovalSteps:
    """Empties the rows of removed events; any thread may call."""

    def __init__(self, table: LogTable) -> None:
        self._table = table
        self._database = table.database

    def begin(self, removal: Removal) -> Begun:
        """Append the entry of a removal, and do its first step.

        :raises ServiceUnavailable: too many removals are being done.
        """
        with self._database.transaction() as db:
            for table in removals.TABLES:
                db.execute(table)
            db.execute(_FORGET_OLD)
            pending = removals.pending(db)
            if len(pending) >= _MAX_PENDING:
                detail = "Many removals are being done."
                raise ServiceUnavailable(detail, "Try again in a moment.")
            head = from_key(index_state(db).head)
            removal = removal._replace(last=min(removal.last, head))
            step = _remove(db, removal)
            is_done = step.next_key > to_key(removal.last)
            if is_done and not step.removed:
                return Begun(None, 0)
            key = self._table.append_entry(db, removal.to_json())
            if not is_done:
                rest = step.next_key, to_key(removal.last), step.removed
                db.execute(_INSERT, (key, removal.topic, *rest))
        return Begun(from_key(key), step.removed if is_done else None)

    def step(self, position: EventId) -> bool:
        """Do the next step of a removal; return whether nothing is left to do."""
        key = to_key(position)
        with self._database.transaction() as db:
            topic, first, last = db.execute(_GET, (key,)).fetchone() or ("", 1, 0)
            if first <= last:
                step = _remove(db, Removal(topic, from_key(first), from_key(last)))
                first = step.next_key
                db.execute(_ADVANCE, (first, step.removed, key))
        return bool(first > last)

    def forget(self, position: EventId) -> int:
        """Return how many events a removal has removed that is done; nobody asks again."""
        with self._database.transaction() as db:
            row = db.execute(_FORGET, (to_key(position),)).fetchone()
        return row[0] if row else 0

    def empty_wal(self) -> None:
        """Leave nothing of removed events in the write-ahead log."""
        self._database.empty_wal()

    def progress(self) -> dict[EventId, int]:
        """Return the positions of the removals that have not ended, and how far each is."""
        with self._database.connection() as db:
            if not removals.pending(db):
                return {}
            rows = db.execute("SELECT position, first FROM removals WHERE first <= last")
            return {from_key(position): first for position, first in rows}


def _remove(db: sqlite3.Connection, removal: Removal) -> _Step:
    """Remove some of the events of a removal, the oldest first."""
    search = TopicSearch(db, [removal.topic], STEP_ROWS)
    first, last = to_key(removal.first), to_key(removal.last)
    keys, end = search.after(max(first - 1, search.state.floor))
    drafts, entries, size = dict[int, Draft](), 0, 0
    for key in keys:
        if key > last:
            break
        if size > STEP_BYTES or entries > STEP_ENTRIES:
            end = key - 1
            break
        [(text,)] = db.execute("SELECT draft FROM events WHERE place = ?", (key,))
        size += len(text)
        draft = draft_of(text)
        if draft and draft.topics[0] == removal.topic:
            drafts[key] = draft
            entries += len(draft.topics)
    take_out(db, drafts)
    return _Step(len(drafts), end + 1)


def take_out(db: sqlite3.Connection, drafts: Mapping[int, Draft]) -> None:
    """Empty the rows of some events, and remove them from the index and the ended topics.

    :param drafts: by key.
    """
    db.executemany(_EMPTY, [(remnant(draft), key) for key, draft in drafts.items()])
    entries = [
        Entry(topic, key, draft.private)
        for key, draft in drafts.items()
        for topic in set(draft.topics)
    ]
    unindex(db, entries)
    ends = [(key,) for key, draft in drafts.items() if draft.ended]
    if ends:
        db.executemany(topic_ends.FORGET, ends)


def draft_of(text: str) -> Draft | None:
    """Return the draft of a row; None: it has none, or is damaged."""
    try:
        return Draft.from_json(text)
    except (ValueError, BadRequest):  # it is damaged: nobody is sent it
        return None
