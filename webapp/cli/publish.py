"""`tidings publish`: publish one event, or each line of stdin."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from .client import HubClient
from .line_publisher import LinePublisher
from .options import duration
from .remote_hub import RemoteHub, hub_options
from .retry import PermanentFailure, Retry, TemporaryFailure

_MAX_DATA_BYTES = 8 << 20  # more than a hub takes by default
_TIMEOUT_S = 60.0
_PATIENCE_S = 10.0
_RETRY_HELP = "Milliseconds that clients wait before they reconnect: 100 to 3600000."
_END_HELP = "It is the last event of its topics, whose streams then end."
_TTL_HELP = "After this time it is not sent any more, such as 90 or 10m. Default: never."
_PATIENCE_HELP = "When to give up if the hub does not answer. Default: 10s; with --follow: never."
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
@click.option("--topic", "-t", multiple=True, help="A topic; repeatable. Default: events.")
@click.option("--type", help="The type, for addEventListener. Default: message.")
@click.option("--id", help="Your own id, so that the event is published only once.")
@click.option("--private", is_flag=True, help="Only for subscribers whose token grants a topic.")
@click.option("--retry", metavar="MS", type=click.IntRange(0), help=_RETRY_HELP)
@click.option("--end", is_flag=True, help=_END_HELP)
@click.option("--ttl", metavar="TIME", help=_TTL_HELP)
@click.option("--follow", "-f", is_flag=True, help="Publish each line of stdin as it comes.")
@click.option("--ndjson", is_flag=True, help="With --follow: each line is an event as JSON.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the hub's answer, or a summary, as JSON."
)
@click.option("--patience", type=duration, help=_PATIENCE_HELP)
@hub_options
def publish(  # noqa: PLR0913 - the members of an event, and how to publish it
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
    """Publish DATA, or else stdin, and print the event's id.

    It removes one line feed at the end of stdin. If it cannot reach the hub, it tries again. If it
    reached the hub and got no answer, the hub may have published the event. It then tries again
    only with --id.

    With --follow, each line of stdin is an event with its own id. When the hub restarts, no line
    is lost or published twice. While the hub does not answer, the command does not read stdin. If
    the hub refuses a line, the command prints the line's number, and publishes the next lines.
    """
    hub = RemoteHub.from_options(url, token)
    members = {
        name: it for name, it in fields.items() if not (it is None or it is False or it == ())
    }
    if follow:
        if data is not None or "id" in members:
            message = "With --follow the data come from stdin, and each line has its own id."
            raise click.UsageError(message)
        if "end" in members:
            message = "--end is for one event. With --follow --ndjson, a line may have end."
            raise click.UsageError(message)
        retry = Retry(float("inf") if patience is None else patience)
        publisher = LinePublisher(hub, members, retry, ndjson=ndjson)
        code = publisher.run(sys.stdin.fileno())
        if as_json:
            click.echo(json.dumps(publisher.summary))
        click.get_current_context().exit(code)
    if ndjson:
        message = "--ndjson needs --follow."
        raise click.UsageError(message)
    form = {**members, "data": _read_stdin() if data in {None, "-"} else data}
    form |= {name: "1" for name in ("private", "end") if name in form}
    retry = Retry(_PATIENCE_S if patience is None else patience)
    click.echo(_publish(hub, form, retry, "application/json" if as_json else "text/plain"))


def _publish(hub: RemoteHub, form: dict[str, Any], retry: Retry, accept: str) -> str:
    """Publish an event; return the hub's answer.

    It is tried again only if it cannot be published twice.
    """
    with HubClient(hub, _TIMEOUT_S) as client:
        while True:
            try:
                return hub.redact(client.publish(form, accept))
            except TemporaryFailure as failure:
                client.close()
                if not (failure.unprocessed or "id" in form):
                    message = (
                        f"{failure}. It may have been published; with --id it can be tried again."
                    )
                    raise PermanentFailure(message) from None
                retry.wait(failure)


def _read_stdin() -> str:
    if os.isatty(sys.stdin.fileno()):
        click.echo("Type the data; Ctrl-D ends them.", err=True)
    body = sys.stdin.buffer.read(_MAX_DATA_BYTES + 1)
    if len(body) > _MAX_DATA_BYTES:
        message = "The data are larger than a hub takes; publish a link to them."
        raise PermanentFailure(message)
    try:
        text = body.decode("utf-8-sig")  # some editors and shells put a byte order mark first
    except UnicodeDecodeError:
        message = "The data are not UTF-8, which all events are; convert them, as with iconv."
        raise PermanentFailure(message) from None
    return text.removesuffix("\n").removesuffix("\r")
