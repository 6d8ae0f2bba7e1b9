"""Encode and decode text/event-stream, with pure functions.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html, sections 9.2.5 and
9.2.6. It ends a line of data at CR, LF or CRLF, and clients see LF for each of them. Nothing else
of the data changes.

A heartbeat is a comment with one newline and not two: two would make a blank line, which some
clients dispatch as an empty event once they have seen an id.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

CONTENT_TYPE = "text/event-stream; charset=utf-8"
HEARTBEAT = b":\n"

# Not str.splitlines(), which also splits at U+2028, U+2029, NEL and others.
_EOL_BYTES = re.compile(rb"\r\n|\r|\n")
_MAX_RETRY_DIGITS = 1000  # int() refuses more than 4,300
_BOM = b"\xef\xbb\xbf"
MAX_EVENT_BYTES = 16 << 20
"""What `decode` keeps in memory of one event."""


def encode(
    data: str, *, id: str | None = None, type: str | None = None, retry: int | None = None
) -> bytes:
    """Return one event as bytes, its fields in Mercure's order: event, retry, id, data.

    :param data: any text; clients dispatch an empty one as an empty event.
    :param id: the client's new cursor; None leaves it as it is.
    :param type: the event's type; None means `message`.
    :param retry: the client's new reconnection time, in milliseconds.
    :raises ValueError: `id` or `type` would break out of its line (CWE-93). A `Draft` refuses those
        too; this check does not rely on it.
    """
    head = ""
    if type is not None:
        head += f"event: {_one_line(type)}\n"
    if retry is not None:
        head += f"retry: {retry:d}\n"
    if id is not None:
        head += f"id: {_one_line(id)}\n"
    # Not a regular expression: it takes a quarter of a second for a million empty lines.
    data = data.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\ndata: ")
    return f"{head}data: {data}\n\n".encode()


class Payload:
    """Bytes for many subscribers: as they are, and as one chunk of a chunked response
    (RFC 9112, section 7.1).

    :param event_count: how many events of the event log they hold.
    """

    __slots__ = ("chunked", "event_count", "raw")

    def __init__(self, raw: bytes, event_count: int = 0) -> None:
        self.raw = raw
        self.event_count = event_count
        self.chunked = b"%X\r\n%b\r\n" % (len(raw), raw)

    def __enter__(self) -> Self:
        """Begin to send it to its subscribers."""
        return self

    def __exit__(self, *_: object) -> None:
        """All of them were sent it, or will be."""

    def other_form(self) -> Callable[[Any], Payload | None] | None:
        """Return what finds the form of those subscribers that cannot be sent this one."""
        return None

    def note_sent(self, subscribers: Collection[Any]) -> None:
        """Count it for subscribers that were sent it, or will be. Others of them have left."""


def _one_line(value: str) -> str:
    if "\n" in value or "\r" in value or "\0" in value:
        message = "the id or type of an event must not contain CR, LF or NUL"
        raise ValueError(message)
    return value


class ServerSentEvent(NamedTuple):
    """An event as a client sees it."""

    data: str
    type: str = "message"
    id: str = ""  # the last event id so far, from this event or an earlier one
    retry: int | None = None  # the last reconnection time so far, in milliseconds


class EventTooLarge(ValueError):
    """A stream has an event that is larger than the client reads."""


def decode(chunks: Iterable[bytes], max_bytes: int = MAX_EVENT_BYTES) -> Iterator[ServerSentEvent]:
    """Yield the events of a stream as each is complete, wherever the chunks are cut.

    An event that the end of the stream cuts off is discarded, as the specification says.

    :param max_bytes: of the data of one event, and of one line.
    :raises EventTooLarge: an event, or a line, is larger.
    """
    data: list[str] = []
    size = 0
    type_, last_id, retry = "", "", None
    for line in _lines(chunks, max_bytes):
        if not line:
            if data:
                yield ServerSentEvent("\n".join(data), type_ or "message", last_id, retry)
            data, size, type_ = [], 0, ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
            size += len(line)
            _check(size, max_bytes)
        elif name == "event":
            type_ = value
        elif name == "id" and "\0" not in value:
            last_id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            retry = int(value[:_MAX_RETRY_DIGITS])


def _lines(chunks: Iterable[bytes], max_bytes: int) -> Iterator[str]:
    rest, after_cr, first = bytearray(), False, True
    for chunk in chunks:
        if not chunk:
            continue
        # A CR at the end of the last chunk ended its line. An LF now belongs to that CR.
        piece = chunk.removeprefix(b"\n") if after_cr else chunk
        after_cr = piece.endswith(b"\r")
        *lines, begun = _EOL_BYTES.split(piece)
        for end in lines:
            rest += end
            _check(len(rest), max_bytes)
            yield (rest.removeprefix(_BOM) if first else rest).decode("utf-8", "replace")
            rest, first = bytearray(), False
        rest += begun
        _check(len(rest), max_bytes)


def _check(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        message = f"the stream has an event of more than {max_bytes:,} bytes"
        raise EventTooLarge(message)
