"""Limit what publishers hold in a worker: open pipes, and the memory of unfinished bodies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from ..errors import ServiceUnavailable, TooManyRequests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_UNFINISHED_BODIES = 32  # of the largest size, whose bytes a worker holds
_MIN_UNFINISHED_BYTES = 2 << 20
_PUBLISHER_SHARES = 4  # one publisher may hold a quarter of it


class PublisherQuota(ABC):
    """Limits how much all publishers hold together, and how much each publisher holds.

    :param limit: of all together; 0: any amount.
    :param limit_each: of one publisher; 0: any amount.
    """

    def __init__(self, limit: int, limit_each: int) -> None:
        self._limit = limit
        self._limit_each = limit_each
        self._held: Counter[str] = Counter()  # by publisher
        self._total = 0
        self._lock = Lock()  # a server may have a thread for each request

    @contextmanager
    def share(self, publisher: str, amount: int = 0) -> Iterator[Callable[[int], None]]:
        """Count what one request holds, until the end of the block.

        :param amount: what it holds first. The function that is yielded changes it.
        :raises TooManyRequests: the publisher would hold more than it may.
        :raises ServiceUnavailable: all publishers together would.
        """
        held = 0

        def hold(amount: int) -> None:
            nonlocal held
            self._change(publisher, amount - held)
            held = amount

        try:
            hold(amount)
            yield hold
        finally:
            hold(0)

    def _change(self, publisher: str, change: int) -> None:
        with self._lock:
            if change > 0:
                if 0 < self._limit_each < self._held[publisher] + change:
                    raise self._publisher_refusal()
                if 0 < self._limit < self._total + change:
                    raise self._refusal()
            self._total += change
            self._held[publisher] += change
            if not self._held[publisher]:
                del self._held[publisher]

    @abstractmethod
    def _publisher_refusal(self) -> TooManyRequests: ...

    @abstractmethod
    def _refusal(self) -> ServiceUnavailable: ...


class PipeQuota(PublisherQuota):
    """Limits how many pipes are open."""

    def _publisher_refusal(self) -> TooManyRequests:
        detail = (
            f"You have {self._limit_each} pipes open, the limit of TIDINGS_MAX_PIPES_PER_PUBLISHER."
        )
        remedy = "End one, send more events through each, or raise the setting."
        return TooManyRequests(detail, remedy, wait=1, reason="publisher_pipes")

    def _refusal(self) -> ServiceUnavailable:
        detail = f"The hub has {self._limit} pipes open, the limit of TIDINGS_MAX_PIPES."
        remedy = "Try again later, or raise the setting."
        return ServiceUnavailable(detail, remedy, reason="pipes")


class UnfinishedQuota(PublisherQuota):
    """Limits the bytes of large bodies, and of lines of pipes, that have not arrived completely."""

    def __init__(self, max_body_bytes: int) -> None:
        limit = max(MAX_UNFINISHED_BODIES * max_body_bytes, _MIN_UNFINISHED_BYTES)
        super().__init__(limit, limit // _PUBLISHER_SHARES)

    def _publisher_refusal(self) -> TooManyRequests:
        detail = "You are sending too many large bodies at once."
        remedy = "Wait until one has arrived, then send this one again."
        return TooManyRequests(detail, remedy, wait=1, reason="publisher_bodies")

    def _refusal(self) -> ServiceUnavailable:
        detail = "Too many large bodies are arriving at once."
        return ServiceUnavailable(detail, "Send it again in a moment.", reason="bodies")
