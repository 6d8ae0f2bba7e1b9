"""`tidings delete`: remove one event, or all events of a topic."""

from __future__ import annotations

import sys
from urllib.parse import urlencode

import click

from .client import HubClient, json_object
from .remote_hub import RemoteHub, hub_options
from .retry import PermanentFailure, Retry, TemporaryFailure

_TIMEOUT_S = 300.0  # a topic may have a million events
_PATIENCE_S = 10.0
_EPILOG = """\b
Examples:
  tidings delete news 1795431727518-0      one event
  tidings delete /users/7                  all events of a topic
"""


@click.command(epilog=_EPILOG)
@click.argument("topic")
@click.argument("event_id", metavar="[ID]", required=False)
@click.option("--yes", "-y", is_flag=True, help="Do not ask before a whole topic is removed.")
@hub_options
def delete(
    topic: str, event_id: str | None, *, url: str | None, token: str | None, yes: bool
) -> None:
    """Remove the event ID of TOPIC, or all events of TOPIC, and print how many there were.

    TOPIC is the canonical topic: the first topic of the events. Clients that have received an event
    keep it. On a terminal it asks before it removes a whole topic.
    """
    hub = RemoteHub.from_options(url, token)
    if event_id is None and not yes and sys.stdin.isatty():
        click.confirm(f"Remove all events of the topic {topic}?", abort=True, err=True)
    fields = {"topic": topic} if event_id is None else {"topic": topic, "id": event_id}
    click.echo(_delete(hub, f"{hub.url.path}?{urlencode(fields)}"))


def _delete(hub: RemoteHub, path: str) -> int:
    """Send the request until it is answered: it may be done twice."""
    retry = Retry(_PATIENCE_S)
    with HubClient(hub, _TIMEOUT_S) as client:
        while True:
            try:
                answer = json_object(client.read(client.request("DELETE", path))) or {}
            except TemporaryFailure as failure:
                client.close()
                retry.wait(failure)
                continue
            if not isinstance(answer.get("deleted"), int):
                message = f"{hub.origin} does not say how many events it removed. Is it a hub?"
                raise PermanentFailure(message)
            return int(answer["deleted"])
