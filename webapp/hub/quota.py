"""Limit the open streams of a process, in all and for each client."""

from __future__ import annotations

from collections import Counter

from ..errors import ServiceUnavailable, TooManyRequests


class StreamQuota:
    """Counts open streams and refuses one too many.

    :param limit: streams in all; 0: any number.
    :param limit_per_client: streams of one client; 0: any number.
    """

    def __init__(self, limit: int, limit_per_client: int) -> None:
        self._limit = limit
        self._limit_per_client = limit_per_client
        self._open = 0
        self._open_by_client: Counter[str] = Counter()

    def cap(self, limit: int) -> None:
        """Lower the limit of streams in all, unless there is none."""
        self._limit = min(self._limit, max(1, limit))

    def check(self, client: str) -> None:
        """Refuse a stream that would be one too many.

        :raises ServiceUnavailable: the hub is full.
        :raises TooManyRequests: the client has as many streams as it may.
        """
        if self._limit and self._open >= self._limit:
            detail = "The hub is full."
            remedy = "Try again later, or raise TIDINGS_MAX_SUBSCRIBERS."
            raise ServiceUnavailable(detail, remedy, reason="full")
        if self._limit_per_client and self._open_by_client[client] >= self._limit_per_client:
            detail = f"There are {self._limit_per_client} streams open from this address."
            remedy = "Close one, or raise TIDINGS_MAX_SUBSCRIBERS_PER_IP."
            raise TooManyRequests(detail, remedy, wait=1, reason="too_many")

    def acquire(self, client: str) -> None:
        """Count a stream; `release` must follow."""
        self._open += 1
        self._open_by_client[client] += 1

    def release(self, client: str) -> None:
        """Stop counting a stream; a client without streams is forgotten."""
        self._open -= 1
        self._open_by_client[client] -= 1
        if not self._open_by_client[client]:
            del self._open_by_client[client]
