"""Appends what publishers wait for, over one connection. An answer means committed.

Requests that arrive while the server works share its next transaction.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import gevent
from gevent.event import AsyncResult

from ...core.events import Draft, Event
from ...errors import Conflict, ServiceUnavailable, TidingsError
from ...scheduling import map_cooperatively
from ...tasks import skip
from ..base import conflict, topic_ended
from .rows import from_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...core.events import EventId
    from .database import Channel

_PUBLISH_TIMEOUT_S = 10.0  # how long a publisher waits
_BATCH_EVENTS, _BATCH_BYTES = 1000, 1 << 20  # of one transaction, or one request if that is more
_MAX_PENDING_BYTES = 16 << 20  # of requests that wait; at least one
_APPEND = """
SELECT * FROM tidings.append(%s::int[], %s::text[], %s::text[], %s::text[], %s::boolean[],
  %s::bigint[], %s::int[], %s::text[], %s::boolean[])
"""


class Request(NamedTuple):
    """The drafts that a publisher waits for. No two of them have the same own id and topic."""

    drafts: Sequence[Draft]
    texts: Sequence[str]
    size: int  # bytes of the texts
    result: AsyncResult[list[EventId] | Conflict]

    @property
    def own_ids(self) -> set[tuple[str, str]]:
        """The own ids, each with its canonical topic."""
        return {(it.topics[0], it.id) for it in self.drafts if it.id}

    @property
    def has_end(self) -> bool:
        """Whether one of the drafts ends a topic."""
        return any(it.ended for it in self.drafts)


class AppendQueue:
    """Requests, in the order in which they came.

    :param on_appended: called with how many events and bytes the event log has then.
    """

    def __init__(self, channel: Channel, on_appended: Callable[[int, int], None]) -> None:
        self._channel = channel
        self._on_appended = on_appended
        self._pending: deque[Request] = deque()
        self._pending_bytes = 0
        self._greenlet: gevent.Greenlet[[], None] | None = None

    def append(self, drafts: Sequence[Draft], texts: Sequence[str], size: int) -> list[EventId]:
        """Append all drafts, or none, and return their positions.

        They are sent once: if the answer is lost, they may be in the event log.

        :raises Conflict: an own id is taken by other content, or a draft names an ended topic.
        :raises ServiceUnavailable: as many bytes as may already wait, or the server did not answer.
        """
        if self._pending_bytes and self._pending_bytes + size > _MAX_PENDING_BYTES:
            detail = f"{_MAX_PENDING_BYTES >> 20} MiB already wait for the event log's server."
            raise ServiceUnavailable(detail, "Publish more slowly, and try again.")
        request = Request(drafts, texts, size, AsyncResult())
        self._pending.append(request)
        self._pending_bytes += size
        if not self._greenlet:
            self._greenlet = gevent.spawn(self._append_pending)
        try:
            request.result.wait(_PUBLISH_TIMEOUT_S)
        finally:
            if not request.result.ready() and request in self._pending:
                self._pending.remove(request)  # nobody waits for it any more
                self._pending_bytes -= size
        positions = request.result.get() if request.result.ready() else None
        if isinstance(positions, list):
            return positions
        raise positions or _overdue()

    def _append_pending(self) -> None:
        try:
            while self._pending:
                batch = self._next_batch()
                try:
                    self._append(batch)
                finally:
                    self._pending_bytes -= sum(it.size for it in batch)
        finally:
            self._greenlet = None

    def _next_batch(self) -> list[Request]:
        """Return what the next transaction appends. Where two requests have an own id in common,
        the second one needs the answer to the first. One that ends a topic has its own.
        """
        batch, events, size = list[Request](), 0, 0
        own_ids = set[tuple[str, str]]()
        while self._pending and events < _BATCH_EVENTS and size < _BATCH_BYTES:
            new, has_end = self._pending[0].own_ids, self._pending[0].has_end
            if batch and (has_end or not own_ids.isdisjoint(new)):
                break
            own_ids |= new
            batch.append(self._pending.popleft())
            events += len(batch[-1].texts)
            size += batch[-1].size
            if has_end:
                break
        return batch

    def _append(self, batch: list[Request]) -> None:
        try:
            [(keys, events, size)] = self._channel.call(_APPEND, _columns(batch), binary=True)
        except TidingsError as error:
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - it is raised where the result is waited for
            if len(batch) > 1:  # one request is the cause: append each by itself
                for request in batch:
                    self._append([request])
                return
            skip("commit", error)
            _fail(batch, error)
        else:
            start = 0
            for request in batch:
                found = keys[start : start + len(request.texts)]
                request.result.set(_to_positions(found))
                start += len(found)
            self._on_appended(events, size)


def _columns(batch: list[Request]) -> tuple[Sequence[object] | None, ...]:
    """Return the arguments of the function `tidings.append`."""
    drafts = [draft for request in batch for draft in request.drafts]
    requests = [n for n, request in enumerate(batch) for _ in request.texts]
    texts = [text for request in batch for text in request.texts]
    owns = [draft.id for draft in drafts] if any(draft.id for draft in drafts) else None
    canonicals = [draft.topics[0] for draft in drafts] if owns else None
    ends = [draft.ended for draft in drafts] if any(draft.ended for draft in drafts) else None
    ttls = [draft.ttl for draft in drafts] if any(draft.ttl for draft in drafts) else None
    topics = [(n, it, draft.private) for n, draft in enumerate(drafts, 1) for it in draft.topics]
    numbers, names, privates = map(list, zip(*topics, strict=True))
    return requests, texts, owns, canonicals, ends, ttls, numbers, names, privates


def _to_positions(keys: Sequence[int | None]) -> list[EventId] | Conflict:
    """Return the positions of a request's events, or why it is refused."""
    positions = [from_key(key) for key in keys if key is not None and key >= 0]
    if len(positions) == len(keys):
        return positions
    return conflict() if None in keys else topic_ended()


def _overdue() -> ServiceUnavailable:
    detail = "The event log did not answer in time. The event may be published, or not."
    return ServiceUnavailable(detail, "Publish the same again, with an id of your own.")


def _fail(batch: list[Request], error: Exception) -> None:
    for request in batch:
        request.result.set_exception(error)


def without_doubles(
    drafts: Sequence[Draft], texts: Sequence[str]
) -> tuple[list[Draft], list[str], list[int]]:
    """Return the drafts without those that are there before, with the same own id; their texts; and
    for each draft, which of them it is.

    :raises Conflict: two drafts have the same own id and canonical topic, and other content.
    """
    new, new_texts, numbers = list[Draft](), list[str](), list[int]()
    known = dict[tuple[str, str], int]()
    for draft, text in zip(drafts, texts, strict=True):
        number = known.get((draft.topics[0], draft.id)) if draft.id else None
        if number is None:
            number = len(new)
            new.append(draft)
            new_texts.append(text)
            if draft.id:
                known[draft.topics[0], draft.id] = number
        elif new_texts[number] != text:
            raise conflict()
        numbers.append(number)
    return new, new_texts, numbers


def make_events(positions: Sequence[EventId], drafts: Sequence[Draft]) -> list[Event]:
    """Return the events of drafts that were appended."""
    return map_cooperatively(Event, positions, drafts)
