"""Presence, as operators and subscribers read it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import jwt

from support.tokens import KEY
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from support.server import Server
    from support.stream import Stream

PATH = "/.well-known/mercure/subscriptions"
EVENTS = PATH + "{/topic}{/subscriber}"


def token(
    publish: list[str] | None = None, subscribe: list[str] | None = None, **claims: Any
) -> str:
    mercure = {"publish": publish or [], "subscribe": subscribe or []}
    mercure |= {"payload": claims.pop("payload", None)}
    return jwt.encode({"mercure": mercure, **claims}, KEY)


def bearer(*args: Any, **kwargs: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(*args, **kwargs)}"}


ALL = bearer(["*"], ["*"])


def list_path(*parts: str) -> str:
    return "/".join([PATH, *(quote(part, safe="") for part in parts)])


def listed_on(hub: Server, *parts: str) -> list[dict[str, Any]]:
    # A connection of its own: the worker of another one may be killed.
    url = hub.url + list_path(*parts)
    answer = httpx.get(url, headers=ALL, trust_env=False, verify=False, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["subscriptions"]
    return found


def subscriber_name(stream: Stream) -> str:
    opened = stream.next()
    assert opened.type == "hub.open"
    return str(json.loads(opened.data)["subscriber"])


def next_documents(stream: Stream, count: int, topic: str = "") -> list[dict[str, Any]]:
    """Return the next subscription events, of a topic if one is named."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        document = json.loads(stream.take(1)[0])
        if topic in {"", document["topic"]}:
            found.append(document)
    return found
