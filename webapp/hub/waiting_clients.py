"""Clients that wait for an answer while past events are read for them."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from ..errors import ServiceUnavailable, TidingsError
from .read_queue import Reading, ReadingCancelled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .quota import StreamQuota
    from .socket_protocol import SubscriberSocket


class WaitingClients:
    """Clients that wait. Each counts as a stream until its answer, its hang-up, or a stop."""

    def __init__(self, quota: StreamQuota) -> None:
        self._quota = quota
        self._readings: set[Reading] = set()
        self._draining = False

    @contextmanager
    def read_for(self, client: str, socket: SubscriberSocket | None) -> Iterator[Reading]:
        """Read past events for a client inside the context. When it ends, nothing yields to the
        loop.

        :param client: the name under which limits count it.
        :param socket: the client's; it notices a hang-up.
        :raises ServiceUnavailable: the client hung up, or the hub stops.
        """
        reading = Reading(client)
        self._readings.add(reading)
        self._quota.acquire(client)
        try:
            with socket.on_hangup(reading.cancel) if socket else nullcontext():
                yield reading
        except (ReadingCancelled, TidingsError) as error:
            if socket:
                socket.answer_last()
            if isinstance(error, TidingsError):
                raise
            reason = "drain" if self._draining else "client_left"
            detail = "The worker stopped before the stream began."
            raise ServiceUnavailable(detail, "Try again in a moment.", reason=reason) from None
        finally:
            self._quota.release(client)
            self._readings.discard(reading)

    def drain(self) -> None:
        """End all readings."""
        self._draining = True
        for reading in self._readings:
            reading.cancel()
