"""`tidings topics`: list the topics of the events that a hub has."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from .client import HubClient, json_object
from .output import escape_controls
from .remote_hub import RemoteHub, hub_options
from .retry import PermanentFailure, Retry, TemporaryFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMEOUT_S = 60.0
_PATIENCE_S = 10.0
_PAGE_TOPICS = 100  # whose names fit into a response, however long they are
_EPILOG = """\b
Examples:
  tidings topics                       all topics
  tidings topics 'load/{host}' --json | jq .last_id
"""


@click.command(epilog=_EPILOG)
@click.argument("patterns", metavar="[TOPIC]...", nargs=-1)
@click.option("--json", "json_", is_flag=True, help="Print each topic as a line of JSON.")
@hub_options
def topics(patterns: tuple[str, ...], *, url: str | None, token: str | None, json_: bool) -> None:
    """List the topics of which you may see an event that the hub has.

    TOPIC is a name, *, or a URI template. Default: *. On a hub with a key, the token must grant
    subscribing to /topics.

    On a terminal it also prints the time of the newest event and the number of events, otherwise
    only the names. With --json it prints topic, last_id, time, events and ended.
    """
    on_terminal = sys.stdout.isatty()
    for topic in _topics(RemoteHub.from_options(url, token), list(patterns)):
        if json_:
            text = json.dumps(topic, ensure_ascii=on_terminal)
        else:
            text = _for_terminal(topic) if on_terminal else str(topic.get("topic"))
        sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _topics(hub: RemoteHub, patterns: list[str]) -> Iterator[dict[str, Any]]:
    """Yield all topics, page by page."""
    query: list[tuple[str, str]] = [("topic", it) for it in patterns]
    after, more = "", True
    with HubClient(hub, _TIMEOUT_S) as client:
        while more:
            page = _page(client, [*query, ("limit", str(_PAGE_TOPICS)), ("after", after)])
            yield from page["topics"]
            more = bool(page.get("more") and page["topics"])
            after = page["topics"][-1]["topic"] if more else ""


def _page(client: HubClient, query: list[tuple[str, str]]) -> dict[str, Any]:
    retry, path = Retry(_PATIENCE_S), client.hub.sibling_path("/topics")
    while True:
        try:
            body = client.read(client.request("GET", f"{path}?{urlencode(query)}"))
        except TemporaryFailure as failure:
            retry.wait(failure)
            continue
        page = json_object(body) or {}
        if not isinstance(page.get("topics"), list):
            message = f"{client.hub.origin} answers without a list of topics. Is there a hub?"
            raise PermanentFailure(message)
        return page


def _for_terminal(topic: dict[str, Any]) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(topic["time"] / 1000))
    return f"{moment} {topic['events']:>9,} {escape_controls(topic['topic'])}"
