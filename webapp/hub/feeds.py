"""Who sees the same events: matching is done once for all of them."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING

from ..core import sse
from ..core.topics import EVERYTHING, SUBSCRIPTIONS_PATH, Selectors, granted, may_grant
from ..scheduling import TimeSlice, cooperative
from ..tasks import skip
from .head_index import HeadIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..core.events import Event, EventId
    from .subscriber import Subscriber


class Feed:
    """The parked readers that see the same events, in the same form.

    :param envelope: whether each event's data is put into JSON that names its topics.
    """

    def __init__(self, selectors: frozenset[str], grant: frozenset[str], *, envelope: bool) -> None:
        self.selectors = selectors
        self.granted = grant
        self.asked = Selectors(selectors)
        self.envelope = envelope
        self.has_templates = bool(self.asked.templates) and EVERYTHING not in selectors
        self.members = 0
        self.last_write = monotonic()
        # None of its readers sees an event after the first place, up to the second.
        self._blank: tuple[EventId, EventId] | None = None
        # Whether its readers may see subscription events.
        self.wants_presence = self.asked.may_match_prefix(SUBSCRIPTIONS_PATH) and may_grant(
            grant, SUBSCRIPTIONS_PATH
        )
        self.parked: set[Subscriber] = set()
        self.late_from: EventId | None = None
        """Its parked subscribers were sent all up to here; None: up to where the dispatcher is."""

    @cached_property
    def variables(self) -> int:
        """How many its templates name."""
        return self.asked.variables

    @property
    def heads(self) -> list[str]:
        """How the topics begin that its readers may see."""
        return [*self.asked.exact, *(it.head for it in self.asked.templates)]

    @cached_property
    def listed(self) -> str:
        """Its selectors as JSON, in order."""
        return json.dumps(sorted(self.selectors))

    def matches(self, event: Event, pace: TimeSlice | None = None) -> bool:
        """Whether its readers asked for the event and may see it. It yields to the loop where
        there are many topics to match.

        :param pace: how it does; None: of its own.
        """
        topics = event.draft.topics
        try:
            if not (
                self.asked.matches(topics[0])
                if len(topics) == 1
                else _any(self.asked, topics, pace)
            ):
                return False
            return not event.draft.private or self.permits(event)
        except Exception as error:  # noqa: BLE001 - it is left out for this feed only
            skip("feed", error)
            return False

    def work(self, event: Event) -> int:
        """Return what it takes to match an event, as topics times variables."""
        return len(event.draft.topics) * self.variables

    def permits(self, event: Event) -> bool:
        """Whether its readers may see the event; it yields to the loop as `matches` does."""
        topics = event.draft.topics
        return not event.draft.private or any(
            granted(self.granted, it) for it in cooperative(topics)
        )

    def frames(self, events: Iterable[Event], made: dict[EventId, bytes]) -> bytes:
        """Return what its readers are sent of events that they see.

        :param made: envelopes that were made for another feed; new ones are added.
        """
        if not self.envelope:
            return b"".join(event.frame for event in events)
        return b"".join(self._enveloped(event, made) for event in events)

    def named(self, event: Event) -> tuple[str, ...]:
        """Return those of an event's topics that its readers may be told of."""
        topics = event.draft.topics
        return (
            tuple(it for it in topics if granted(self.granted, it))
            if event.draft.private
            else topics
        )

    def skip(self, position: EventId) -> EventId:
        """Return up to which place nothing is known to be seen after a place: who looks through
        the log for rare events does it for all readers of the feed.
        """
        blank = self._blank
        return blank[1] if blank and blank[0] <= position < blank[1] else position

    def note_blank(self, after: EventId, upto: EventId) -> None:
        """Note that nothing after a place is seen, up to another one."""
        blank = self._blank
        joined = blank and blank[0] <= after <= blank[1]
        self._blank = (blank[0], max(blank[1], upto)) if blank and joined else (after, upto)

    def forget_blank(self) -> None:
        """Look anew: the log is not the one that it was."""
        self._blank = None

    def _enveloped(self, event: Event, made: dict[EventId, bytes]) -> bytes:
        try:
            topics = self.named(event)
            if topics != event.draft.topics:  # there may be as many of these as feeds: not kept
                return event.envelope_frame(topics)
            if event.position not in made:
                made[event.position] = event.envelope_frame(topics)
            return made[event.position]
        except Exception as error:  # noqa: BLE001 - it is left out for this feed only
            skip("feed", error)
            return sse.HEARTBEAT  # never nothing: an empty chunk ends a body


class FeedIndex:
    """The feeds that have readers; exact topics are indexed, however many there are."""

    def __init__(self) -> None:
        self._feeds: dict[tuple[frozenset[str], frozenset[str], bool], Feed] = {}
        self._exact: defaultdict[str, set[Feed]] = defaultdict(set)
        self._everything: set[Feed] = set()
        self._heads = HeadIndex[Feed]()
        self.presence_feeds: set[Feed] = set()
        """Those whose readers may see subscription events."""

    def __iter__(self) -> Iterator[Feed]:
        return iter(self._feeds.values())

    def __len__(self) -> int:
        return len(self._feeds)

    def get(self, selectors: frozenset[str], grant: frozenset[str], *, envelope: bool) -> Feed:
        """Return the feed of those rights, or a new one that nobody has entered."""
        found = self._feeds.get((selectors, grant, envelope))
        return found or Feed(selectors, grant, envelope=envelope)

    def enter(self, feed: Feed) -> Feed:
        """Count one more reader of a feed; return the one to be in, where another came first."""
        feed = self._feeds.setdefault((feed.selectors, feed.granted, feed.envelope), feed)
        feed.members += 1
        if feed.has_templates:
            self._heads.add(feed, feed.heads)
        else:
            for feeds in self._indexes(feed):
                feeds.add(feed)
        if feed.wants_presence:
            self.presence_feeds.add(feed)
        return feed

    def leave(self, feed: Feed) -> None:
        """Count one reader less; with the last one the feed is forgotten."""
        feed.members -= 1
        if feed.members:
            return
        del self._feeds[feed.selectors, feed.granted, feed.envelope]
        self.presence_feeds.discard(feed)
        if feed.has_templates:
            self._heads.discard(feed, feed.heads)
            return
        for feeds in self._indexes(feed):
            feeds.discard(feed)
        for text in feed.asked.exact:
            if text in self._exact and not self._exact[text]:
                del self._exact[text]

    def candidates(self, topics: Iterable[str]) -> set[Feed]:
        """Return the feeds without templates that may see an event of some topics."""
        return self._everything.union(*(self._exact.get(topic, ()) for topic in topics))

    @property
    def any_templates(self) -> bool:
        """Whether any feed has templates."""
        return bool(self._heads)

    def with_templates(self, topics: Iterable[str]) -> set[Feed]:
        """Return the feeds with templates that may see an event of some topics."""
        return self._heads.candidates(topics)

    def _indexes(self, feed: Feed) -> list[set[Feed]]:
        found = [self._exact[topic] for topic in feed.asked.exact]
        return [*found, self._everything] if EVERYTHING in feed.selectors else found


def _any(selectors: Selectors, topics: tuple[str, ...], pace: TimeSlice | None) -> bool:
    """Whether any topic is matched; those that are named are found first."""
    if selectors.names(topics) or not selectors.templates:
        return selectors.names(topics)
    return any(map(selectors.matches, cooperative(topics, pace)))
