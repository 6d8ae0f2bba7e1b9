"""`tidings tail`: listen, for as long as it takes."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from ..core import sse
from ..core.events import RETRY_BOUNDS_MS
from .client import Duration, HubClient, json_object, remote_options
from .output import Progress, as_json, in_colours, shown, wants_colours
from .retry import Backoff, PermanentFailure, TemporaryFailure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPResponse

    from ..core.sse import ServerSentEvent

_PIECE = 64 << 10
_OK, _NO_CONTENT = 200, 204
_RETRY = 2.0  # seconds, until the hub says something else
_ROUTINE = {"max_age", "drain"}
_EPILOG = """\b
Examples:
  tidings tail                         the topic events, from now on
  tidings tail news '/users/{id}'      several; exact, * or a URI template
  tidings tail log --last 10           begin with the newest 10
  tidings tail '*' --from earliest --json | jq .
"""


class Reader:
    """Listens to a hub and comes back by itself, from its cursor.

    :param query: topics, and where to begin.
    :param silence: seconds without a byte after which the connection is taken for dead.
    """

    def __init__(
        self, remote: HubClient, query: list[tuple[str, str]], cursor: str | None, silence: float
    ) -> None:
        self.cursor = cursor
        self._remote = remote
        self._query = query
        self._silence = silence
        self._retry = _RETRY
        self._backoff = Backoff(base=_RETRY)

    def messages(self) -> Iterator[ServerSentEvent]:
        """Yield the messages, the hub's own included, without end.

        :raises Failed: the hub refuses.
        """
        while True:
            try:
                yield from self._stream()
                sys.stdout.flush()
                time.sleep(self._retry)  # the hub has jittered it
            except TemporaryFailure as away:
                sys.stdout.flush()
                self._backoff.base = self._retry
                self._backoff.wait(away)

    def _stream(self) -> Iterator[ServerSentEvent]:
        connection = self._remote.connect(self._silence)
        try:
            headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
            if self.cursor:
                headers["Last-Event-ID"] = self.cursor
            answer = self._remote.ask(connection, "GET", query=self._query, headers=headers)
            self._check(answer)
            for message in sse.decode(self._pieces(answer)):
                if message.retry is not None:
                    self._retry = min(message.retry, RETRY_BOUNDS_MS[1]) / 1000
                if message.id and message.id != self.cursor:
                    self._go_on_from(message.id)
                self._backoff.done()
                yield message
        finally:
            connection.close()

    def _go_on_from(self, cursor: str) -> None:
        self.cursor = cursor
        # Where to begin was for the first time; an id is exact.
        self._query = [(name, value) for name, value in self._query if name not in _START]

    def _check(self, answer: HTTPResponse) -> None:
        kind = answer.headers.get_content_type()
        if answer.status == _OK and kind == "text/event-stream":
            return
        if answer.status in {_OK, _NO_CONTENT}:
            where = self._remote.where
            message = f"{where} answers {answer.status} {self._remote.safe(kind)}, no event stream."
            raise PermanentFailure(message)
        self._remote.read(answer)

    def _pieces(self, answer: HTTPResponse) -> Iterator[bytes]:
        while True:
            sys.stdout.flush()
            try:
                with self._remote.talking():
                    piece = answer.read1(_PIECE)
            except TemporaryFailure as away:
                if isinstance(away.__cause__, TimeoutError):
                    message = f"{self._remote.where}: no byte for {self._silence:g} s"
                    raise TemporaryFailure(message) from None
                raise
            if not piece:
                return
            yield piece


_START = {"last", "since"}


@click.command(epilog=_EPILOG)
@click.argument("topics", metavar="[TOPIC]...", nargs=-1)
@click.option("--since", metavar="TIME", help="Begin at an age (15m), Unix seconds or ISO 8601.")
@click.option("--last", metavar="N", type=click.IntRange(0), help="Begin with the newest N.")
@click.option("--from", "cursor", metavar="ID", help="Begin after this event; earliest: with all.")
@click.option("--count", "-n", metavar="N", type=click.IntRange(1), help="End after N events.")
@click.option("--json", "json_", is_flag=True, help="An event a line as JSON: id, topic, data, …")
@click.option(
    "--silence",
    type=Duration(),
    default="45s",
    show_default=True,
    help="Without a byte, after which the connection is taken for dead: 3 heartbeats.",
)
@remote_options()
def tail(  # noqa: PLR0913 - where to begin, and how it looks
    topics: tuple[str, ...],
    *,
    url: str | None,
    token: str | None,
    since: str | None,
    last: int | None,
    cursor: str | None,
    count: int | None,
    json_: bool,
    silence: float,
) -> None:
    """Print what is published to some topics, for as long as it takes.

    It comes back by itself after a lost connection or a restart, from where it was. In a pipe it
    prints the bare data; on a terminal also time, topic and type; with --json everything. What
    the hub itself says (events that are no longer kept, a token that ends) goes to stderr.
    """
    query = [("topic", topic) for topic in topics]
    query += [("last", str(last))] * (last is not None) + [("since", since or "")] * bool(since)
    show = _show(topics, json_=json_)
    if json_ or sys.stdout.isatty():
        query.append(("envelope", "1"))
    timeout = None if silence == float("inf") else silence
    reader = Reader(HubClient.of(url, token), query, cursor, timeout or 86400.0)
    progress, left = Progress(), count
    for message in reader.messages():
        if message.type.startswith("hub."):
            _say(message, progress)
            continue
        sys.stdout.write(show(message) + "\n")
        progress.step(message)
        if left is not None:
            left -= 1
            if not left:
                return


def _show(topics: tuple[str, ...], *, json_: bool) -> Any:
    known = topics[0] if len(topics) == 1 else None if topics else "events"
    if known and (known == "*" or "{" in known):
        known = None
    if json_:
        ascii_ = sys.stdout.isatty()
        return lambda message: as_json(message, known, ascii_=ascii_)
    if sys.stdout.isatty():
        colours = wants_colours()
        return lambda message: in_colours(message, colours=colours)
    return lambda message: message.data


def _say(message: ServerSentEvent, progress: Progress) -> None:
    """Tell what the hub says itself."""
    about = json_object(message.data) or {}
    reason = about.get("reason")
    if message.type == "hub.open":
        progress.begin(about.get("replay", 0))
    elif message.type == "hub.reset" and reason == "aged":
        click.echo("events after the cursor are no longer kept: some are missing", err=True)
    elif message.type == "hub.reset" and reason == "presence":
        click.echo("some of who came and went is missing: list who listens anew", err=True)
    elif message.type == "hub.reset":
        click.echo("the hub does not know the cursor: it goes on with what comes", err=True)
    elif message.type == "hub.expiring":
        click.echo("the token ends within a minute", err=True)
    elif message.type == "hub.bye" and reason not in _ROUTINE:
        click.echo(f"the hub ends the stream: {shown(str(reason))[:100]}; coming back", err=True)
