"""A subscriber in a thread, which records what arrives and when."""

from __future__ import annotations

import socket
import threading
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from ...core import sse
from ..client import HubClient, json_object
from ..retry import TemporaryFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.client import HTTPMessage, HTTPResponse

    from ...core.sse import ServerSentEvent
    from ..remote_hub import RemoteHub

_SILENCE_S = 3700.0  # longer than any wait for a heartbeat
_JOIN_TIMEOUT_S = 15.0


class RecordingSubscriber(threading.Thread):
    """A subscriber that records its stream until it is left as a context.

    :param query: its topic, and where to start.
    :param cursor: the id of the event after which to start, for the header Last-Event-ID.
    """

    def __init__(self, hub: RemoteHub, query: dict[str, str], cursor: str | None = None) -> None:
        super().__init__(daemon=True)
        self.headers: HTTPMessage | None = None
        self.failure: Exception | None = None
        """Why the stream ended; None: it has not ended."""
        self.received: list[tuple[float, ServerSentEvent]] = []
        """The time and the event, control events included; times are those of `monotonic`."""
        self.requested_at = self.last_byte_at = self.ended_at = 0.0
        self._client = HubClient(hub, _SILENCE_S)
        self._query = list(query.items())
        self._cursor = cursor
        self._socket: socket.socket | None = None
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            with suppress(OSError):
                # Not SSLSocket.shutdown, which breaks the read of the other thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        self.join(_JOIN_TIMEOUT_S)

    @property
    def events(self) -> list[tuple[float, ServerSentEvent]]:
        """What was received, without control events."""
        return [(at, event) for at, event in self.received if not event.type.startswith("hub.")]

    @property
    def coding_of_hub(self) -> str:
        """How the hub says that it compresses the stream."""
        opened = [event.data for _, event in self.received if event.type == "hub.open"]
        members = (opened and json_object(opened[0])) or {}
        return str(members.get("coding", "identity"))

    @property
    def data(self) -> list[str]:
        """The data of the events."""
        return [event.data for _, event in self.events]

    def wait_until(self, condition: Callable[[Self], object], timeout_s: float) -> bool:
        """Wait until a condition holds or the stream ends; return whether the condition holds."""
        with self._changed:
            self._changed.wait_for(lambda: condition(self) or self.failure, timeout_s)
            return bool(condition(self))

    def run(self) -> None:
        """Record until the stream ends."""
        failure: Exception = TemporaryFailure("The stream has ended")
        try:
            with self._client as client:
                self._socket = client.connect()
                self.requested_at = time.monotonic()
                # As a browser asks: a proxy that compresses does it only then.
                response = client.subscribe(self._query, self._cursor, "gzip, deflate")
                self._note(headers=response.headers)
                for event in sse.decode(self._chunks(response)):
                    self._note(received=[*self.received, (time.monotonic(), event)])
        except Exception as error:  # noqa: BLE001 - the other thread reports it
            failure = error
        self._note(failure=failure, ended_at=time.monotonic())

    def _note(self, **attributes: object) -> None:
        with self._changed:
            vars(self).update(attributes)
            self._changed.notify_all()

    def _chunks(self, response: HTTPResponse) -> Iterator[bytes]:
        compressed = response.headers.get("Content-Encoding", "identity") != "identity"
        unpacker = zlib.decompressobj(wbits=47) if compressed else None  # gzip or zlib
        for packed in self._client.chunks(response):
            if chunk := unpacker.decompress(packed) if unpacker else packed:
                self._note(last_byte_at=time.monotonic())
                yield chunk
