"""Feeds: the subscribers that see the same events in the same form. An event is matched and encoded
once for all of them.
"""

from __future__ import annotations

from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from ...core import sse
from ...core.sse import Payload
from ...core.topics import EVERYTHING, SUBSCRIPTIONS_PATH, TopicPatterns, grants, may_grant
from ...scheduling import cooperative
from ...tasks import skip
from .gzip_payload import PayloadForEach
from .shared_gzip import SharedGzip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ...core.events import Event, EventId
    from ...scheduling import TimeSlice
    from .subscriber import Subscriber


_MAX_GRANT_VARIABLES = 50  # a feed whose grant has more is matched last


class Form(NamedTuple):
    """The form in which a subscriber receives events.

    :param envelope: whether each event's data is put into JSON that names its topics.
    :param control: whether control events are sent.
    :param gzip: whether everything is compressed.
    :param console: whether the console asks, which no metric counts.
    """

    envelope: bool = False
    control: bool = True
    gzip: bool = False
    console: bool = False


PLAIN = Form()


class Feed:
    """The subscribers with the same patterns, the same grant, and the same form of events.

    :param patterns: which topics they asked for.
    :param grant: of which topics they may see private events.
    """

    def __init__(self, patterns: frozenset[str], grant: frozenset[str], form: Form = PLAIN) -> None:
        self.patterns = patterns
        self.grant = grant
        self.form = form
        self.matcher = TopicPatterns(patterns)
        self.grant_variables = sum(it.count("{") + it.count(",") for it in grant if "{" in it)
        """How many variables the URI templates of its grant name, at most."""
        self.matched_last = self.grant_variables > _MAX_GRANT_VARIABLES or (
            bool(self.matcher.templates) and EVERYTHING not in patterns
        )
        """Whether it is sent an event after all others, because templates have to be matched."""
        self.is_exact = not self.matcher.templates and EVERYTHING not in patterns
        """Whether it has no pattern: then its streams end when all its topics have ended."""
        self.is_counted = not form.console
        """Whether metrics count its subscribers, and what they are sent."""
        self.subscriber_count = 0
        self.parked: set[Subscriber] = set()
        """Its parked subscribers, and those that were woken and have not run since."""
        self.gzip = SharedGzip(self.parked) if form.gzip else None
        self.late_from: EventId | None = None
        """Its parked subscribers were sent all events up to here; None: up to where the dispatcher
        is.
        """
        self.last_write = monotonic()
        self.newest_end: EventId | None = None
        """The position of the newest event that ended one of its topics, as far as it is known."""
        self.looked_up: tuple[EventId | None, float, EventId | None] = (None, 0.0, None)
        """Where all its topics had ended, for one newest end, until a time; see `TopicEnds`."""
        self.wants_presence = self.matcher.may_match_prefix(SUBSCRIPTIONS_PATH) and may_grant(
            grant, SUBSCRIPTIONS_PATH
        )
        """Whether its subscribers may see subscription events."""
        # The feed matches no event after the first position, up to the second.
        self._unmatched: tuple[EventId, EventId] | None = None

    @cached_property
    def variables(self) -> int:
        """How many variables the URI templates of its patterns name."""
        return self.matcher.variables

    @property
    def heads(self) -> list[str]:
        """How the topics begin that it may match."""
        heads = [*self.matcher.exact, *(it.head for it in self.matcher.templates)]
        return [*heads, ""] if EVERYTHING in self.patterns else heads

    def park(self, subscriber: Subscriber) -> None:
        """Let the dispatcher write to a subscriber from now on."""
        subscriber.parked = True
        self.parked.add(subscriber)
        if self.gzip and subscriber.gzip:
            self.gzip.add(subscriber)

    def unpark(self, subscriber: Subscriber) -> None:
        """Let the dispatcher not write to a subscriber any more."""
        subscriber.unpark()
        self.parked.discard(subscriber)

    def payload(
        self, raw: bytes, event_count: int = 0, pause: Callable[[], object] = bool
    ) -> Payload:
        """Return a payload for all its parked subscribers; a `with` block must end it.

        :param event_count: how many events of the event log it holds.
        :param pause: called now and then while a large one is compressed.
        """
        return self.gzip.begin(raw, event_count, pause) if self.gzip else Payload(raw, event_count)

    def payload_for_one(self, raw: bytes, event_count: int = 0) -> Payload:
        """Return a payload that not all of its parked subscribers are sent."""
        if self.gzip:
            return PayloadForEach(self.gzip, raw, event_count)
        return Payload(raw, event_count)

    def matches(self, event: Event, time_slice: TimeSlice | None = None) -> bool:
        """Whether its subscribers asked for the event and may see it. It yields to the loop where
        there are many topics to match.

        :param time_slice: of the work that this is a part of; None: it is work by itself.
        """
        topics = event.draft.topics
        try:
            if len(topics) == 1:
                found = self.matcher.matches(topics[0])
            else:
                found = _match_any(self.matcher, topics, time_slice)
            return found and (not event.draft.private or self.permits(event))
        except Exception as error:  # noqa: BLE001 - it is left out for this feed only
            skip("feed", error)
            return False

    def work(self, event: Event) -> int:
        """Return what it costs to match an event: topics times variables."""
        variables = self.variables + (self.grant_variables if event.draft.private else 0)
        return len(event.draft.topics) * variables

    def permits(self, event: Event) -> bool:
        """Whether its subscribers may see the event; it yields to the loop as `matches` does."""
        topics = event.draft.topics
        return not event.draft.private or any(grants(self.grant, it) for it in cooperative(topics))

    def note_ends(self, events: Iterable[Event]) -> bool:
        """Note those of some events that ended one of its topics. Returns whether there are any."""
        ends = [event.position for event in events if event.draft.ended and self.is_exact]
        for position in ends:
            self.note_end(position)
        return bool(ends)

    def note_end(self, position: EventId) -> None:
        """Note an event that ended one of its topics."""
        self.newest_end = max(self.newest_end or position, position)

    def render(self, events: Iterable[Event], envelope_cache: dict[EventId, bytes]) -> bytes:
        """Return what its subscribers are sent of events that it matches.

        :param envelope_cache: envelopes that other feeds made of the same events; new ones are
            added.
        """
        if not self.form.envelope:
            return b"".join(event.frame for event in events)
        return b"".join(self._envelope(event, envelope_cache) for event in events)

    def _envelope(self, event: Event, cache: dict[EventId, bytes]) -> bytes:
        try:
            topics = self.visible_topics(event)
            if topics != event.draft.topics:  # each feed may have its own: not worth keeping
                return event.envelope_frame(topics)
            if event.position not in cache:
                cache[event.position] = event.envelope_frame(topics)
            return cache[event.position]
        except Exception as error:  # noqa: BLE001 - it is left out for this feed only
            skip("feed", error)
            return sse.HEARTBEAT  # not empty, because an empty chunk ends a body

    def render_of_snapshot(self, event: Event, id: str | None) -> bytes:
        """Return what its subscribers are sent of an event that a snapshot has.

        :param id: the frame's; None: it has none.
        """
        try:
            topics = self.visible_topics(event) if self.form.envelope else None
            return event.frame_of_snapshot(id, topics)
        except Exception as error:  # noqa: BLE001 - it is left out for this feed only
            skip("feed", error)
            return sse.HEARTBEAT

    def visible_topics(self, event: Event) -> tuple[str, ...]:
        """Return the topics of an event that its subscribers may know."""
        topics = event.draft.topics
        if not event.draft.private:
            return topics
        return tuple(it for it in topics if grants(self.grant, it))

    def skip_unmatched(self, position: EventId) -> EventId:
        """Return the position up to which nothing after `position` is known to match. A search for
        rare events is so done once for all subscribers of the feed.
        """
        known = self._unmatched
        return known[1] if known and known[0] <= position < known[1] else position

    def note_unmatched(self, after: EventId, upto: EventId) -> None:
        """Note that no event after a position matches, up to another one."""
        known = self._unmatched
        if known and known[0] <= after <= known[1]:
            self._unmatched = (known[0], max(known[1], upto))
        else:
            self._unmatched = (after, upto)

    def forget_unmatched(self) -> None:
        """Forget which events do not match: the event log was replaced."""
        self._unmatched = None


def _match_any(
    patterns: TopicPatterns, topics: tuple[str, ...], time_slice: TimeSlice | None
) -> bool:
    """Whether any topic is matched; those that are named exactly are found first."""
    if patterns.match_exactly(topics) or not patterns.templates:
        return patterns.match_exactly(topics)
    return any(map(patterns.matches, cooperative(topics, time_slice)))
