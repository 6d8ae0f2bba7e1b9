"""What is published: a place in the log, a draft that is publishable, an event that has both."""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import dataclass
from typing import NamedTuple, Self

from ..errors import BadRequest
from . import sse

MAX_TOPICS = 1000
MAX_NAME_CHARS = 1024  # of a topic or a type, in characters: names are kept in memory and compared
MAX_ID_CHARS = 128  # a longer Last-Event-ID costs a browser a preflight
RETRY_BOUNDS_MS = (100, 3_600_000)  # milliseconds: no herd, and nobody sent away for a day

_PLACE = re.compile(r"(\d{1,20})-(\d{1,20})")
# No space at its ends: the header Last-Event-ID would come back without it.
CUSTOM_ID = r"[!-~](?:[ -~]*[!-~])?"
RESERVED_ID = r"earliest|#.*|[0-9]+-[0-9]+"

# The categories Cc and Cf of Unicode 17: one look at a character in its tables takes so long that a
# thousand topics of such characters would stop the hub.
_HIDDEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f"
    r"\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd"
    r"\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001"
    r"\U000e0020-\U000e007f]"
)

_KEPT = ("data", "type", "id", "private", "retry")
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class EventId(NamedTuple):
    """A place in the log, `<ms>-<seq>`, as Redis writes it; places are ordered."""

    ms: int
    seq: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the place that `text` names, or None where it is none."""
        match = _PLACE.fullmatch(text)
        return cls(int(match[1]), int(match[2])) if match and text.isascii() else None

    def next(self, now: int) -> EventId:
        """Return the place after this one at `now` (ms): ids never go backwards, clocks do."""
        return EventId(now, 0) if now > self.ms else EventId(self.ms, self.seq + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An event that can be published: one that exists is valid.

    :param topics: the first is canonical, the others alternate.
    :param data: any text; readers get CR and CRLF as LF.
    :param type: the event's name; None means `message`.
    :param id: the publisher's own id, unique while it is kept; None: the log gives one.
    :param private: only readers whose grant covers one of the topics may see it.
    :param retry: milliseconds, clamped to `RETRY_BOUNDS_MS`.
    :raises Invalid: a field holds what must not reach a reader.
    """

    topics: tuple[str, ...]
    data: str = ""
    type: str | None = None
    id: str | None = None
    private: bool = False
    retry: int | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.topics) <= MAX_TOPICS:
            detail = f"An event has 1 to {MAX_TOPICS} topics; this one has {len(self.topics)}."
            raise BadRequest(
                detail, "Name at least one topic, and publish to the others separately."
            )
        for topic in self.topics:
            check_name("topic", topic)
        if self.type is not None:
            check_name("type", self.type)
            if self.type.startswith("hub."):
                detail = "A type that begins with hub. is the hub's own voice."
                raise BadRequest(detail, "Choose another type.")
        if self.id is not None:
            _check_own_id(self.id)
        _check_text("data", self.data)
        if self.retry is not None:
            low, high = RETRY_BOUNDS_MS
            object.__setattr__(self, "retry", min(max(self.retry, low), high))

    def to_json(self) -> str:
        """Return it as text for a log to keep; drafts are equal where their texts are."""
        fields = [self.topics, self.data, self.type, self.id, self.private, self.retry]
        return _ENCODER.encode(fields)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the draft that was kept as `text`.

        :raises ValueError: nobody kept it so.
        :raises Invalid: it is none that can be published.
        """
        topics, *rest = json.loads(text)
        return cls(topics=tuple(topics), **dict(zip(_KEPT, rest, strict=True)))


class HubDraft(Draft):
    """A draft of the hub's own: its topic may be longer than a publisher's, since it holds what a
    subscriber asked for, percent-encoded.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        """Nothing of it is a publisher's."""


class Event:
    """A draft at its place in the log; its frame is encoded once and shared by all readers."""

    __slots__ = ("draft", "frame", "id", "memory_bytes", "position", "wire_bytes")

    def __init__(self, position: EventId, draft: Draft) -> None:
        self.position = position
        self.draft = draft
        self.id = draft.id or str(position)
        """What readers see as its id, and come back with: the publisher's own, else the place."""
        self.frame = sse.encode(draft.data, id=self.id, type=draft.type, retry=draft.retry)
        texts = (self.id, draft.data, *draft.topics)
        self.memory_bytes = len(self.frame) + sum(
            map(sys.getsizeof, texts)
        )  # bytes of memory, about
        self.wire_bytes = len(self.frame) + sum(
            map(len, draft.topics)
        )  # and on the wire, in any form

    def __repr__(self) -> str:
        return f"<Event {self.position}>"

    def envelope_frame(self, topics: tuple[str, ...]) -> bytes:
        """Return a frame whose data is JSON that says what the event is, and holds its data.

        :param topics: those that may be named, in the event's order.
        """
        return self._enveloped(topics, self.id, self.position.ms)

    def _enveloped(self, topics: tuple[str, ...], id: str | None, time: int) -> bytes:
        draft = self.draft
        about = {
            "id": id,
            "topic": topics[0],
            "topics": topics,
            "type": draft.type,
            "time": time,
            "private": draft.private,
            "data": draft.data,
        }
        return sse.encode(_ENCODER.encode(about), id=id, type=draft.type, retry=draft.retry)


class TransientEvent(Event):
    """An event that is in no log: nobody can come back to it, so readers see no id.

    :param number: its place among such events.
    """

    __slots__ = ("_time",)

    def __init__(self, number: int, draft: Draft) -> None:
        super().__init__(EventId(0, number), draft)
        self.frame = sse.encode(draft.data, type=draft.type)
        self._time = time.time_ns() // 1_000_000

    def envelope_frame(self, topics: tuple[str, ...]) -> bytes:
        """Return a frame as other events have it; its time is when it was announced."""
        return self._enveloped(topics, None, self._time)


def check_name(field: str, value: str) -> None:
    """Refuse a topic or a type that could break out of its line, or hide in a log.

    :raises Invalid: it is empty, too long, or holds control or formatting characters.
    """
    _check_text(field, value)
    if not 0 < len(value) <= MAX_NAME_CHARS:
        detail = f"A {field} has 1 to {MAX_NAME_CHARS} characters; this one has {len(value)}."
        raise BadRequest(detail, f"Give a shorter {field}, and not an empty one.")
    if not value.isprintable() and _HIDDEN.search(value):
        detail = f"A {field} must not hold control characters such as CR, LF or NUL."
        raise BadRequest(detail, f"Remove them from the {field}.")


def _check_text(field: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        detail = f"The {field} holds half a surrogate pair, which is not text."
        raise BadRequest(detail, "Send valid Unicode.") from None


def _check_own_id(value: str) -> None:
    if len(value) > MAX_ID_CHARS or not re.fullmatch(CUSTOM_ID, value):
        detail = (
            f"An id has 1 to {MAX_ID_CHARS} printable ASCII characters and no space at its ends."
        )
        raise BadRequest(detail, "Choose such an id, or leave it out and take the hub's.")
    if re.fullmatch(RESERVED_ID, value):
        detail = "This id is reserved: earliest, #… and <digits>-<digits> mean something else."
        raise BadRequest(detail, "Put a prefix before it, such as my-.")
