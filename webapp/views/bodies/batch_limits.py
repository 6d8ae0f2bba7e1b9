"""The limits of events that are published together, all or none: single events of others wait
meanwhile, and an event comes to its subscribers after all that lie before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ContentTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...core.events import Draft
    from .forms import Fields

MAX_EVENTS = 2000
MAX_BYTES = 1 << 20  # of the body, or of the data
MAX_TOPICS = 4000  # of all events together


def array_refusal(most: int, what: str) -> ContentTooLarge:
    """Return the refusal of a JSON array that is over a limit, such as 2000 `events`."""
    detail = f"The JSON array has more than {most} {what}."
    remedy = "Send several arrays, or the events as NDJSON, which takes any number."
    return ContentTooLarge(detail, remedy, reason="batch")


def call_refusal(most: int, what: str) -> ContentTooLarge:
    """Return the refusal of a call of `publish_many` that is over a limit."""
    detail = f"publish_many got more than {most} {what}."
    return ContentTooLarge(detail, "Call it several times, with fewer events.", reason="batch")


def check_bytes(events: int, size: int, url: Fields) -> None:
    """Refuse an array that is too large with what the URL says, which each event has.

    :param size: bytes of the body.
    """
    if size + events * _bytes(url) > MAX_BYTES:
        raise array_refusal(MAX_BYTES, "bytes")


def check_topics(drafts: Iterable[Draft]) -> list[Draft]:
    """Return the drafts of an array. Refuse them as soon as they have too many topics."""
    found: list[Draft] = []
    topics = 0
    for draft in drafts:
        found.append(draft)
        topics += len(draft.topics)
        if topics > MAX_TOPICS:
            raise array_refusal(MAX_TOPICS, "topics")
    return found


def lines_at_once(url: Fields) -> int:
    """Return how many lines of a pipe may be published together: each has what its URL says."""
    return max(1, MAX_BYTES // max(1, _bytes(url)))


def _bytes(url: Fields) -> int:
    return sum(len(text.encode()) for texts in url.values() for text in texts)
