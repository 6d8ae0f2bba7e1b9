"""`tidings check`: run the checks, and print their results."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING

import click

from ..options import duration
from ..output import wants_colors
from ..remote_hub import RemoteHub, hub_options
from .streams import StreamChecks

if TYPE_CHECKING:
    from .results import CheckResult

_MARKS = {"ok": ("✓", "+", "green"), "bad": ("✗", "x", "red"), "left": ("–", "-", "yellow")}  # noqa: RUF001 - an en dash is as wide as the others
_NAME_WIDTH = 17
_LONGEST_WAIT_S = 3600.0
_WAIT_HELP = "How long to wait for a heartbeat, at most 1h. A hub sends one every 15s."
_EPILOG = """\b
Examples:
  tidings check https://hub.example
  TIDINGS_TOKEN=$(tidings token -p 'tidings-check-{id}' -s 'tidings-check-{id}') \\
    tidings check https://hub.example --quick
"""


@click.command(epilog=_EPILOG)
@click.argument("where", metavar="[URL]", required=False)
@click.option("--quick", is_flag=True, help="Do not wait for a heartbeat.")
@click.option("--wait", type=duration, default="20s", show_default=True, help=_WAIT_HELP)
@click.option("--open", "intended_open", is_flag=True, help="Accept that anybody may publish.")
@click.option("--json", "as_json", is_flag=True, help="Print all results as one JSON object.")
@hub_options
def check(  # noqa: PLR0913 - what to check, and how to print it
    where: str | None,
    *,
    quick: bool,
    wait: float,
    intended_open: bool,
    as_json: bool,
    url: str | None,
    token: str | None,
) -> None:
    """Test a running hub from where its users are.

    It checks whether events arrive at once (many proxies hold them back), whether subscribers can
    resume, whether strangers can publish, and how long an event takes. If something is wrong, it
    says how to fix it, and the exit code is 1.

    It publishes to a topic of its own, tidings-check-…. If the hub has a key, it needs a token for
    tidings-check-{id}; see the second example.
    """
    hub = RemoteHub.from_options(where or url, token)
    wait_s = 0.0 if quick else min(wait, _LONGEST_WAIT_S)
    checks = StreamChecks(hub, heartbeat_wait_s=wait_s, intended_open=intended_open)
    results: list[CheckResult] = []
    for result in checks.run():
        results.append(result)
        if not as_json:
            click.echo(_line(result, hub))
    good = all(result.state != "bad" for result in results)
    if as_json:
        ms = [round(seconds * 1000, 3) for seconds in checks.latencies]
        latency = {"median": median(ms), "worst": max(ms)} if ms else None
        summary = {"url": hub.origin, "ok": good, "latency_ms": latency}
        click.echo(json.dumps({**summary, "checks": [asdict(it) for it in results]}, indent=2))
    click.get_current_context().exit(0 if good else 1)


def _line(result: CheckResult, hub: RemoteHub) -> str:
    symbol, ascii_symbol, color = _MARKS[result.state]
    mark = _printable(symbol, ascii_symbol)
    mark = click.style(mark, fg=color) if wants_colors() else mark
    line = f"{mark} {result.name:{_NAME_WIDTH}} {hub.redact(result.detail)}"
    if result.remedy:
        line += f"\n  {'':{_NAME_WIDTH}} {_printable('→', '->')} {result.remedy}"
    return line


def _printable(symbol: str, ascii_symbol: str) -> str:
    try:
        symbol.encode(sys.stdout.encoding)
    except (UnicodeEncodeError, LookupError):
        return ascii_symbol
    return symbol
