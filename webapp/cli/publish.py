"""`tidings publish`: one event, or a pipe's lines for as long as it lasts."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NoReturn

import click

from .client import Duration, HubClient, remote_options
from .line_publisher import LinePublisher
from .retry import Backoff, PermanentFailure, TemporaryFailure

_MOST = 8 << 20  # bytes of data: more than a hub takes by default
_TIMEOUT = 60.0  # seconds for an answer
_EPILOG = """\b
Examples:
  tidings publish Hello
  date | tidings publish --topic clock --type tick
  tidings publish --topic /users/7 --private 'You have mail'
  tail -F app.log | tidings publish --topic log --follow
  producer | tidings publish --follow --ndjson    # {"topic": …, "data": …}
"""


@click.command(epilog=_EPILOG)
@click.argument("data", required=False)
@click.option("--topic", "-t", "topics", multiple=True, help="Its topic; more are alternates.")
@click.option("--type", help="Its name, for addEventListener.")
@click.option("--id", help="Your own id: the same again is published once.")
@click.option("--private", is_flag=True, help="Only for readers whose token covers a topic.")
@click.option("--retry", type=click.IntRange(0), help="Milliseconds before readers reconnect.")
@click.option("--follow", "-f", is_flag=True, help="Publish each line of stdin as it comes.")
@click.option("--ndjson", is_flag=True, help="With --follow: each line is an event as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the hub's answer as JSON.")
@click.option(
    "--patience",
    type=Duration(),
    help="How long to try again while no hub answers: 10s, with --follow: never ends.",
)
@remote_options()
def publish(  # noqa: PLR0913 - what can be said of an event
    data: str | None,
    *,
    url: str | None,
    token: str | None,
    follow: bool,
    ndjson: bool,
    as_json: bool,
    patience: float | None,
    **fields: Any,
) -> None:
    """Publish DATA, or what stdin has, and print the event's id.

    One line end at the end of stdin is left out. A hub that cannot be reached is tried again; one
    that was reached and did not answer only with --id, since it may have published.

    With --follow each line of stdin is an event. They get ids of their own, so that none is lost
    and none is there twice when the hub restarts or an answer is lost. While the hub is away
    stdin waits. A line that is refused is told with its number and left out.
    """
    remote = HubClient.of(url, token)
    if follow:
        if data is not None or fields["id"]:
            message = "With --follow the data come from stdin, and each line has its own id."
            raise click.UsageError(message)
        backoff = Backoff(float("inf") if patience is None else patience)
        _follow(LinePublisher(remote, _event(fields), backoff, ndjson=ndjson), as_json=as_json)
    if ndjson:
        message = "--ndjson goes with --follow."
        raise click.UsageError(message)
    text = _stdin() if data in {None, "-"} else data or ""
    backoff = Backoff(10.0 if patience is None else patience)
    click.echo(_publish(remote, fields, text, backoff, as_json=as_json))


def _follow(follower: LinePublisher, *, as_json: bool) -> NoReturn:
    code = follower.run(sys.stdin.fileno())
    if as_json:
        click.echo(json.dumps(follower.summary))
    click.get_current_context().exit(code)


def _event(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the members of an event that the options name."""
    said = {"topic": list(fields["topics"]), "private": fields["private"]}
    said |= {name: fields[name] for name in ("type", "retry")}
    return {name: value for name, value in said.items() if value not in ([], None, False)}


def _publish(
    remote: HubClient, fields: dict[str, Any], text: str, backoff: Backoff, *, as_json: bool
) -> str:
    form = {"data": text, "type": fields["type"], "id": fields["id"], "retry": fields["retry"]}
    form |= {"topic": fields["topics"] or None, "private": "on" if fields["private"] else None}
    said = {name: value for name, value in form.items() if value is not None}
    accept = "application/json" if as_json else "text/plain"
    while True:
        try:
            connection = remote.connect(_TIMEOUT)
            try:
                return remote.safe(remote.publish(connection, said, accept))
            finally:
                connection.close()
        except TemporaryFailure as away:
            if not (away.certain or fields["id"]):
                message = f"{away}. It may have been published; with --id it can be tried again."
                raise PermanentFailure(message) from None
            backoff.wait(away)


def _stdin() -> str:
    if os.isatty(sys.stdin.fileno()):
        click.echo("Type the data; Ctrl-D ends them.", err=True)
    body = sys.stdin.buffer.read(_MOST + 1)
    if len(body) > _MOST:
        message = "The data are larger than a hub takes; publish a link to them."
        raise PermanentFailure(message)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        message = "The data are not UTF-8, which all events are; convert them, as with iconv."
        raise PermanentFailure(message) from None
    return text.removesuffix("\n").removesuffix("\r")
