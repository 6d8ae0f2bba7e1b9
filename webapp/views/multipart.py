"""A multipart form, taken apart while others have their turns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import (
    Data,
    Epilogue,
    Event,
    Field,
    File,
    MultipartDecoder,
    NeedData,
    State,
)

from ..errors import BadRequest, ContentTooLarge, UnsupportedMediaType
from ..scheduling import TimeSlice
from .charset import check_charset

if TYPE_CHECKING:
    from collections.abc import Iterator

_PORTION = 64 << 10  # bytes that are taken apart at once
_MAX_HEAD = 8 << 10  # bytes of one part's headers
_MAX_PARAMETERS = 50  # of them together, each of which is looked for by an expression
_BLANK_LINE = re.compile(rb"\r\n\r\n|\r\r|\n\n")


def fields(body: bytes, boundary: bytes, most: int) -> list[tuple[str, str]]:
    """Return the names and values of a form of UTF-8 text.

    :param most: how many parts it may have.
    :raises Invalid: it is broken.
    :raises TooLarge: the headers of a part are too long.
    :raises Unreadable: it holds a file, or text in another encoding.
    """
    try:
        return list(_fields(_Decoder(boundary, max_parts=most), body))
    except ValueError:
        detail = "The multipart form is broken."
        raise BadRequest(detail, "Send it as it was made, or as a plain form.") from None


def _fields(decoder: MultipartDecoder, body: bytes) -> Iterator[tuple[str, str]]:
    name, value = "", bytearray()
    for event in _events(decoder, body):
        if isinstance(event, File):
            detail = "The form holds a file."
            raise UnsupportedMediaType(detail, "Send the text as the field data.")
        if isinstance(event, Field):
            check_charset(parse_options_header(event.headers.get("Content-Type"))[1])
            if event.name is None:
                message = "a part without a name"
                raise ValueError(message)
            name, value = event.name, bytearray()
        if isinstance(event, Data):
            value += event.data
            if not event.more_data:
                yield name, value.decode()


def _events(decoder: MultipartDecoder, body: bytes) -> Iterator[Event]:
    pace = TimeSlice()
    for start in range(0, len(body) + _PORTION, _PORTION):
        decoder.receive_data(body[start : start + _PORTION] or None)
        while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
            yield event
            pace.checkpoint()
        if decoder.state is State.PREAMBLE:
            message = "no part begins in it"
            raise ValueError(message)
        pace.checkpoint()


class _Decoder(MultipartDecoder):
    """Refuses a part whose headers would take long."""

    def next_event(self) -> Event:
        """Return what comes next.

        :raises TooLarge: the headers of a part are too long.
        """
        if self.state is State.PART:
            end = _BLANK_LINE.search(self.buffer, 0, _MAX_HEAD)
            length = end.start() if end else len(self.buffer)
            if length >= _MAX_HEAD or self.buffer.count(b";", 0, length) > _MAX_PARAMETERS:
                detail = (
                    f"The headers of a part of the form are over {_MAX_HEAD} bytes, or have more"
                    f" than {_MAX_PARAMETERS} parameters."
                )
                raise ContentTooLarge(detail, "Send a name and a type only.", reason="part_headers")
        return super().next_event()
