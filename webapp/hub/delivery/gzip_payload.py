"""A payload for the subscribers of a feed with gzip, in the forms that they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ...core import gzip_format
from ...core.sse import Payload

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable


class Member(Protocol):
    """A subscriber of a feed with gzip, as far as its compression needs it."""

    gzip: Any
    """Its `GzipStream`."""


class GzipFeed(Protocol):
    """A feed's compression, as far as its payloads need it."""

    def note_sent_alone(self, member: Member, plain: bytes) -> None:
        """Count what a subscriber was sent alone, unless it has left."""

    def end(self, payload: PayloadForAll) -> None:
        """Count those out that were not sent the payload."""


class GzipPayload(Payload):
    """A payload of which each subscriber is sent a form that its gzip stream can go on with."""

    __slots__ = ("feed", "plain")

    def __init__(self, feed: GzipFeed, plain: bytes, part: bytes, event_count: int) -> None:
        super().__init__(part, event_count)
        self.feed = feed
        self.plain = plain


class PayloadForEach(GzipPayload):
    """A payload that is stored, for each subscriber alone."""

    __slots__ = ()

    def __init__(self, feed: GzipFeed, plain: bytes, event_count: int = 0) -> None:
        super().__init__(feed, plain, gzip_format.stored(plain), event_count)

    def note_sent(self, subscribers: Collection[Member]) -> None:
        """See `Payload`."""
        for member in subscribers:
            self.feed.note_sent_alone(member, self.plain)


class PayloadForAll(GzipPayload):
    """A payload that all subscribers of the feed are sent.

    :param pause: called between two pieces of work.
    """

    __slots__ = ("_counted", "_sent", "_stored", "forms", "pause", "unsent_count")

    def __init__(
        self,
        feed: GzipFeed,
        plain: bytes,
        part: bytes,
        event_count: int,
        pause: Callable[[], object],
    ) -> None:
        super().__init__(feed, plain, part, event_count)
        self.pause = pause
        self.unsent_count = 0
        """How many subscribers have yet to be sent it, at most."""
        self._counted: list[Iterable[Member]] = []  # that were sent it, and are not in `_sent` yet
        self._sent: set[Member] = set()
        self.forms: dict[Member, Payload] = {}
        """The forms of subscribers that cannot be sent this one."""
        self._stored: Payload | None = None

    def __exit__(self, *_: object) -> None:
        self.feed.end(self)

    def store_for(self, member: Member) -> None:
        """Send a subscriber the payload without compression."""
        self._stored = self._stored or Payload(gzip_format.stored(self.plain))
        self.forms[member] = self._stored

    def other_form(self) -> Callable[[Any], Payload | None] | None:
        """See `Payload`."""
        return self.forms.get if self.forms else None

    def note_sent(self, subscribers: Collection[Member]) -> None:
        """See `Payload`. Some had it already, and were sent it once more."""
        self.unsent_count -= len(subscribers)
        if self.forms:
            for member in subscribers:
                if member in self.forms and self.was_sent_to(member):
                    self.unsent_count += 1
                    self.feed.note_sent_alone(member, self.plain)
        self._counted.append(subscribers)

    def let_have(self, member: Member) -> None:
        """Count a subscriber that has it anyway. Once more it is sent it without compression."""
        self._sent.add(member)
        self.store_for(member)

    def was_sent_to(self, member: Member) -> bool:
        """Return whether a subscriber of the feed was sent it."""
        # Seldom asked: to put all of them into a set would cost as much as a third of the write.
        self._sent.update(*self._counted)
        self._counted.clear()
        return member in self._sent
