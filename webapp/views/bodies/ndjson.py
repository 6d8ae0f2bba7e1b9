"""Publish an NDJSON body line by line, as its lines arrive: a pipe."""

from __future__ import annotations

from codecs import BOM_UTF8
from itertools import takewhile
from math import ceil
from typing import TYPE_CHECKING

from ...errors import ContentTooLarge, ServiceUnavailable, TidingsError
from ...scheduling import RequestSlice, cooperative, request_turns
from . import json_values, whole_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Request

    from ...core.events import Draft, Event
    from .json_values import Value

_CHUNK_BYTES = 64 << 10  # of a body, split at once: each byte may be a line
_TOPICS_AT_ONCE = 1000  # of lines that are published together, or of one line
_CHECKPOINT_BYTES = 2 << 10  # of lines, parsed between two looks at the clock


class NdjsonPublisher:
    """Publishes the lines of one pipe. Lines before a bad one stay published and are counted.

    :param append: appends drafts to the event log, all of them or none.
    :param to_draft: makes a draft of the JSON value of a line.
    :param at_once: how many lines are published together.
    """

    def __init__(
        self,
        append: Callable[[list[Draft]], list[Event]],
        to_draft: Callable[[Value], Draft],
        at_once: int,
    ) -> None:
        self.line = 0  # the number of the last line that was parsed
        self.published = 0
        self.last_id: str | None = None
        self._append = append
        self._to_draft = to_draft
        self._at_once = at_once

    def publish_lines(self, found: list[bytes]) -> None:
        """Publish some lines.

        :raises TidingsError: a line cannot be published; the problem document has its number.
        """
        # In equal parts: a rest of one event would count as a single one, for which pipes wait.
        parts = max(1, ceil(len(found) / self._at_once))
        length = max(1, ceil(len(found) / parts))
        for start in range(0, len(found), length):
            numbered, failure = self._parse(found[start : start + length])
            for some in _by_topics(numbered):
                self._publish(some)
                request_turns.pause()  # thousands of lines can arrive at once
            if failure:
                raise failure
            if not numbered:
                request_turns.pause()  # of empty lines, too

    def _parse(self, found: list[bytes]) -> tuple[list[tuple[int, Draft]], TidingsError | None]:
        numbered, time_slice, size = [], RequestSlice(), 0
        for line in found:
            self.line += 1
            try:
                if line.startswith(b"{") or line.removeprefix(BOM_UTF8).strip():
                    numbered.append((self.line, self._to_draft(json_values.one(line))))
                size += len(line)
                if size >= _CHECKPOINT_BYTES:
                    time_slice.checkpoint()
                    size = 0
            except TidingsError as error:
                error.extra["line"] = self.line
                return numbered, error
        return numbered, None

    def _publish(self, numbered: list[tuple[int, Draft]]) -> None:
        """Publish lines together; where that is refused, halve them to find the bad line."""
        try:
            events = self._append([draft for _, draft in numbered])
        except TidingsError as error:
            # After ServiceUnavailable they may be in the event log: do not publish them twice.
            if len(numbered) == 1 or isinstance(error, ServiceUnavailable):
                error.extra["line"] = numbered[0][0]
                raise
            middle = len(numbered) // 2
            for half in cooperative((numbered[:middle], numbered[middle:]), RequestSlice()):
                self._publish(half)
        else:
            self.published += len(events)
            self.last_id = events[-1].id


def _by_topics(numbered: list[tuple[int, Draft]]) -> Iterator[list[tuple[int, Draft]]]:
    """Yield lines in parts that are published together: others wait while topics are stored."""
    first = topics = 0
    for end, (_, draft) in enumerate(numbered):
        topics += len(draft.topics)
        if topics > _TOPICS_AT_ONCE and end > first:
            yield numbered[first:end]
            first, topics = end, len(draft.topics)
    if numbered:
        yield numbered[first:]


def lines(
    request: Request, max_line: int, check: Callable[[], object], hold: Callable[[int], None]
) -> Iterator[list[bytes]]:
    """Yield the complete lines of a body as they arrive, in batches, until the body ends.

    :param max_line: bytes of one line.
    :param check: called from time to time while nothing arrives; its errors end the body.
    :param hold: called with the bytes of a large line whose end has not arrived; 0: there is none.
    :raises ContentTooLarge: a line is longer than `max_line`.
    :raises TooManyRequests: the publisher's unfinished lines hold too much memory.
    :raises ServiceUnavailable: all unfinished lines and bodies hold too much memory.
    """
    rest = bytearray()  # the beginning of a line whose end has not arrived
    for chunk in _chunks(request, check):
        complete, end, begin = chunk.rpartition(b"\n")
        found = bytes(rest + complete).split(b"\n") if end else []
        short = found
        if found and max(map(len, found)) > max_line:
            short = list(takewhile(lambda line: len(line) <= max_line, found))
        yield short
        if end:
            rest.clear()
        rest += begin  # the whole chunk if no line ends in it
        if len(short) < len(found) or len(rest) > max_line:
            detail = f"A line is over TIDINGS_MAX_BODY_BYTES, {max_line} bytes."
            raise ContentTooLarge(detail, "Send smaller events, one a line.", reason="body_bytes")
        hold(len(rest) if len(rest) > whole_body.SMALL_BYTES else 0)
        request_turns.pause()  # reading from a pipe that is always full never waits
    yield [bytes(rest)]


def _chunks(request: Request, check: Callable[[], object]) -> Iterator[bytes]:
    body = request.environ["wsgi.input"]
    if hasattr(body, "iter_chunks"):
        for piece in body.iter_chunks(check):  # as long as the kernel's receive buffer, at most
            for start in range(0, len(piece), _CHUNK_BYTES):
                yield piece[start : start + _CHUNK_BYTES]
        return
    # Another server than ours: only a line's end returns what has arrived so far.
    while piece := request.stream.readline(_CHUNK_BYTES):
        yield piece
