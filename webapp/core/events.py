"""A draft is what a publisher sends; an event is a draft at its position in the event log."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from json.encoder import encode_basestring as quote
from sys import getsizeof
from typing import Any, ClassVar, NamedTuple, Self

from ..errors import BadRequest
from . import sse

MAX_TOPICS = 1000
MAX_NAME_CHARS = 1024  # of a topic or a type
MAX_ID_CHARS = 128  # with a longer Last-Event-ID, a browser sends a preflight request first
MIN_TTL_MS, MAX_TTL_MS = 1000, 10**9 * 1000  # 31 years
RETRY_BOUNDS_MS = (100, 3_600_000)  # clients must not all come back at once, nor stay out for a day

_POSITION = re.compile(r"(\d{1,20})-(\d{1,20})")
# No space at either end: a client sends the id back in a header, which loses such spaces.
OWN_ID = r"[!-~](?:[ -~]*[!-~])?"
RESERVED_ID = r"earliest|null|undefined|#.*|[0-9]+-[0-9]+"

# The control and formatting characters of Unicode 17 (categories Cc and Cf). A lookup of each
# character in Python's own tables is too slow: a thousand topics would block the hub.
_HIDDEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f"
    r"\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd"
    r"\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001"
    r"\U000e0020-\U000e007f]"
)

_INDEX_BYTES = 160  # that the index of a window takes for a topic which no other event has
_NO_OTHERS = (None, None, False, None)  # type, id, private, retry
_DECODER = json.JSONDecoder()
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class EventId(NamedTuple):
    """A position in the event log, written `<ms>-<seq>` as in a Redis stream; they are ordered."""

    ms: int
    seq: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the position that `text` names; None: it does not name one."""
        match = _POSITION.fullmatch(text)
        return cls(int(match[1]), int(match[2])) if match and text.isascii() else None

    def next(self, now: int) -> EventId:
        """Return the position of an event that follows at `now` (Unix ms). It is always larger than
        this one, even if the clock went back.
        """
        return EventId(now, 0) if now > self.ms else EventId(self.ms, self.seq + 1)


# Not `frozen`, which would take a fourteenth of a publish in a pipe.
@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class Draft:
    """What a publisher sends. It is checked when it is built and never changed, so every draft can
    be published.

    :param topics: the first is the canonical topic, the others are alternates.
    :param data: any text; subscribers get CR and CRLF as LF.
    :param type: the event's type; None means `message`.
    :param id: an own id, unique per canonical topic as long as the event log keeps the event;
        None: the id is the position.
    :param private: only subscribers whose grant matches one of the topics may see it.
    :param retry: a reconnection time in milliseconds, clamped to `RETRY_BOUNDS_MS`.
    :param ended: it is the last event of its topics, as long as the event log keeps it.
    :param ttl: milliseconds after which it expires, by the event log's clock; None: it is trimmed
        as all others are. It is no part of the content: two drafts are equal without it.
    :raises BadRequest: a field has a value that must not reach a subscriber.
    """

    topics: tuple[str, ...]
    data: str = ""
    type: str | None = None
    id: str | None = None
    private: bool = False
    retry: int | None = None
    ended: bool = False
    ttl: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not 0 < len(self.topics) <= MAX_TOPICS:
            detail = f"An event has 1 to {MAX_TOPICS} topics; this one has {len(self.topics)}."
            remedy = "Name at least one; to reach more topics, publish several events."
            raise BadRequest(detail, remedy)
        for topic in self.topics:
            check_name("topic", topic)
        if self.type is not None:
            check_name("type", self.type)
            if self.type.startswith("hub."):
                detail = "Types that begin with hub. are reserved for the hub's control events."
                raise BadRequest(detail, "Choose another type.")
        if self.id is not None:
            _check_own_id(self.id)
        if not self.data.isascii():
            _check_text("data", self.data)
        if self.retry is not None:
            low, high = RETRY_BOUNDS_MS
            self.retry = min(max(self.retry, low), high)
        if self.ttl is not None and not MIN_TTL_MS <= self.ttl <= MAX_TTL_MS:
            detail = "The field ttl must be a duration of a second or more."
            raise BadRequest(detail, "Send seconds, like 90, or a duration like 10m.")

    def to_json(self) -> str:
        """Return the text that a broker stores.

        The topics are a list. If the draft has options, they are the names of an object instead,
        whose first value has the options. Version 0.1.0 reads the names, and no options.
        """
        if self.ended or self.ttl:
            options = {"end": 1} if self.ended else {}
            options |= {"ttl": self.ttl} if self.ttl else {}
            names = {**dict.fromkeys(self.topics, 0), self.topics[0]: options}
            topics = _ENCODER.encode(names)
        else:
            topics = f"[{','.join(map(quote, self.topics))}]"
        rest = (self.type, self.id, self.private, self.retry)
        others = "null,null,false,null" if rest == _NO_OTHERS else _ENCODER.encode(rest)[1:-1]
        return f"[{topics},{quote(self.data)},{others}]"

    def content(self) -> str:
        """Return the same text without `ttl`: equal drafts have equal contents."""
        return replace(self, ttl=None).to_json() if self.ttl else self.to_json()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the draft that a broker stored.

        :raises ValueError: the text is not from `to_json`.
        :raises BadRequest: the draft is not valid.
        """
        fields, end = _DECODER.raw_decode(text)
        if end < len(text):
            message = "there is more behind the draft"
            raise ValueError(message)
        topics, data, type_, id_, private, retry = fields
        options = _options(topics) if isinstance(topics, dict) else {}
        return cls(
            topics=tuple(topics),
            data=data,
            type=type_,
            id=id_,
            private=private,
            retry=retry,
            ended=options.get("end") == 1,
            ttl=options.get("ttl"),
        )


class HubDraft(Draft):
    """A draft of the hub itself, which is not checked. Its topic may be longer than a publisher's,
    because it contains what a subscriber asked for, percent-encoded.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        """Check nothing: no field comes from a publisher."""


class Event:
    """A draft at its position in the event log. It is encoded once, for all subscribers.

    `id` is what subscribers see: the own id, or else the position.
    """

    __slots__ = ("_memory_bytes", "draft", "frame", "id", "position", "wire_bytes")

    is_hidden: ClassVar[bool] = False
    """Whether it is no event, but a position of the event log of which nobody is sent anything."""

    def __init__(self, position: EventId, draft: Draft) -> None:
        self.position = position
        self.draft = draft
        self.id = draft.id or str(position)
        self.frame = sse.encode(draft.data, id=self.id, type=draft.type, retry=draft.retry)
        self._memory_bytes = 0
        self.wire_bytes = len(self.frame) + sum(map(len, draft.topics))  # an envelope lists them

    def __repr__(self) -> str:
        return f"<Event {self.position}>"

    @property
    def memory_bytes(self) -> int:
        """About how many bytes of memory it takes, counted when a window asks."""
        if not self._memory_bytes:
            size = len(self.frame) + getsizeof(self.id) + getsizeof(self.draft.data)
            for topic in self.draft.topics:
                size += getsizeof(topic) + _INDEX_BYTES
            self._memory_bytes = size
        return self._memory_bytes

    @property
    def expires(self) -> int | None:
        """When it expires, in Unix milliseconds by the event log's clock; None: never."""
        return self.position.ms + self.draft.ttl if self.draft.ttl else None

    def has_expired(self, now: int) -> bool:
        """Whether it has expired at a time."""
        return bool(self.draft.ttl) and self.position.ms + (self.draft.ttl or 0) <= now

    def envelope(self, topics: tuple[str, ...]) -> str:
        """Return its fields as a JSON object.

        :param topics: the event's topics that the subscriber may see, in the event's order.
        """
        return self._envelope(topics, self.id, self.position.ms)

    def envelope_frame(self, topics: tuple[str, ...]) -> bytes:
        """Return a frame whose data is its envelope."""
        return self._enveloped(self.envelope(topics), self.id)

    def frame_of_snapshot(self, id: str | None, topics: tuple[str, ...] | None) -> bytes:
        """Return its frame with the id of a snapshot.

        :param id: None: the client's cursor stays as it is.
        :param topics: as for `envelope_frame`; None: it is sent without an envelope.
        """
        if topics is not None:
            return self._enveloped(self.envelope(topics), id)
        draft = self.draft
        return sse.encode(draft.data, id=id, type=draft.type, retry=draft.retry)

    def _enveloped(self, envelope: str, id: str | None) -> bytes:
        return sse.encode(envelope, id=id, type=self.draft.type, retry=self.draft.retry)

    def _envelope(self, topics: tuple[str, ...], id: str | None, time: int) -> str:
        draft = self.draft
        fields = {
            "id": id,
            "topic": topics[0],
            "topics": topics,
            "type": draft.type,
            "time": time,
            "private": draft.private,
            "data": draft.data,
        }
        if draft.ended:
            fields["end"] = True
        return _ENCODER.encode(fields)


def _options(topics: dict[str, Any]) -> dict[str, Any]:
    first = next(iter(topics.values()), None)
    return first if isinstance(first, dict) else {}


def check_name(field: str, value: str) -> None:
    """Refuse a topic or type that could break out of its line, or look like another in a log.

    :raises BadRequest: it is empty, too long, or has control or formatting characters.
    """
    if value.isascii() and value.isprintable() and 0 < len(value) <= MAX_NAME_CHARS:
        return
    _check_text(field, value)
    if not 0 < len(value) <= MAX_NAME_CHARS:
        detail = f"A {field} has 1 to {MAX_NAME_CHARS} characters; this one has {len(value)}."
        raise BadRequest(detail, f"Send a {field} that is not empty, and not longer.")
    if not value.isprintable() and _HIDDEN.search(value):
        detail = f"A {field} must not contain control characters (CR, LF, …) or invisible ones."
        raise BadRequest(detail, f"Remove them from the {field}.")


def _check_text(field: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        detail = f"The {field} contains half a surrogate pair, which is not valid Unicode."
        raise BadRequest(detail, "Send valid Unicode text.") from None


def _check_own_id(value: str) -> None:
    if len(value) > MAX_ID_CHARS or not re.fullmatch(OWN_ID, value):
        detail = (
            f"An id has 1 to {MAX_ID_CHARS} printable ASCII characters and no space at its ends."
        )
        raise BadRequest(detail, "Choose such an id, or leave it out: the hub assigns one then.")
    if re.fullmatch(RESERVED_ID, value):
        detail = "This id is reserved: as a cursor it would have another meaning."
        raise BadRequest(detail, "Add a prefix, such as my-.")
