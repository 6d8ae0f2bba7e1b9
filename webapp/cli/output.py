"""How events are printed: bare, as lines of JSON, or for people on a terminal."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from threading import Timer
from typing import TYPE_CHECKING, Any

import click

from .client import json_object

if TYPE_CHECKING:
    from ..core.sse import ServerSentEvent

_ENVELOPE_MEMBERS = {"id", "topic", "topics", "type", "data"}
_SPACES = {"\n": "\n  ", "\t": "\t"}  # how they are printed
_LONG_REPLAY_EVENTS = 200  # a shorter one is not reported
_REPORT_INTERVAL_S = 0.2
_QUIET_S = 2.0  # of a hub that could not count the events, until there seem to be none


def envelope_of(event: ServerSentEvent) -> dict[str, Any] | None:
    """Return the envelope that the hub put around an event, or None if there is none."""
    if not event.data.startswith("{"):
        return None
    envelope = json_object(event.data) or {}
    known = envelope.keys() >= _ENVELOPE_MEMBERS and envelope["id"] == event.id
    return envelope if known else None


def as_json(event: ServerSentEvent, topic: str | None, *, ascii_only: bool = False) -> str:
    """Return an event as one line of JSON.

    :param topic: the only topic that was asked for, for events without an envelope.
    :param ascii_only: escape all other characters, some of which would control a terminal.
    """
    members = envelope_of(event)
    if members is None:
        members = {"id": event.id, **({"topic": topic} if topic else {})}
        members["type"] = None if event.type == "message" else event.type
        members["data"] = event.data
    return json.dumps(members, ensure_ascii=ascii_only)


def for_terminal(event: ServerSentEvent, *, colors: bool) -> str:
    """Return an event for people: its time, topic, type and data.

    Control characters are escaped, so that an event cannot control the terminal.
    """
    envelope = envelope_of(event) or {"type": event.type, "data": event.data}
    moment = time.strftime("%H:%M:%S", time.localtime(_published_at(event)))
    type_ = "" if envelope["type"] in {"message", None} else str(envelope["type"])
    parts: list[tuple[str, dict[str, Any]]] = [
        (moment, {"dim": True}),
        (str(envelope.get("topic", "")), {"fg": "cyan"}),
        (type_, {"fg": "yellow"}),
    ]
    head = [(escape_controls(text), style) for text, style in parts if text]
    texts = [click.style(text, **style) if colors else text for text, style in head]
    return " ".join([*texts, escape_controls(str(envelope["data"]))])


def escape_controls(text: str) -> str:
    """Return a text with its control characters as escapes; line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else _SPACES.get(char) or repr(char)[1:-1] for char in text
    )


def wants_colors() -> bool:
    """Return whether stdout is a terminal, and neither NO_COLOR nor TERM=dumb is set."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


class Progress:
    """Reports on stderr how far a long replay is, and that there is nothing yet.

    :param expects_events: whether the start was chosen, so that there may be old events.
    """

    def __init__(self, *, expects_events: bool) -> None:
        self._expects_events = expects_events
        self._nothing_yet = Timer(_QUIET_S, _report_nothing)
        self._nothing_yet.daemon = True
        self._expected: float = 0  # events of the replay; infinity: not counted; 0: no replay
        self._seen = 0
        self._began = self._reported = 0.0
        # On one terminal with the events the counter would be printed into them.
        self._shows_counter = sys.stderr.isatty() and not sys.stdout.isatty()

    def begin(self, replay: object) -> None:
        """Take the number of events that will be replayed; None: too many to count."""
        self._seen, self._began = 0, time.time()
        if self._expects_events and replay == 0:
            _report_nothing()
        elif self._expects_events and replay is None:
            self._nothing_yet.start()
        self._expects_events = False
        if replay is None:
            self._expected = float("inf")
        elif isinstance(replay, int) and replay >= _LONG_REPLAY_EVENTS:
            self._expected = replay
            click.echo(f"replaying {replay:,} events", err=True)
        else:
            self._expected = 0

    def step(self, event: ServerSentEvent) -> None:
        """Count an event."""
        self._nothing_yet.cancel()
        if not self._expected:
            return
        now, published_at = time.time(), _published_at(event)
        is_new = (published_at or 0) >= self._began
        if self._expected == float("inf") and not self._seen:
            if is_new:
                self._expected = 0
                return
            click.echo("replaying events, too many to be counted at once", err=True)
        self._seen += 1
        if self._seen >= self._expected or is_new:
            end = "\r" if self._shows_counter else ""
            took = now - self._began
            click.echo(f"{end}replayed {self._seen:,} events in {took:.1f} s", err=True)
            self._expected = 0
        elif self._shows_counter and now - self._reported > _REPORT_INTERVAL_S:
            self._reported = now
            progress = f"of {self._expected:,}"
            if self._expected == float("inf"):
                progress = time.strftime("up to %Y-%m-%d %H:%M:%S", time.localtime(published_at))
            click.echo(f"\r{self._seen:,} {progress}", err=True, nl=False)


def _report_nothing() -> None:
    click.echo("nothing yet; waiting for events", err=True)


def _published_at(event: ServerSentEvent) -> float | None:
    """Return when an event was published, in Unix seconds, if its id says so."""
    match = re.fullmatch(r"([0-9]{1,14})-[0-9]+", event.id)
    return int(match[1]) / 1000 if match else None
