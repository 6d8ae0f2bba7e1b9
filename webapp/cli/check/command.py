"""`tidings check`: prove a running deployment."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from statistics import median

import click

from ..client import Duration, HubClient, remote_options
from ..output import wants_colours
from .results import BAD, LEFT, OK, CheckResult
from .streams import StreamChecks

_MARKS = {OK: ("✓", "+", "green"), BAD: ("✗", "x", "red"), LEFT: ("\N{EN DASH}", "-", "yellow")}
_WIDTH = 17  # of the names
_EPILOG = """\b
Examples:
  tidings check https://hub.example
  TIDINGS_TOKEN=$(tidings token -p 'tidings-check-{id}' -s 'tidings-check-{id}') \\
    tidings check https://hub.example --quick
"""


@click.command(epilog=_EPILOG)
@click.argument("where", metavar="[URL]", required=False)
@click.option("--quick", is_flag=True, help="Do not wait for a heartbeat.")
@click.option(
    "--wait",
    type=Duration(),
    default="20s",
    show_default=True,
    help="For a heartbeat at most; one comes every 15s by default.",
)
@click.option("--open", "meant_open", is_flag=True, help="Strangers are meant to publish.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@remote_options()
def check(  # noqa: PLR0913 - what to look at, and how to say it
    where: str | None,
    *,
    quick: bool,
    wait: float,
    meant_open: bool,
    as_json: bool,
    url: str | None,
    token: str | None,
) -> None:
    """Prove a running hub, from where its users are.

    It looks whether events arrive at once (many proxies hold them back), whether readers can
    resume, whether strangers can publish, how quick it is; and says what is wrong and how to
    mend it. It publishes to a topic of its own, tidings-check-…, and privately if its token may
    read that. The exit code is 1 when something is wrong.
    """
    remote = HubClient.of(where or url, token)
    wait = 0.0 if quick else min(wait, 3600.0)
    probes = StreamChecks(remote, wait=wait, meant_open=meant_open)
    found: list[CheckResult] = []
    for finding in probes.run():
        found.append(finding)
        if not as_json:
            click.echo(_line(finding, remote))
    good = all(finding.state != BAD for finding in found)
    if as_json:
        ms = [round(seconds * 1000, 3) for seconds in probes.latencies]
        latency = {"median": median(ms), "worst": max(ms)} if ms else None
        about = {"url": remote.where, "ok": good, "latency_ms": latency}
        click.echo(json.dumps({**about, "checks": [asdict(each) for each in found]}, indent=2))
    click.get_current_context().exit(0 if good else 1)


def _line(finding: CheckResult, remote: HubClient) -> str:
    nice, plain, colour = _MARKS[finding.state]
    mark = click.style(_known(nice, plain), fg=colour) if wants_colours() else _known(nice, plain)
    line = f"{mark} {finding.name:{_WIDTH}} {remote.safe(finding.detail)}"
    remedy = finding.remedy if finding.state != OK else ""
    return f"{line}\n  {'':{_WIDTH}} {_known('→', '->')} {remedy}" if remedy else line


def _known(nice: str, plain: str) -> str:
    try:
        nice.encode(sys.stdout.encoding)
    except (UnicodeEncodeError, LookupError):
        return plain
    return nice
