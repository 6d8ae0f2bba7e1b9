"""List the topics of which a client may see an event, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...brokers.base import MAX_INDEX_TOPICS
from ...core.events import EventId
from ...core.globs import globs_of
from ...core.topic_index import DirectoryPage
from ...core.topics import EVERYTHING, grants
from ..delivery.feeds import Feed
from ..read_queue import Reading
from ..reads.log_reader import PAGE_BYTES
from ..reads.topic_ends import find_ends
from ..reads.topic_lookup import prefixes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...auth.authorizer import Grant
    from ...core.globs import Glob
    from ...core.topic_index import TopicEntry
    from ..hub import Hub
    from ..reads.log_reader import LogReader
    from ..socket_protocol import SubscriberSocket

_BEFORE_ALL = EventId(0, 0)


class ListedTopic(NamedTuple):
    """A topic, with what a client may see of it."""

    topic: str
    newest: EventId
    """The position of the newest event."""
    events: int
    """How many events the event log has."""
    ended: bool = False
    """Whether it has ended."""

    @property
    def last_id(self) -> str:
        """The id of the newest event."""
        return str(self.newest)

    @property
    def time(self) -> int:
        """When it was published, in Unix milliseconds."""
        return self.newest.ms


def list_topics(  # noqa: PLR0913 - what a client asks for, and who it is
    hub: Hub,
    patterns: frozenset[str],
    grant: Grant,
    *,
    after: str,
    limit: int,
    client: str,
    socket: SubscriberSocket | None,
) -> tuple[list[ListedTopic], bool]:
    """Return the next topics after a name, and whether there are more. The client counts as a
    stream meanwhile; it is answered on a connection that closes then.

    :param patterns: only topics that match one of these.
    :raises BadRequest: URI templates name too many variables.
    :raises ServiceUnavailable: the hub is stopping, or the event log is not available.
    :raises TooManyRequests: the client has as many streams as it may.
    """
    feed = hub.admit(patterns, grant, client)
    with hub.waiting_clients.read_for(client, socket) as reading:
        found = _TopicListing(hub.reader, feed, reading).page(after, limit)
    if socket:
        socket.answer_last()  # what it sent meanwhile was thrown away
    return found


def list_all(
    reader: LogReader, patterns: frozenset[str], after: str, limit: int
) -> list[ListedTopic]:
    """Return the next topics after a name, for a client that may see all events.

    :param patterns: only topics that match one of these.
    :raises ServiceUnavailable: the event log cannot be read.
    """
    feed = Feed(patterns, frozenset({EVERYTHING}))
    return _TopicListing(reader, feed, Reading("")).page(after, limit)[0]


class _TopicListing:
    """The topics that a feed matches and whose events it may see, in the order of their names.

    All reads wait in the queue of past events.
    """

    def __init__(self, reader: LogReader, feed: Feed, reading: Reading) -> None:
        self._reader = reader
        self._feed = feed
        self._reading = reading

    def page(self, after: str, limit: int) -> tuple[list[ListedTopic], bool]:
        """Return the next topics after a name, and whether there are more.

        :raises ReadingCancelled: the reading was cancelled.
        :raises ServiceUnavailable: the event log cannot be read.
        """
        found = list[ListedTopic]()
        for entry in self._entries(after):
            if topic := self._seen(entry):
                if len(found) == limit:
                    return self._with_ends(found), True
                found.append(topic)
        return self._with_ends(found), False

    def _with_ends(self, found: list[ListedTopic]) -> list[ListedTopic]:
        """Return topics, each with whether it has ended."""
        topics = [it.topic for it in found]
        ends = find_ends(self._reader, self._feed, self._reading, topics) if topics else {}
        return [it._replace(ended=it.topic in ends) for it in found]

    def _entries(self, after: str) -> Iterator[TopicEntry]:
        """Yield the entries of the directory that the feed matches."""
        heads = prefixes(self._feed)
        exact = {it for it in self._feed.matcher.exact if not it.startswith(tuple(heads))}
        for prefix in sorted([*heads, *exact]):
            if prefix not in exact:
                yield from self._entries_of(prefix, after)
            elif prefix > after:
                # A name that begins so comes later, or does not match.
                found, _ = self._page(prefix, "", 1, [])
                yield from (it for it in found if it.topic == prefix)

    def _entries_of(self, prefix: str, after: str) -> Iterator[TopicEntry]:
        last: str | None = after
        globs = globs_of(self._feed.matcher, prefix)
        while last is not None:
            found, last = self._page(prefix, last, MAX_INDEX_TOPICS, globs)
            yield from found

    def _page(self, prefix: str, after: str, limit: int, globs: Sequence[Glob]) -> DirectoryPage:
        """Return the next entries that the feed matches."""
        reading, matches = self._reading, self._feed.matcher.matches
        with self._reader.turn(reading):
            topics = self._reader.broker.topics
            entries, upto = self._reader.ask(reading, topics, prefix, after, limit, globs)
            found = [it for it in reading.cooperative(entries) if matches(it.topic)]
        return DirectoryPage(found, upto)

    def _seen(self, entry: TopicEntry) -> ListedTopic | None:
        grant = self._feed.grant
        if entry.events == entry.public_events or (grant and grants(grant, entry.topic)):
            return ListedTopic(entry.topic, entry.newest, entry.events)
        if grant:
            return self._count(entry.topic)
        newest = entry.public_newest
        return newest and ListedTopic(entry.topic, newest, entry.public_events)

    def _count(self, topic: str) -> ListedTopic | None:
        """Look at each event of a topic: other topics of private ones may be granted."""
        position, newest, count, reading = _BEFORE_ALL, None, 0, self._reading
        while True:
            with self._reader.turn(reading):
                read = self._reader.broker.read_topics
                page = self._reader.ask(reading, read, position, PAGE_BYTES, [topic])
                for event in reading.cooperative(page.events):
                    if self._feed.permits(event):
                        newest, count = event.position, count + 1
            position = page.upto
            if position >= page.bounds.head:
                return newest and ListedTopic(topic, newest, count)
