"""A pipe's lines, published as they come.

What has come is sent as one NDJSON body, and while its answer is on its way the next lines gather
in the pipe: one round trip each, whatever the rate, and whatever proxy lies between (some hold a
request's body back, some cut one that lasts). What is kept is one piece of the pipe: that is the
bound. Each line has an id of its own, so what is sent again is not there twice.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from contextlib import suppress
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .client import json_object
from .retry import Backoff, PermanentFailure, TemporaryFailure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPConnection
    from typing import NoReturn

    from .client import HubClient

_PIECE = 256 << 10  # bytes that are read at once
_MOST_LINE = 8 << 20  # bytes: more than a hub takes by default
_MOST_BODY = 512 << 10  # bytes: below what proxies take (nginx: 1 MiB)
_MOST_LINES = 1000
_TIMEOUT = 25.0  # seconds for an answer; Heroku's router gives up after 30
_LONG = 5.0  # seconds after which the next body has fewer lines
_GOODBYE = 5.0  # seconds for what was read when it is stopped
_OF_ONE_LINE = {400, 409, 413}
_NOT_GRANTED = 403
_TOO_LARGE = 413


class Line(NamedTuple):
    """One line of stdin, to be published."""

    number: int
    event: bytes  # as JSON


class LinePublisher:
    """Publishes lines until there are no more.

    :param about: the members that each event has; where lines are JSON, that it has by default.
    :param ndjson: whether lines are events as JSON; else they are data.
    """

    def __init__(
        self, remote: HubClient, about: dict[str, Any], backoff: Backoff, *, ndjson: bool
    ) -> None:
        self._remote = remote
        self._about = about
        self._backoff = backoff
        self._ndjson = ndjson
        self._connection: HTTPConnection | None = None
        self._size = _MOST_LINES
        self._name = secrets.token_hex(8)
        self._waiting: list[Line] = []
        self._last_id: str | None = None
        self._published = self._refused = 0

    @property
    def summary(self) -> dict[str, Any]:
        """What became of the lines."""
        found = {"published": self._published, "refused": self._refused}
        return {**found, "last_id": self._last_id}

    def run(self, source: int) -> int:
        """Publish all lines of a file descriptor; return the exit code.

        SIGINT and SIGTERM end it; what was read is still published if the hub is there, unless
        they come a second time.
        """
        signal.signal(signal.SIGTERM, _interrupt)
        code = 0
        try:
            for lines in self._lines(source):
                self._waiting += lines
                self._send()
        except KeyboardInterrupt:
            code = 130
            self._backoff = Backoff(_GOODBYE)
            self._hang_up()
            with suppress(PermanentFailure, KeyboardInterrupt):
                self._send()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._hang_up()
            self._tell()
        return code or int(self._refused > 0)

    def _tell(self) -> None:
        told = f"published {self._published} event{'s' * (self._published != 1)}"
        told += f", refused {self._refused}" if self._refused else ""
        click.echo(
            told + (f", not published {len(self._waiting)}" if self._waiting else ""), err=True
        )

    def _lines(self, source: int) -> Iterator[list[Line]]:
        """Yield the lines that have come, a piece of the pipe at a time."""
        number, rest, over = 0, b"", False
        while True:
            piece = os.read(source, _PIECE)
            *texts, rest = (rest + piece).split(b"\n")
            if not piece and (rest or over):
                texts, rest = [rest], b""
            lines = []
            for text in texts:
                number += 1
                if over or len(text) > _MOST_LINE:
                    self._refuse(number, f"it has over {_MOST_LINE} bytes")
                elif event := self._event(number, text.removesuffix(b"\r")):
                    lines.append(Line(number, event))
                over = False
            if len(rest) > _MOST_LINE:
                rest, over = b"", True
            yield lines
            if not piece:
                return

    def _event(self, number: int, text: bytes) -> bytes | None:
        if not self._ndjson:
            item = {**self._about, "data": text.decode("utf-8", "replace")}
        elif not text.strip():
            return None
        else:
            said = json_object(text)
            if said is None:
                self._refuse(number, "it is not a JSON object")
                return None
            item = {**self._about, **said}
        item["id"] = item.get("id") or f"{self._name}.{number}"
        return json.dumps(item, ensure_ascii=False).encode("utf-8", "surrogatepass")

    def _refuse(self, number: int, why: str) -> None:
        self._refused += 1
        click.echo(f"line {number} was not published: {why}", err=True)

    def _send(self) -> None:
        """Send what waits, again and again, until each line is published or refused."""
        while self._waiting:
            part = self._part()
            began = time.monotonic()
            try:
                done = self._post(part)
            except TemporaryFailure as away:
                self._hang_up()
                self._size = max(1, self._size // 4)
                del self._waiting[: away.published]
                self._published += away.published
                self._backoff.wait(away)
                continue
            except PermanentFailure as failed:
                self._blame(failed, part)
                continue
            del self._waiting[:done]
            self._published += done
            self._backoff.done()
            slow = time.monotonic() - began > _LONG
            self._size = max(1, self._size // 2) if slow else min(_MOST_LINES, self._size * 2)

    def _part(self) -> list[Line]:
        """Return the first lines, as many as one body may have."""
        room = accumulate(len(line.event) for line in self._waiting[: self._size])
        fitting = sum(1 for _ in takewhile(lambda size: size <= _MOST_BODY, room))
        return self._waiting[: max(1, fitting)]

    def _post(self, part: list[Line]) -> int:
        """Return how many of the lines are published."""
        body = b"".join(line.event + b"\n" for line in part)
        headers = {"Content-Type": "application/x-ndjson", "Accept": "application/json"}
        used = self._connection is not None
        self._connection = self._connection or self._remote.connect(_TIMEOUT)
        try:
            answer = self._remote.ask(self._connection, "POST", body=body, headers=headers)
        except TemporaryFailure:
            if not used:
                raise
            # The server has closed a connection that was quiet, as it may.
            self._hang_up()
            return self._post(part)
        body = self._remote.read(answer)
        try:
            found = json_object(body) or {}
            done, last_id = int(found["published"]), found["last_id"]
        except (ValueError, KeyError, TypeError):
            message = f"{self._remote.where} answers, but not as a hub does."
            raise PermanentFailure(message) from None
        self._last_id = last_id or self._last_id
        if not done:
            message = f"{self._remote.where} is stopping"
            raise TemporaryFailure(message)
        return done

    def _blame(self, failed: PermanentFailure, part: list[Line]) -> None:
        """Leave out the line that is to blame.

        :raises Failed: no line is, or all are.
        """
        number = failed.about.get("line")
        theirs = failed.status in _OF_ONE_LINE or (self._ndjson and failed.status == _NOT_GRANTED)
        if isinstance(number, int) and 0 < number <= len(part) and theirs:
            self._published += number - 1
            self._refuse(part[number - 1].number, failed.message)
            del self._waiting[:number]
        elif failed.status == _TOO_LARGE and len(part) > 1:  # to a proxy before the hub
            self._size = max(1, self._size // 2)
        elif failed.status == _TOO_LARGE:
            self._refuse(part[0].number, failed.message)
            del self._waiting[:1]
        else:
            raise failed

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
