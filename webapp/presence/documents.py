"""What is told of a reader: Mercure's subscriptions, as JSON-LD."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..core.topics import SUBSCRIPTIONS_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..hub.subscriber import Subscriber

CONTEXT = "https://mercure.rocks/"


def subscription_documents(
    name: str, text: str, only: str | None = None, *, active: bool
) -> Iterator[dict[str, Any]]:
    """Yield a reader's subscriptions from what is written down: one for each selector, or only
    that of one.
    """
    told = json.loads(text)
    for topic in told["topics"]:
        if only not in {None, topic}:
            continue
        yield {
            "id": f"{SUBSCRIPTIONS_PATH}/{_quoted(topic)}/{_quoted(name)}",
            "type": "Subscription",
            "topic": topic,
            "subscriber": name,
            "active": active,
            "payload": told["payload"],
        }


def about(subscriber: Subscriber) -> str:
    """Return what is written down of a reader."""
    payload = subscriber.grant.payload
    said = "null" if payload is None else _said(payload)
    return f'{{"topics": {subscriber.feed.listed}, "payload": {said}}}'


def _said(payload: Any) -> str:
    """Return a payload as JSON. A token may hold numbers that JSON has not: they become null."""
    try:
        return json.dumps(payload, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(payload), parse_constant=lambda _: None))


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="replace")
