"""How events look: as JSON lines, in colours on a terminal, as bare data in a pipe."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from .client import json_object

if TYPE_CHECKING:
    from ..core.sse import ServerSentEvent

_ENVELOPE = {"id", "topic", "topics", "type", "data"}
_BREAK = {ord("\n"): "\n  ", ord("\t"): "\t"}
_LONG = 200  # missed events that are worth a word
_OFTEN = 0.2  # seconds


def opened(message: ServerSentEvent) -> dict[str, Any] | None:
    """Return what the envelope of an event says, or None where the hub made none."""
    if not message.data.startswith("{"):
        return None
    about = json_object(message.data) or {}
    return about if about.keys() >= _ENVELOPE and about["id"] == message.id else None


def as_json(message: ServerSentEvent, topic: str | None, *, ascii_: bool = False) -> str:
    """Return an event as one line of JSON.

    :param topic: its topic, where the hub does not say it and only this was asked for.
    :param ascii_: whether to write other letters as escapes: a terminal obeys some of them.
    """
    if (about := opened(message)) is None:
        about = {"id": message.id, **({"topic": topic} if topic else {})}
        kind = None if message.type == "message" else message.type
        about |= {"type": kind, "data": message.data}
    return json.dumps(about, ensure_ascii=ascii_)


def in_colours(message: ServerSentEvent, *, colours: bool) -> str:
    """Return an event for people: its time, topic, type and data.

    Control characters are shown and not obeyed: what is published must not move the cursor.
    """
    about = opened(message) or {"type": message.type, "data": message.data}
    moment = _moment(message)
    parts: list[tuple[str, dict[str, Any]]] = [
        (time.strftime("%H:%M:%S", time.localtime(moment)), {"dim": True})
    ]
    parts += [(str(about.get("topic", "")), {"fg": "cyan"})]
    if about["type"] not in {"message", None}:
        parts += [(str(about["type"]), {"fg": "yellow"})]
    head = [(shown(text), style) for text, style in parts if text]
    told = [click.style(text, **style) if colours else text for text, style in head]
    return " ".join([*told, shown(str(about["data"]))])


def shown(text: str) -> str:
    """Return a text with its control characters as escapes."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else _BREAK.get(ord(letter)) or repr(letter)[1:-1]
        for letter in text
    )


def wants_colours() -> bool:
    """Whether stdout is a terminal whose user did not say NO_COLOR."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


class Progress:
    """Says on stderr how far a long replay is."""

    def __init__(self) -> None:
        self._missed: float = 0
        self._seen = 0
        self._began = self._told = 0.0
        # On one terminal with the events it would be written into them.
        self._counts = sys.stderr.isatty() and not sys.stdout.isatty()

    def begin(self, missed: object) -> None:
        """Take note of how many events follow; None: too many to count."""
        self._missed = missed if isinstance(missed, int) and missed >= _LONG else 0
        self._seen, self._began = 0, time.time()
        if missed is None:
            self._missed = float("inf")
            click.echo("replaying events, too many to be counted at once", err=True)
        elif self._missed:
            click.echo(f"replaying {self._missed:,} events", err=True)

    def step(self, message: ServerSentEvent) -> None:
        """Count one."""
        if not self._missed:
            return
        self._seen += 1
        now = time.time()
        if self._seen >= self._missed or (_moment(message) or 0) >= self._began:
            end = "\r" if self._counts else ""
            took = now - self._began
            click.echo(f"{end}replayed {self._seen:,} events in {took:.1f} s", err=True)
            self._missed = 0
        elif self._counts and now - self._told > _OFTEN:
            self._told = now
            position = f"of {self._missed:,}"
            if self._missed == float("inf"):
                position = time.strftime(
                    "up to %Y-%m-%d %H:%M:%S", time.localtime(_moment(message))
                )
            click.echo(f"\r{self._seen:,} {position}", err=True, nl=False)


def _moment(message: ServerSentEvent) -> float | None:
    """Return when an event was published, in Unix seconds, where its id says so."""
    ms = re.fullmatch(r"([0-9]{1,14})-[0-9]+", message.id)
    return int(ms[1]) / 1000 if ms else None
