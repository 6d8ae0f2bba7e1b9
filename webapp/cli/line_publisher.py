"""Publish the lines of a pipe as they come.

The lines that have come are sent as one NDJSON body. While the hub answers, the next lines gather
in the pipe. So there is one round trip at a time, whatever the rate, and no long request that a
proxy would buffer or cut. Memory is bounded: stdin is read only when nothing is left to send.
Each line has an id, so that a line that is sent twice is published once.
"""

from __future__ import annotations

import codecs
import json
import os
import secrets
import signal
import time
from contextlib import suppress
from http import HTTPStatus
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, Any

import click

from ..core.json_members import RepeatedMembers
from .client import HubClient, json_object
from .retry import PermanentFailure, Retry, TemporaryFailure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPResponse
    from typing import NoReturn

    from .remote_hub import RemoteHub

_READ_BYTES = 256 << 10
_MAX_LINE_BYTES = 8 << 20  # more than a hub takes by default
_MAX_BATCH_BYTES = 512 << 10  # less than proxies take (nginx: 1 MiB)
_MAX_BATCH_LINES = 1000
_TIMEOUT_S = 25.0  # Heroku's router gives up after 30
_SLOW_ANSWER_S = 5.0  # the batch after it has fewer lines
_GRACE_S = 5.0  # for what was read before a signal
_LINE_ERRORS = {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}


Line = tuple[int, bytes]  # its number, and the event as JSON


class LinePublisher:
    """Publishes lines until there are no more.

    :param members: the members of each event; a line of JSON may override them.
    :param ndjson: whether a line is an event as JSON; otherwise it is data.
    """

    def __init__(
        self, hub: RemoteHub, members: dict[str, Any], retry: Retry, *, ndjson: bool
    ) -> None:
        self._client = HubClient(hub, _TIMEOUT_S)
        self._members = members
        self._retry = retry
        self._ndjson = ndjson
        self._id_prefix = secrets.token_hex(8)
        self._batch_lines = _MAX_BATCH_LINES
        self._unsent: list[Line] = []
        self._last_id: str | None = None
        self._published = self._refused = 0

    @property
    def summary(self) -> dict[str, Any]:
        """The number of lines that were published and refused, and the id of the last event."""
        counts = {"published": self._published, "refused": self._refused}
        return {**counts, "last_id": self._last_id}

    def run(self, source: int) -> int:
        """Publish all lines of a file descriptor; return the exit code.

        SIGINT and SIGTERM end it. What was read before is still published if the hub answers,
        unless a second signal comes.
        """
        signal.signal(signal.SIGTERM, _interrupt)
        code = 0
        try:
            for lines in self._read_lines(source):
                self._unsent += lines
                self._send()
        except KeyboardInterrupt:
            code = 130
            self._retry = Retry(_GRACE_S)
            self._client.close()
            with suppress(PermanentFailure, KeyboardInterrupt):
                self._send()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._client.close()
            self._report()
        return code or int(self._refused > 0)

    def _report(self) -> None:
        text = f"published {self._published} event{'s' * (self._published != 1)}"
        text += f", refused {self._refused}" if self._refused else ""
        text += f", not published {len(self._unsent)}" if self._unsent else ""
        click.echo(text, err=True)

    def _read_lines(self, source: int) -> Iterator[list[Line]]:
        """Yield the lines that have come, after each read of the pipe."""
        number, rest, too_long = 0, b"", False
        while True:
            chunk = os.read(source, _READ_BYTES)
            *texts, rest = (rest + chunk).split(b"\n")
            if not chunk and (rest or too_long):
                texts, rest = [rest], b""
            lines = []
            for text in texts:
                number += 1
                if too_long or len(text) > _MAX_LINE_BYTES:
                    self._refuse(number, f"it has over {_MAX_LINE_BYTES} bytes")
                elif event := self._event(number, text.removesuffix(b"\r")):
                    lines.append((number, event))
                too_long = False
            if len(rest) > _MAX_LINE_BYTES:
                rest, too_long = b"", True
            yield lines
            if not chunk:
                return

    def _event(self, number: int, text: bytes) -> bytes | None:
        """Return a line as JSON, or None if there is nothing to publish."""
        if number == 1:
            text = _without_bom(text)
        if not self._ndjson:
            event = {**self._members, "data": text.decode("utf-8", "replace")}
        elif not text.strip():
            return None
        elif (members := json_object(text)) is None:
            self._refuse(number, "it is not a JSON object")
            return None
        elif isinstance(members, RepeatedMembers):
            self._refuse(number, f"it has {json.dumps(min(members.names))} more than once")
            return None
        else:
            event = {**self._members, **members}
        event["id"] = event.get("id") or f"{self._id_prefix}.{number}"
        return json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass")

    def _refuse(self, number: int, why: str) -> None:
        self._refused += 1
        click.echo(f"line {number} was not published: {why}", err=True)

    def _send(self) -> None:
        """Send the lines, again and again, until each is published or refused."""
        while self._unsent:
            batch = self._next_batch()
            began = time.monotonic()
            try:
                published = self._publish(batch)
            except TemporaryFailure as failure:
                self._client.close()
                self._batch_lines = max(1, self._batch_lines // 4)
                self._count_published(min(failure.published, len(batch)))
                self._retry.wait(failure)
            except PermanentFailure as failure:
                self._drop_bad_line(failure, batch)
            else:
                self._count_published(published)
                self._retry.reset()
                slow = time.monotonic() - began > _SLOW_ANSWER_S
                factor = 0.5 if slow else 2
                self._batch_lines = min(_MAX_BATCH_LINES, max(1, int(self._batch_lines * factor)))

    def _next_batch(self) -> list[Line]:
        """Return the first lines, as many as fit into one body."""
        sizes = accumulate(len(event) for _, event in self._unsent[: self._batch_lines])
        fitting = sum(1 for _ in takewhile(lambda size: size <= _MAX_BATCH_BYTES, sizes))
        return self._unsent[: max(1, fitting)]

    def _count_published(self, lines: int) -> None:
        del self._unsent[:lines]
        self._published += lines

    def _publish(self, batch: list[Line]) -> int:
        """Return how many of the lines are published."""
        reused = self._client.connected
        try:
            response = self._post(batch)
        except TemporaryFailure:
            if not reused:
                raise
            response = self._post(batch)  # the hub may have closed the idle connection
        answer = json_object(self._client.read(response)) or {}
        published = answer.get("published")
        if not isinstance(published, int) or not 0 <= published <= len(batch):
            message = f"{self._client.hub.origin} answers, but not as a hub does."
            raise PermanentFailure(message)
        self._last_id = answer.get("last_id") or self._last_id
        if not published:
            message = f"{self._client.hub.origin} is stopping"
            raise TemporaryFailure(message)
        return published

    def _post(self, batch: list[Line]) -> HTTPResponse:
        body = b"".join(event + b"\n" for _, event in batch)
        headers = {"Content-Type": "application/x-ndjson", "Accept": "application/json"}
        return self._client.request("POST", body=body, headers=headers)

    def _drop_bad_line(self, failure: PermanentFailure, batch: list[Line]) -> None:
        """Leave out the line that the hub refuses.

        :raises PermanentFailure: it refuses not one line but all.
        """
        number = failure.problem.get("line")
        about_line = failure.status in _LINE_ERRORS or (
            self._ndjson and failure.status == HTTPStatus.FORBIDDEN
        )
        if isinstance(number, int) and 0 < number <= len(batch) and about_line:
            self._count_published(number - 1)
            self._refuse(batch[number - 1][0], failure.message)
            del self._unsent[:1]
        elif failure.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise failure
        elif len(batch) > 1:  # too large for a proxy before the hub
            self._batch_lines = max(1, self._batch_lines // 2)
        else:
            self._refuse(batch[0][0], failure.message)
            del self._unsent[:1]


def _without_bom(text: bytes) -> bytes:
    """Return the first line without a byte order mark."""
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        message = "The input is UTF-16. Convert it to UTF-8, as with iconv -f UTF-16 -t UTF-8."
        raise PermanentFailure(message)
    return text.removeprefix(codecs.BOM_UTF8)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
