"""A subscriber's record in the presence store, and its subscriptions as JSON-LD (Mercure)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..core.topics import SUBSCRIPTIONS_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..hub.delivery.subscriber import Subscriber

CONTEXT = "https://mercure.rocks/"


def subscriber_record(subscriber: Subscriber) -> str:
    """Return the record of a subscriber: its topics and patterns, and the payload of its token."""
    topics, payload = json.dumps(sorted(subscriber.patterns)), subscriber.grant.payload
    return f'{{"topics": {topics}, "payload": {_to_json(payload)}}}'


def subscription_documents(
    name: str, record: str, only: str | None = None, *, active: bool
) -> Iterator[dict[str, Any]]:
    """Yield a subscriber's subscriptions: one for each topic or pattern, or only that of one.

    :param name: the subscriber's id.
    """
    fields = json.loads(record)
    for topic in fields["topics"]:
        if only not in {None, topic}:
            continue
        yield {
            "id": subscription_path(topic, name),
            "type": "Subscription",
            "topic": topic,
            "subscriber": name,
            "active": active,
            "payload": fields["payload"],
        }


def _to_json(payload: Any) -> str:
    """Return a payload as JSON. Python accepts NaN and Infinity in a token; they become null."""
    try:
        return json.dumps(payload, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(payload), parse_constant=lambda _: None))


def subscription_path(*parts: str | None) -> str:
    """Return the path of all subscriptions, of those of a topic, or of those of a topic and a
    subscriber.
    """
    texts = (quote(part, safe="", errors="replace") for part in parts if part is not None)
    return "/".join([SUBSCRIPTIONS_PATH, *texts])
