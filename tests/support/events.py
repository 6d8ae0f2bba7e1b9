"""Events, as tests of the event log write and compare them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from webapp.brokers.base import Gap
from webapp.core.events import Draft, Event

if TYPE_CHECKING:
    from collections.abc import Iterator


MANY = 1 << 30  # bytes: no bound


def drafts(*data: str, **fields: Any) -> list[Draft]:
    return [Draft(topics=("t",), data=d, **fields) for d in data]


def contents(events: list[Event]) -> list[str]:
    return [event.draft.data for event in events]


def taken(follower: Iterator[list[Event] | Gap], count: int) -> list[Event]:
    found: list[Event] = []
    while len(found) < count:
        batch = next(follower)
        assert not isinstance(batch, Gap), batch
        assert batch
        found += batch
    return found
