"""Checks what an app passes to the methods of `Tidings`."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from ..auth.claims import MAX_TEXT_CHARS
from ..core.events import Draft, check_name
from ..core.topics import DEFAULT_TOPIC
from ..errors import BadRequest
from ..presence.notice_reader import disconnecting, disconnecting_subject
from . import paging
from .bodies import batch_limits, json_values
from .bodies.drafts import ttl_ms
from .subscribe_query import parse_patterns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FIELDS = frozenset(("data", "topic", "type", "id", "private", "retry", "end", "ttl"))


def draft(  # noqa: PLR0913 - the fields of an event
    data: Any = "",
    topic: str | Iterable[str] = DEFAULT_TOPIC,
    *,
    type: str | None = None,
    id: str | None = None,
    private: bool = False,
    retry: int | None = None,
    end: bool = False,
    ttl: float | str | None = None,
) -> Draft:
    """Return a draft.

    :raises BadRequest: a field is not valid.
    """
    topics = (topic,) if isinstance(topic, str) else tuple(dict.fromkeys(topic))
    return Draft(
        topics=topics,
        data=data if isinstance(data, str) else json_values.to_json((data, False)),
        type=type or None,
        id=id or None,
        private=bool(private),  # stored events are compared as text
        retry=retry,
        ended=bool(end),
        ttl=ttl_ms(ttl),
    )


def drafts(events: Iterable[Mapping[str, Any]]) -> list[Draft]:
    """Return the drafts of several events, which are published together.

    :raises BadRequest: a field of one is not valid, or unknown.
    :raises ContentTooLarge: they are more than one request may publish.
    """
    found = list(map(from_mapping, islice(events, batch_limits.MAX_EVENTS + 1)))
    if len(found) > batch_limits.MAX_EVENTS:
        raise batch_limits.call_refusal(batch_limits.MAX_EVENTS, "events")
    if len(found) > 1 and sum(len(it.data.encode()) for it in found) > batch_limits.MAX_BYTES:
        raise batch_limits.call_refusal(batch_limits.MAX_BYTES, "bytes")
    if sum(len(it.topics) for it in found) > batch_limits.MAX_TOPICS:
        raise batch_limits.call_refusal(batch_limits.MAX_TOPICS, "topics")
    return found


def from_mapping(event: Mapping[str, Any]) -> Draft:
    """Return a draft of the fields in a mapping.

    :raises BadRequest: one is not valid, or unknown.
    """
    if unknown := event.keys() - _FIELDS:
        detail = f"An event has no field {min(unknown)}."
        raise BadRequest(detail, f"Its fields are {', '.join(sorted(_FIELDS))}.")
    return draft(**event)


def page(pattern: str | Iterable[str], limit: int, after: str) -> tuple[frozenset[str], str, int]:
    """Return which topics are asked for: the patterns, the topic before them, and how many.

    :raises BadRequest: one is not valid.
    """
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    paging.limit(str(limit), "topics", "after")
    if after:
        check_name("topic", after)
    return parse_patterns(patterns, None), after, limit


def disconnection(subject: str | int, subscriber: str) -> str:
    """Return the notice that ends the streams of a subject, or of one subscriber.

    :raises BadRequest: both are named, or none.
    """
    if (subject in {None, ""}) == (not subscriber):
        detail = "A disconnection needs either a subject or a subscriber."
        raise BadRequest(detail, "Give one of these two arguments.")
    if subscriber:
        return disconnecting([subscriber])
    name = str(subject)  # as that of authorize, which may be a number
    if len(name) > MAX_TEXT_CHARS:
        detail = f"A subject has at most {MAX_TEXT_CHARS:,} characters."
        raise BadRequest(detail, "Give the subject that authorize has returned.")
    return disconnecting_subject(name)
