"""Parse a multipart form without holding the loop."""

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

from ...errors import BadRequest, ContentTooLarge, UnsupportedMediaType
from ...scheduling import RequestSlice
from .whole_body import check_charset

if TYPE_CHECKING:
    from collections.abc import Iterator

_STEP_BYTES = 64 << 10  # of the body, parsed at once
_MAX_HEADER_BYTES = 8 << 10  # of one part
_MAX_PARAMETERS = 50  # of one part's headers: Werkzeug searches for each with a regex
_BLANK_LINE = re.compile(rb"\r\n\r\n|\r\r|\n\n")


def fields(body: bytes, boundary: bytes, most: int) -> list[tuple[str, str]]:
    """Return the names and values of a form of UTF-8 text.

    :param most: how many parts it may have.
    :raises BadRequest: it is malformed.
    :raises ContentTooLarge: the headers of a part are too long.
    :raises UnsupportedMediaType: it holds a file, or text in another encoding.
    """
    try:
        return list(_fields(_Decoder(boundary, max_parts=most), body))
    except ValueError:
        detail = "The multipart form is malformed."
        remedy = "Send it complete, with its boundary in the Content-Type; or send a plain form."
        raise BadRequest(detail, remedy) from None


def _fields(decoder: MultipartDecoder, body: bytes) -> Iterator[tuple[str, str]]:
    name, value = "", bytearray()
    for event in _events(decoder, body):
        if isinstance(event, File):
            detail = "The form contains a file."
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
    time_slice = RequestSlice()
    for start in range(0, len(body) + _STEP_BYTES, _STEP_BYTES):
        decoder.receive_data(body[start : start + _STEP_BYTES] or None)
        while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
            yield event
            time_slice.checkpoint()
        if decoder.state is State.PREAMBLE:
            message = "no part begins in the first step"
            raise ValueError(message)
        time_slice.checkpoint()


class _Decoder(MultipartDecoder):
    """Werkzeug's decoder, with bounds on the headers of a part."""

    def next_event(self) -> Event:
        """Return the next event.

        :raises ContentTooLarge: the headers of a part are too long.
        """
        if self.state is State.PART:
            end = _BLANK_LINE.search(self.buffer, 0, _MAX_HEADER_BYTES)
            length = end.start() if end else len(self.buffer)
            parameters = self.buffer.count(b";", 0, length)
            if length >= _MAX_HEADER_BYTES or parameters > _MAX_PARAMETERS:
                detail = (
                    f"The headers of a part of the form are over {_MAX_HEADER_BYTES} bytes, or have"
                    f" more than {_MAX_PARAMETERS} parameters."
                )
                remedy = "Send only a name and a content type with each part."
                raise ContentTooLarge(detail, remedy, reason="part_headers")
        return super().next_event()
