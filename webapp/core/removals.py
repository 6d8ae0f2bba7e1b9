"""Removed events, and the entries of the event log that remove them.

The position of a removed event is *held*: it stays a valid cursor, and its own id stays taken,
until it would have been trimmed. What the event log keeps of the event is a *remnant*: nothing, or,
if it had an own id, its topics and a digest of its content.

Both are stored as texts that are no drafts, so that version 0.1.0 leaves them out.
"""

from __future__ import annotations

import json
from hashlib import sha1
from typing import ClassVar, NamedTuple

from ..errors import BadRequest
from .events import Draft, Event, EventId, HubDraft

_UNKNOWN = HubDraft(topics=())
_HELD_BYTES = 300  # of memory, about


class Removal(NamedTuple):
    """Which events are removed: those between two positions that have a canonical topic."""

    topic: str
    first: EventId
    last: EventId

    def hides(self, event: Event) -> bool:
        """Whether it removes an event."""
        return event.draft.topics[:1] == (self.topic,) and self.first <= event.position <= self.last

    def to_json(self) -> str:
        """Return the text of its entry in the event log."""
        parts = ["remove", self.topic, str(self.first), str(self.last)]
        return json.dumps(parts, ensure_ascii=False)


class HeldPosition(Event):
    """What is left of a removed event. No subscriber is sent it.

    :param draft: has the event's topics, own id and privacy, as far as they are known.
    :param digest: of the event's content; None: nothing of it is known.
    """

    __slots__ = ("digest",)

    is_hidden: ClassVar = True

    def __init__(
        self, position: EventId, draft: Draft = _UNKNOWN, digest: str | None = None
    ) -> None:
        self.position = position
        self.draft = draft
        self.id = draft.id or str(position)
        self.digest = digest
        self.frame = b""
        self.wire_bytes = 0
        self._memory_bytes = _HELD_BYTES + sum(map(len, draft.topics))


class RemovalEntry(HeldPosition):
    """The entry of the event log that removes some events."""

    __slots__ = ("removal",)

    def __init__(self, position: EventId, removal: Removal) -> None:
        super().__init__(position)
        self.removal = removal


def remnant(draft: Draft) -> str:
    """Return the text that the event log keeps instead of a draft."""
    if draft.id is None:
        return json.dumps([[], "removed", None, False, None])
    parts = [draft.topics, "removed", digest(draft), draft.private, None]
    return json.dumps(parts, ensure_ascii=False)


def hold(event: Event) -> HeldPosition:
    """Return what is left of an event when it is removed."""
    draft = event.draft
    if draft.id is None:
        return HeldPosition(event.position)
    left = HubDraft(topics=draft.topics, id=draft.id, private=draft.private)
    return HeldPosition(event.position, left, digest(draft))


def digest(draft: Draft) -> str:
    """Return the digest of a draft's content. It shows whether an event is published again."""
    return sha1(draft.content().encode()).hexdigest()  # noqa: S324 - Redis has no other; nobody gains by a collision


def is_same(stored: str, draft: Draft) -> bool:
    """Whether a stored text is that of a draft, or of an event of which it is left."""
    if stored == draft.to_json():
        return True
    left = decode(EventId(0, 0), stored)
    if left is not None:
        return left.digest == digest(draft)
    try:
        return Draft.from_json(stored) == draft  # they may have another `ttl`
    except (ValueError, BadRequest):
        return False


def decode(position: EventId, text: str) -> HeldPosition | None:
    """Return what the event log has at a position, if it is no event."""
    match _parts(text):
        case ["remove", str(topic), str(first), str(last)]:
            start, end = EventId.parse(first), EventId.parse(last)
            return RemovalEntry(position, Removal(topic, start, end)) if start and end else None
        case [list(topics), "removed", (str() | None) as content, bool(private), None]:
            names = tuple(it for it in topics if isinstance(it, str))
            return HeldPosition(position, HubDraft(topics=names, private=private), content)
    return None


def _parts(text: str) -> list[object]:
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return found if isinstance(found, list) else []
