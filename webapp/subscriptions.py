"""What is told of a reader: Mercure's subscriptions, as JSON-LD."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from webapp.topics import SUBSCRIPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from webapp.subscription import Subscription

CONTEXT = "https://mercure.rocks/"


def described(
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
            "id": f"{SUBSCRIPTIONS}/{quote(topic, safe='')}/{quote(name, safe='')}",
            "type": "Subscription",
            "topic": topic,
            "subscriber": name,
            "active": active,
            "payload": told["payload"],
        }


def about(reader: Subscription) -> str:
    """Return what is written down of a reader."""
    payload = reader.grant.payload
    said = "null" if payload is None else json.dumps(payload)
    return f'{{"topics": {reader.feed.listed}, "payload": {said}}}'
