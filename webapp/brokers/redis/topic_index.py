"""Reads and builds the index by topic of an event log in Redis or Valkey.

Each call of the script is short, because the server serves nobody else meanwhile: it looks at some
topics, or reads some events. So one method may take several calls. Events that are appended between
two of them lie after the positions that the first one named.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from functools import partial
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import gevent

from ...core.events import Event, EventId
from ...core.topic_index import DirectoryPage, TopicEntry
from ...errors import ServiceUnavailable, TidingsError
from ..base import TopicEnd, TopicPage, decode_events
from ..hidden import hide
from ..steps import Steps
from .page import decode_line, join_lines, parse_bounds, parse_position, parse_removals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ...core.globs import Glob
    from ..base import Bounds

    T = TypeVar("T")

_CALL_TOPICS = 250  # looked up in one call
_CALL_NAMES = 4000  # of the directory, compared with globs in one call
_CALL_POSITIONS = 512  # returned by one call
_CALL_EVENTS = 256  # read by one call
_CALL_BYTES = 256 << 10  # of these
_BUILD_TIMEOUT_S = 20.0  # how long a read waits for the index
_MORE_TO_BUILD, _OTHERS_BUILD = 1, 2  # answers to a step of building
_OTHERS_PAUSE_S = 0.05  # while another process builds it


class RedisTopicIndex:
    """See the methods of `Broker`.

    :param call: calls a verb of topics.lua. None: the index does not have all events.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self._process = secrets.token_hex(8)
        self._steps = Steps()
        self._builder: gevent.Greenlet[..., None] | None = None

    def read_after(self, after: EventId, max_bytes: int, topics: Sequence[str]) -> TopicPage | None:
        """Return the next events that have one of some topics; None: what follows the position is
        not in the index yet.
        """
        positions, ends = set[EventId](), list[EventId]()
        for some in _parts(topics, _CALL_TOPICS):
            answer = self._call("after", str(after), str(_CALL_POSITIONS), *some)
            if answer is None:
                return None
            *edges, upto, edge, text = answer
            bounds = parse_bounds(*edges)
            ends.append(parse_position(edge or upto))
            positions.update(map(parse_position, text.split()))
        end = max(after, min(ends))
        wanted = sorted(it for it in positions if it <= end)
        read = self._read(wanted, max_bytes)
        if read.looked_at < len(wanted):
            end = wanted[read.looked_at - 1]
        return TopicPage([it for it in read.events if not it.is_hidden], end, read.bounds or bounds)

    def read_before(
        self, position: EventId, limit: int, max_bytes: int, topics: Sequence[str]
    ) -> list[Event]:
        """Return the newest events before a position that have one of some topics."""
        events: list[Event] = []
        while limit > 0 and max_bytes > 0:
            positions, starts = set[EventId](), list[EventId]()
            for some in _parts(topics, _CALL_TOPICS):
                most = str(min(limit, _CALL_POSITIONS))
                *_, edge, text = self._call_whole("before", str(position), most, *some)
                positions.update(map(parse_position, text.split()))
                if edge:
                    starts.append(parse_position(edge))
            start = max(starts, default=None)
            wanted = sorted((it for it in positions if not start or it >= start), reverse=True)
            read = self._read(wanted[:limit], max_bytes)
            found = [it for it in read.events if not it.is_hidden]
            events += found
            limit -= len(found)
            max_bytes -= sum(it.wire_bytes for it in found)
            if not start and read.looked_at == len(wanted):
                break
            position = wanted[read.looked_at - 1]
        return events[::-1]

    def newest(
        self, topics: Sequence[str], before: EventId, *, public: bool
    ) -> list[EventId | None]:
        """Return the position of each topic's newest event before another one."""
        found: list[EventId | None] = []
        for some in _parts(topics, _CALL_TOPICS):
            which = "public" if public else "all"
            answer = self._call_whole("newest", str(before), which, *some)
            found += map(_parse_found, answer.split(b" "))
        return found[: len(topics)]

    def ends(self, topics: Sequence[str]) -> list[TopicEnd | None]:
        """Return the end of each topic."""
        found: list[TopicEnd | None] = []
        for some in _parts(topics, _CALL_TOPICS):
            words = self._call("ends", *some).split()
            for text, private in zip(words[::2], words[1::2], strict=True):
                position = _parse_found(text)
                found.append(position and TopicEnd(position, private == b"1"))
        return found

    def read_at(self, positions: Sequence[EventId], max_bytes: int) -> list[Event]:
        """Return the first of the events at some positions."""
        return self._read(sorted(set(positions)), max_bytes).events

    def topics(self, prefix: str, after: str, limit: int, globs: Sequence[Glob]) -> DirectoryPage:
        """Return the next lines of the directory of topics."""
        start = f"[{prefix}" if after < prefix else f"({after}"
        most = min(limit, _CALL_TOPICS)
        looked_at = _CALL_NAMES if globs else most
        bounds = str(looked_at), str(most)
        last, text = self._call_whole("directory", prefix, start, *bounds, *chain(*globs))
        lines = text.split(b"\n") if text else ()
        entries = [entry for entry in map(_parse_entry, lines) if entry]
        return DirectoryPage(entries, None if last is None else last.decode())

    def positions_of(
        self, id: str, after: EventId | None, limit: int, topics: Sequence[str] | None = None
    ) -> list[EventId]:
        """Return the positions of the events with an own id, the oldest first."""
        found: list[EventId] = []
        start = str(after or "")
        while len(found) < limit and topics != []:
            upto, text = self._call("positions_of", id, start, *(topics or ()))
            found += map(parse_position, text.split())
            if upto is None:
                break
            start = upto.decode()
        return found[:limit]

    def build(self) -> None:
        """Have the index built, and removals continued, in the background. One process at a time
        does it.
        """
        if not self._builder or self._builder.ready():
            self._builder = gevent.spawn(self._build)

    def _build(self) -> None:
        with suppress(TidingsError):  # the follower notices that there is more to do
            while self._build_some() == _MORE_TO_BUILD:
                pass

    def _build_some(self) -> Any:
        """Do a step, and leave the server to others for a moment."""
        with self._steps.turn():
            answer = self._call("build", self._process)
        if answer == _OTHERS_BUILD:
            gevent.sleep(_OTHERS_PAUSE_S)
        return answer

    def _call_whole(self, verb: str, *arguments: str) -> Any:
        return self.when_whole(partial(self._call, verb, *arguments))

    def when_whole(self, call: Callable[[], Any]) -> Any:
        """Return what a call returns that needs the whole index.

        :param call: returns None while the index is not whole.
        :raises ServiceUnavailable: it takes too long to build.
        """
        until = monotonic() + _BUILD_TIMEOUT_S
        while (answer := call()) is None:
            if monotonic() > until:
                detail = "The event log's index by topic is being built."
                raise ServiceUnavailable(detail, "Try again in a moment.")
            self._build_some()
        return answer

    def _read(self, positions: Sequence[EventId], max_bytes: int) -> _Read:
        """Read the events at some positions, in their order: about `max_bytes` of frames."""
        events, looked_at, bounds = list[Event](), 0, None
        while looked_at < len(positions) and max_bytes > 0:
            some = map(str, positions[looked_at : looked_at + _CALL_EVENTS])
            answer = self._call("entries", str(min(max_bytes, _CALL_BYTES)), *some)
            *edges, seen, parts, removing, time = answer
            looked_at, bounds = looked_at + seen, parse_bounds(*edges)
            found = decode_events(join_lines(parts), decode_line)
            events += hide(found, parse_removals(removing), int(time))
            max_bytes -= sum(map(len, parts))
        return _Read(events, looked_at, bounds)


class _Read(NamedTuple):
    events: list[Event]
    looked_at: int  # how many positions
    bounds: Bounds | None  # of the event log then; None: nothing was to be read


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield parts of some items, or one that is empty."""
    return (items[start : start + size] for start in range(0, max(1, len(items)), size))


def _parse_found(text: bytes) -> EventId | None:
    return parse_position(text) if text not in {b"-", b""} else None


def _parse_entry(line: bytes) -> TopicEntry | None:
    """Return the directory's entry; None: all events of the topic were trimmed."""
    public, public_count, private, private_count, topic = line.split(b" ", 4)
    newest = _parse_found(public), _parse_found(private)
    if newest == (None, None):
        return None
    count = int(public_count) + int(private_count)
    last = max(it for it in newest if it)
    return TopicEntry(topic.decode(), last, count, newest[0], int(public_count))
