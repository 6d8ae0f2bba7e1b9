"""`tidings tail`: print events as they are published."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING

import click

from ..core import sse
from ..core.events import RETRY_BOUNDS_MS
from .client import HubClient, json_object
from .options import duration
from .output import Progress, as_json, escape_controls, for_terminal, wants_colors
from .remote_hub import RemoteHub, hub_options
from .retry import PermanentFailure, Retry, TemporaryFailure, TopicsEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from http.client import HTTPResponse

    from ..core.sse import ServerSentEvent

_RECONNECT_S = 2.0  # until the hub sends `retry:`
_DEFAULT_SILENCE_S = 45.0  # until the hub says how often it sends a heartbeat
_SHORTEST_SILENCE_S = 5.0  # from a heartbeat
_LONGEST_SILENCE_S = 86400.0
_SILENT_HEARTBEATS = 3  # without a byte, after which a connection counts as dead
_START_PARAMETERS = {"last", "since"}
_ROUTINE_ENDS = {"max_age", "drain", "ended"}
_RESETS = {
    "aged": "events after the cursor are no longer kept: some are missing",
    "presence": "presence events were missed: fetch the list of subscribers again",
}
_SILENCE_HELP = "Reconnect when nothing comes for this long. Default: three heartbeats of the hub."
_EPILOG = """\b
Examples:
  tidings tail                         the topic events, from now on
  tidings tail news '/users/{id}'      several topics; exact, * or a URI template
  tidings tail log --last 10           start with the newest 10
  tidings tail 'load/{host}' --latest  start with the newest of each topic
  tidings tail '*' --from earliest --json | jq .data
  tidings tail log --once              all that the event log has, and no more
"""


class ReconnectingSubscriber:
    """Subscribes to a hub, and reconnects with the id of the last event that it got.

    :param query: the topics, and where to start.
    :param cursor: the id of the event after which to start; None: where `query` says.
    :param silence_s: seconds without a byte after which the connection counts as dead; None: three
        heartbeats of the hub.
    :param once: read what the event log has, and wait for nothing.
    """

    def __init__(
        self,
        hub: RemoteHub,
        query: list[tuple[str, str]],
        cursor: str | None,
        silence_s: float | None,
        *,
        once: bool = False,
    ) -> None:
        self._hub = hub
        self._query = query + [("wait", "0")] * once
        self._once = once
        self._cursor = cursor
        self._silence_s = silence_s
        self._retry = Retry(first_s=_RECONNECT_S)

    def events(self) -> Iterator[ServerSentEvent]:
        """Yield the events, control events included: without end, or once.

        :raises PermanentFailure: the hub refuses.
        :raises TopicsEnded: nothing more comes.
        """
        while True:
            try:
                last = yield from self._events_of_one_stream()
                if self._once and last == "hub.mark":  # after any other it was cut short
                    return
                time.sleep(self._retry.first_s)  # the hub has sent each client another time
            except TemporaryFailure as failure:
                sys.stdout.flush()
                self._retry.wait(failure)

    def _events_of_one_stream(self) -> Generator[ServerSentEvent, None, str]:
        """Yield the events until the hub ends the stream. Return the type of the last one."""
        last = ""
        with HubClient(self._hub, self._silence_s or _DEFAULT_SILENCE_S) as client:
            response = client.subscribe(self._query, self._cursor)
            for event in _decode(client, response):
                if event.type == "hub.open" and self._silence_s is None:
                    client.allow_silence(_silence_of(event))
                if event.retry is not None:
                    low, high = RETRY_BOUNDS_MS
                    self._retry.first_s = min(max(event.retry, low), high) / 1000
                if event.id and event.id != self._cursor:
                    self._cursor = event.id
                    # From here on the cursor says where to start.
                    self._query = [it for it in self._query if it[0] not in _START_PARAMETERS]
                self._retry.reset()
                yield event
                if event.type == "hub.bye" and _reason(event) == "ended":
                    raise TopicsEnded
                last = event.type
        return last


def _decode(client: HubClient, response: HTTPResponse) -> Iterator[ServerSentEvent]:
    try:
        yield from sse.decode(_flushing(client.chunks(response)))
    except sse.EventTooLarge as error:
        message = f"{client.hub.origin}: {error}, which tidings tail does not read."
        raise PermanentFailure(message) from error


def _silence_of(opening: ServerSentEvent) -> float:
    """Return after how many seconds without a byte a hub's connection counts as dead."""
    heartbeat = (json_object(opening.data) or {}).get("heartbeat")
    if not isinstance(heartbeat, int | float) or not heartbeat > 0:
        return _DEFAULT_SILENCE_S
    return min(max(_SHORTEST_SILENCE_S, _SILENT_HEARTBEATS * heartbeat), _LONGEST_SILENCE_S)


def _flushing(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Print the events of each chunk before the wait for the next one."""
    sys.stdout.flush()
    for chunk in chunks:
        yield chunk
        sys.stdout.flush()


@click.command(epilog=_EPILOG)
@click.argument("topics", metavar="[TOPIC]...", nargs=-1)
@click.option("--since", metavar="TIME", help="Start at an age (15m), Unix seconds, or ISO 8601.")
@click.option("--latest", is_flag=True, help="Start with the newest event of each topic.")
@click.option("--last", metavar="N", type=click.IntRange(0), help="Start with the newest N events.")
@click.option(
    "--from", "cursor", metavar="ID", help="Start after the event with this id; earliest: all."
)
@click.option("--count", "-n", metavar="N", type=click.IntRange(1), help="Stop after N events.")
@click.option("--once", is_flag=True, help="Print what the event log has, and stop.")
@click.option("--json", "json_", is_flag=True, help="Print each event as a line of JSON.")
@click.option("--silence", type=duration, help=_SILENCE_HELP)
@hub_options
def tail(  # noqa: PLR0913 - where to start, and how to print
    topics: tuple[str, ...],
    *,
    url: str | None,
    token: str | None,
    since: str | None,
    latest: bool,
    last: int | None,
    cursor: str | None,
    count: int | None,
    once: bool,
    json_: bool,
    silence: float | None,
) -> None:
    """Print the events of some topics as they are published.

    TOPIC is a name, *, or a URI template. Default: events. When the connection is lost or the hub
    restarts, it reconnects, and no event is lost or printed twice. It stops when all its topics
    have ended.

    With --once it stops at the end of the event log. It then starts with the oldest event, if you
    do not say where to start.

    On a terminal it prints the time, topic, type and data, otherwise only the data. With --json
    it prints id, topic, topics, type, time, private and data. Control events (events are lost, the
    token expires) go to stderr.
    """
    if cursor and re.search(r"[\0\r\n]", cursor):
        message = "--from takes the id of an event, which is one line."
        raise click.UsageError(message)
    query = [("topic", topic) for topic in topics]
    query += [("last", str(last))] * (last is not None) + [("since", since or "")] * bool(since)
    query += [("latest", "1")] * latest  # also with a cursor, which may be lost
    if once and not (cursor or latest or since or last is not None):
        cursor = "earliest"
    if json_ or sys.stdout.isatty():
        query.append(("envelope", "1"))
    hub = RemoteHub.from_options(url, token)
    if silence is not None:
        silence = min(silence or _LONGEST_SILENCE_S, _LONGEST_SILENCE_S)
    subscriber = ReconnectingSubscriber(hub, query, cursor, silence, once=once)
    format_event = _formatter(topics, json_=json_)
    progress = Progress(expects_events=not once and bool(cursor or since or last))
    try:
        _print_events(subscriber.events(), format_event, progress, latest=latest, count=count)
    except TopicsEnded as ended:
        click.echo(ended.message, err=True)
    sys.stdout.flush()


def _print_events(
    events: Iterable[ServerSentEvent],
    format_event: Callable[[ServerSentEvent], str],
    progress: Progress,
    *,
    latest: bool,
    count: int | None,
) -> None:
    printed, in_snapshot = 0, False
    for event in events:
        in_snapshot = in_snapshot or (latest and event.type == "hub.open")
        if event.type.startswith("hub."):
            _report(event, progress, latest=latest)
        else:
            shown = _with_own_id(event) if in_snapshot else event
            sys.stdout.write(format_event(shown) + "\n")
            progress.step(shown)
        in_snapshot = in_snapshot and not event.id
        if event.type.startswith("hub."):
            continue
        printed += 1
        if printed == count:
            return


def _formatter(topics: tuple[str, ...], *, json_: bool) -> Callable[[ServerSentEvent], str]:
    on_terminal = sys.stdout.isatty()
    if json_:
        topic = topics[0] if len(topics) == 1 else None if topics else "events"
        exact = topic if topic != "*" and "{" not in (topic or "") else None
        return lambda event: as_json(event, exact, ascii_only=on_terminal)
    if on_terminal:
        colors = wants_colors()
        return lambda event: for_terminal(event, colors=colors)
    return lambda event: event.data


def _with_own_id(event: ServerSentEvent) -> ServerSentEvent:
    """Return an event of a snapshot with its id, which is in its envelope alone."""
    own_id = (json_object(event.data) or {}).get("id")
    return event._replace(id=own_id) if isinstance(own_id, str) else event


def _reason(event: ServerSentEvent) -> str:
    return str((json_object(event.data) or {}).get("reason"))


def _report(event: ServerSentEvent, progress: Progress, *, latest: bool) -> None:
    """Print what a control event says to stderr."""
    fields, reason = json_object(event.data) or {}, _reason(event)
    if event.type == "hub.open":
        if latest and not event.id:
            return  # a snapshot follows
        progress.begin(fields.get("replay", 0))
    elif event.type == "hub.reset":
        begins = "begins with the newest events again" if latest else "continues with new events"
        unknown = f"the hub does not know the cursor: it {begins}"
        click.echo(_RESETS.get(reason, unknown), err=True)
    elif event.type == "hub.expiring":
        click.echo("the token expires within a minute", err=True)
    elif event.type == "hub.bye" and reason not in _ROUTINE_ENDS:
        text = escape_controls(reason)[:100]
        click.echo(f"the hub ends the stream: {text}; reconnecting", err=True)
