"""text/event-stream, both ways, as pure functions.

The format is WHATWG's: https://html.spec.whatwg.org/multipage/server-sent-events.html
(sections 9.2.5 and 9.2.6). What follows from it and cannot be otherwise: a line of data ends at
CR, LF or CRLF and readers see LF for each of them; nothing else is changed.

Intended: a heartbeat is one newline, not two, since some clients take the blank line that a
second one makes for an empty message once they have seen an id.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CONTENT_TYPE = "text/event-stream; charset=utf-8"
HEARTBEAT = b":\n"

# str.splitlines() would also split at U+2028, U+2029, NEL and others: data would be torn.
_EOL = re.compile(r"\r\n|\r|\n")
_EOL_BYTES = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


def encode(
    data: str, *, id: str | None = None, type: str | None = None, retry: int | None = None
) -> bytes:
    """Return one event as bytes, its fields in Mercure's order: event, retry, id, data.

    :param data: any text; an empty one is dispatched as an empty message.
    :param id: the reader's new cursor; None leaves it as it is.
    :param type: the event's name; None means `message`.
    :param retry: the reader's new reconnection time, in milliseconds.
    :raises ValueError: `id` or `type` would break out of its line. Drafts refuse those when they
        are made; this is the second lock on the same door (CWE-93).
    """
    head = ""
    if type is not None:
        head += f"event: {_one_line(type)}\n"
    if retry is not None:
        head += f"retry: {retry:d}\n"
    if id is not None:
        head += f"id: {_one_line(id)}\n"
    # Not with a regular expression: a million empty lines would take a quarter of a second.
    data = data.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\ndata: ")
    return f"{head}data: {data}\n\n".encode()


class Payload:
    """Bytes for many subscribers: as they are, and as one chunk of a chunked response
    (RFC 9112, section 7.1).
    """

    __slots__ = ("chunked", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.chunked = b"%X\r\n%b\r\n" % (len(raw), raw)


def _one_line(value: str) -> str:
    if "\n" in value or "\r" in value or "\0" in value:
        message = "an id or a type of an event must not hold CR, LF or NUL"
        raise ValueError(message)
    return value


class ServerSentEvent(NamedTuple):
    """An event as a reader sees it."""

    data: str
    type: str = "message"
    id: str = ""  # the last event id, which sticks to later events that have none
    retry: int | None = None  # the newest reconnection time seen, in milliseconds


def decode(chunks: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    """Yield the messages of a stream as they are completed, however its bytes are cut.

    An event that the end of the stream cuts off is discarded, as the specification asks.
    """
    data: list[str] = []
    type_, last_id, retry = "", "", None
    for line in _lines(chunks):
        if not line:
            if data:
                yield ServerSentEvent("\n".join(data), type_ or "message", last_id, retry)
            data, type_ = [], ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            type_ = value
        elif name == "id" and "\0" not in value:
            last_id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            retry = int(value)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest, after_cr, first = b"", False, True
    for chunk in chunks:
        if not chunk:
            continue
        # A CRLF cut in two ended its line with the CR; the LF belongs to it.
        piece = chunk.removeprefix(b"\n") if after_cr else chunk
        after_cr = piece.endswith(b"\r")
        *lines, rest = _EOL_BYTES.split(rest + piece)
        for line in lines:
            yield (line.removeprefix(_BOM) if first else line).decode("utf-8", "replace")
            first = False
