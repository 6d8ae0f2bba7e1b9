"""Hides events that have expired or were removed."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from ..core.removals import HeldPosition, RemovalEntry, hold
from .base import now

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..core.events import Event
    from ..core.removals import Removal


def visible(
    events: list[Event], pending: Sequence[Removal] = (), at: int | None = None
) -> list[Event]:
    """Return the events that subscribers may see; see `hide`."""
    return [it for it in hide(events, pending, at) if not it.is_hidden]


def hide(
    events: list[Event], pending: Sequence[Removal] = (), at: int | None = None
) -> list[Event]:
    """Return events with what is left of those that have expired or are being removed.

    :param pending: removals that have begun.
    :param at: the time by the event log's clock; None: by that of this machine.
    """
    if any(it.draft.ttl for it in events):
        at = now() if at is None else at
        events = [hold(it) if it.has_expired(at) else it for it in events]
    if not pending:
        return events
    return [hold(it) if any(removal.hides(it) for removal in pending) else it for it in events]


def followed(events: list[Event]) -> Iterator[list[Event] | HeldPosition]:
    """Yield what a follower has read: by themselves the entries that remove events, and the newest
    of several positions that are held.
    """
    if not any(it.is_hidden for it in events):
        if events:
            yield events
        return
    for is_hidden, some in groupby(events, attrgetter("is_hidden")):
        if not is_hidden:
            yield list(some)
            continue
        held = [it for it in some if isinstance(it, HeldPosition)]
        yield from (it for it in held if isinstance(it, RemovalEntry) or it is held[-1])
