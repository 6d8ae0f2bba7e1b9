"""The own ids of events in an SQLite file: they are unique per canonical topic.

The column `own` has a unique index: version 0.1.0 made it so, and may append to the same file. It
refuses an id that is in the column, in whichever topic. So the first event with an id has it there
as it is. Those with other canonical topics have the id, a line feed, and the topic; own ids have
no line feed. In a file of version 0.1.0, when the first one is trimmed, the next one has the id as
it is: otherwise that version would append this event again if its publisher sends it again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ...core.removals import is_same
from ..base import now
from .problems import no_more_keys
from .rows import LAST_KEY, SEQ_BITS, TOPIC, from_key, to_key

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from ...core.events import EventId
    from .database import Database
    from .rows import Row

    _Known = dict[tuple[str, str], tuple[int, str]]  # by topic and id: key and text

TRIGGER = """
CREATE TRIGGER IF NOT EXISTS next_own AFTER DELETE ON events
WHEN OLD.own IS NOT NULL AND instr(OLD.own, char(10)) = 0 BEGIN
  UPDATE events SET own = OLD.own WHERE place = (
    SELECT min(place) FROM events
    WHERE own BETWEEN OLD.own || char(10) AND OLD.own || char(10, 1114111)
      AND place > (SELECT floor FROM log));
END
"""
"""For a file of version 0.1.0, which may go on beside this one: its trims run it, too."""

_KNOWN = f"""
SELECT own, CASE WHEN json_valid(draft) THEN (
  SELECT {TOPIC} FROM json_each(draft, '$[0]') AS name LIMIT 1) END, place, draft
FROM events WHERE own IN (SELECT value FROM json_each(?))
"""  # noqa: S608 - the text above
# The topics of the event at the floor are not known any more.
_POSITIONS = f"""
SELECT json_group_array(position) FROM (
  SELECT floor AS position FROM log
  WHERE (own = :id OR own BETWEEN :low AND :high) AND floor > :after
  UNION ALL SELECT position FROM (
    SELECT place AS position, draft FROM events WHERE own = :id
    UNION ALL SELECT place, draft FROM events WHERE own BETWEEN :low AND :high)
  WHERE position > :after AND (:topics IS NULL OR EXISTS (
    SELECT 1 FROM json_each(iif(json_valid(draft), draft, '[[]]'), '$[0]') AS name
    WHERE {TOPIC} IN (SELECT value FROM json_each(:topics))))
  ORDER BY position LIMIT :limit)
"""  # noqa: S608 - the text above


class OwnIds:
    """The own ids that some rows have, as far as the event log has them."""

    def __init__(self, db: sqlite3.Connection, appends: Sequence[Sequence[Row]]) -> None:
        self._known: _Known = {}
        self._new: _Known = {}  # of the append whose keys were assigned last
        self._plain: set[str] = set()  # the ids that an event has in the column as they are
        drafts = [row.draft for rows in appends for row in rows]
        ids = [(draft.id, draft.topics[0]) for draft in drafts if draft.id]
        if ids:
            columns = [it for own in ids for it in (own[0], _with_topic(*own))]
            for own, topic, key, text in db.execute(_KNOWN, (json.dumps(columns),)):
                custom, line_feed, _ = own.partition("\n")
                self._known[topic, custom] = key, text
                if not line_feed:
                    self._plain.add(custom)

    def assign_keys(self, rows: Sequence[Row], last: int) -> list[int] | None:
        """Return the keys of an append's rows, or None for a conflict. Those after `last` are
        new; `keep` must follow if they are appended.
        """
        keys: list[int] = []
        new: _Known = {}
        following = _following(last)  # the rows of an append have the same time
        for row in rows:
            custom = row.draft.id
            own = (row.draft.topics[0], custom) if custom else None
            stored = (new.get(own) or self._known.get(own)) if own else None
            if stored is None:
                stored = following, row.text
                following += 1
                if own:
                    new[own] = stored
            elif not is_same(stored[1], row.draft):
                return None
            keys.append(stored[0])
        _check_key(following - 1)
        self._new = new
        return keys

    def keep(self) -> None:
        """Know the ids of the append whose keys were assigned last."""
        self._known |= self._new

    def column(self, custom: str, topic: str) -> str:
        """Return what a new row with an own id has in the column `own`."""
        if custom in self._plain:
            return _with_topic(custom, topic)
        self._plain.add(custom)
        return custom


def positions_of(
    database: Database, id: str, after: EventId | None, limit: int, topics: Sequence[str] | None
) -> list[EventId]:
    """Return the positions of the events with an own id; see `Broker.positions_of`."""
    values = {
        "id": id,
        "low": f"{id}\n",
        "high": f"{id}\n\U0010ffff",
        "after": to_key(after) if after else -1,
        "limit": limit,
        "topics": None if topics is None else json.dumps(list(topics)),
    }
    with database.connection() as db:
        [(keys,)] = db.execute(_POSITIONS, values)
    return list(map(from_key, json.loads(keys)))


def next_key(last: int) -> int:
    """Return the key of a row that follows another one now. Keys never decrease, whatever the clock
    does; a full sequence carries by itself.
    """
    key = _following(last)
    _check_key(key)
    return key


def _following(last: int) -> int:
    return max(last + 1, now() << SEQ_BITS)


def _check_key(key: int) -> None:
    if key > LAST_KEY:
        raise no_more_keys()


def _with_topic(custom: str, topic: str) -> str:
    return f"{custom}\n{topic}"
