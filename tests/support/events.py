"""Events, as tests of the event log write and compare them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from webapp.core.events import Draft, Event, EventId
from webapp.core.removals import HeldPosition
from webapp.hub.delivery.replays import PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.broker_process import BrokerProcess
    from webapp.brokers.base import Followed
    from webapp.core.topic_index import TopicEntry


MANY = 1 << 30  # bytes: no bound


def drafts(*data: str, **fields: Any) -> list[Draft]:
    return [Draft(topics=("t",), data=d, **fields) for d in data]


def contents(events: list[Event]) -> list[str]:
    return [event.draft.data for event in events]


def next_events(follower: Iterator[Followed], count: int) -> list[Event]:
    found: list[Event] = []
    while len(found) < count:
        batch = next(follower)
        if type(batch) is HeldPosition:  # the follower came late
            continue
        assert isinstance(batch, list), batch
        assert batch
        found += batch
    return found


def number_texts(count: int, start: int = 0) -> list[str]:
    return [str(number) for number in range(start, start + count)]


def all_events(log: BrokerProcess) -> list[Event]:
    position = log.bounds().floor
    found: list[Event] = []
    while page := log.read(position, MANY):
        found += page
        position = page[-1].position
    return found


def event(number: int, size: int = 1) -> Event:
    return Event(EventId(number, 0), Draft(topics=("t",), data="x" * size))


def large(number: int) -> Event:
    return Event(EventId(number, 0), Draft(topics=("t",), data="x" * 3 * PIECE_BYTES))


def all_topics(log: Any, prefix: str = "", after: str = "", **options: Any) -> list[TopicEntry]:
    """Return the directory of topics, read page by page."""
    found: list[TopicEntry] = []
    last = after
    while last is not None:
        entries, last = log.topics(prefix, last, 1000, **options)
        found += entries
    return found
