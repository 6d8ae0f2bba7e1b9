"""A reader that notes when everything arrives, and a publisher: what `tidings check` has."""

from __future__ import annotations

import socket
import threading
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import click

from ...core import sse
from ..retry import TemporaryFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.client import HTTPConnection, HTTPMessage, HTTPResponse

    from ...core.sse import ServerSentEvent
    from ..client import HubClient

_PIECE = 64 << 10
_QUIET = 90.0  # seconds: longer than anything that is waited for
_TIMEOUT = 15.0
_OK = 200


class RecordingSubscriber(threading.Thread):
    """A stream, read in a thread.

    :param cursor: as a header, or with `by_query` as a query parameter.
    """

    def __init__(
        self, remote: HubClient, topic: str, cursor: str | None = None, *, by_query: bool = False
    ) -> None:
        super().__init__(daemon=True)
        self.headers: HTTPMessage | None = None  # once they are there
        self.version = 11
        self.failure: Exception | None = None
        self.opened = 0.0  # when the request was sent
        self.last_byte = self.ended = 0.0
        self.seen: list[tuple[float, ServerSentEvent]] = []  # and when
        self._remote = remote
        self._query = [("topic", topic)]
        # As a browser asks: only then a proxy shows that it compresses.
        self._headers = {"Accept": "text/event-stream", "Accept-Encoding": "gzip, deflate"}
        if cursor and by_query:
            self._query.append(("last_event_id", cursor))
        elif cursor:
            self._headers["Last-Event-ID"] = cursor
        self._socket: socket.socket | None = None
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            with suppress(OSError):
                # Not SSLSocket's own, which pulls the rug from under the thread that reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        self.join(_TIMEOUT)

    def until(self, condition: Callable[[Self], object], seconds: float) -> bool:
        """Wait until a condition of this reader holds; return whether it does."""
        with self._changed:
            self._changed.wait_for(lambda: condition(self) or self.failure, seconds)
            return bool(condition(self))

    def run(self) -> None:
        """Read until it is closed."""
        try:
            self._read()
        except Exception as error:  # noqa: BLE001 - it is told in the other thread
            self._note(failure=error, ended=time.monotonic())
        else:
            self._note(failure=TemporaryFailure("The stream has ended"), ended=time.monotonic())

    def _read(self) -> None:
        connection = self._remote.connect(_QUIET)
        try:
            self._socket = connection.sock
            self.opened = time.monotonic()
            answer = self._remote.ask(connection, "GET", query=self._query, headers=self._headers)
            if answer.status != _OK:
                self._remote.read(answer)
            self._note(headers=answer.headers, version=answer.version)
            for message in sse.decode(self._pieces(answer)):
                with self._changed:
                    self.seen.append((time.monotonic(), message))
                    self._changed.notify_all()
        finally:
            connection.close()

    def _pieces(self, answer: HTTPResponse) -> Iterator[bytes]:
        encode_row = answer.headers.get("Content-Encoding", "identity") != "identity"
        unpack = zlib.decompressobj(wbits=47) if encode_row else None  # gzip or zlib
        while piece := answer.read1(_PIECE):
            if piece := unpack.decompress(piece) if unpack else piece:
                self._note(last_byte=time.monotonic())
                yield piece

    def _note(self, **values: object) -> None:
        with self._changed:
            for name, value in values.items():
                setattr(self, name, value)
            self._changed.notify_all()

    @property
    def published(self) -> list[tuple[float, ServerSentEvent]]:
        """What came, and when, but for what the hub itself says."""
        return [(when, message) for when, message in self.seen if message.type[:4] != "hub."]


class Publisher:
    """Publishes over one connection."""

    def __init__(self, remote: HubClient, topic: str, *, private: bool) -> None:
        self._remote = remote
        self._fields = {"topic": topic, **({"private": "on"} if private else {})}
        self._connection: HTTPConnection | None = None

    def publish(self, data: str) -> None:
        """Publish an event.

        :raises click.ClickException: the hub refuses.
        :raises Away: it does not answer.
        """
        self._connection = self._connection or self._remote.connect(_TIMEOUT)
        try:
            self._remote.publish(self._connection, {**self._fields, "data": data})
        except (TemporaryFailure, click.ClickException):
            self.close()
            raise

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
