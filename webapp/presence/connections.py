"""List the open streams of all processes, for the console.

Nothing about a stream is stored for it. A process sends a question as a notice, which all processes
read, and each answers with a notice that has a page of its own streams. So the list costs nothing
until somebody looks at it. Addresses of clients are in such notices only, which are no presence
events and soon gone.
"""

from __future__ import annotations

import json
from heapq import nsmallest
from itertools import takewhile
from time import monotonic, time
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import gevent
from gevent.event import Event as Signal

from ..core.topics import EVERYTHING
from ..scheduling import TimeSlice, cooperative
from ..tasks import Skipping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..brokers.presence_base import PresenceStore
    from ..core.topics import TopicPatterns
    from ..hub.delivery.feeds import Feed
    from ..hub.hub import Hub
    from ..hub.streams.stream import Stream

QUESTION, ANSWER = "?", "="
"""How the notices begin: of a question, and of an answer."""
MAX_LISTED = 200
_MAX_ANSWER_BYTES = 32 << 10
_MAX_TOPICS, _MAX_TOPIC_CHARS = 10, 1000  # of a stream that are listed, and of all of these
_MAX_ANSWERED_QUESTIONS = 4  # questions at a time
_QUIET_S = 0.3  # without another answer, after which the answers are complete
_TIMEOUT_S = 1.5  # for as many answers as there were the last time
_SKIPPING = Skipping("presence")


class Filter(NamedTuple):
    """Which streams are asked for. An empty text: any."""

    topic: str = ""
    """A topic that the stream asks for: by its name, with a pattern that matches it, or with `*`.
    A pattern counts as a topic of this name.
    """
    subject: str = ""
    address: str = ""
    after: str = ""
    """Only those behind this id."""
    limit: int = MAX_LISTED


class Answer(NamedTuple):
    """What a process answers."""

    connections: list[dict[str, Any]]
    """In the order of their ids."""
    more: bool
    """Whether it has more of them, behind these."""
    total: int
    """How many it has in all, without `after`."""
    consoles: int = 0
    """How many of these are a console's own."""


class Connections(NamedTuple):
    """A page of the streams of all processes."""

    connections: list[dict[str, Any]]
    more: bool
    total: int
    consoles: int
    processes: int


class ConnectionLister:
    """Asks all processes for their streams, and answers for this one."""

    def __init__(self, hub: Hub, store: PresenceStore) -> None:
        self._hub = hub
        self._store = store
        self._waiting: dict[str, _Collection] = {}
        self._answering = 0
        self._processes = 1  # that answered the last time

    def list(self, wanted: Filter) -> Connections:
        """Return a page of the streams of all processes. This takes about a third of a second.

        :raises ServiceUnavailable: the presence store cannot be reached.
        """
        number, collection = uuid4().hex, _Collection()
        self._waiting[number] = collection
        try:
            self._store.broadcast(f"{QUESTION}{number} {json.dumps(wanted)}")
            answers = collection.wait(self._processes)
        finally:
            del self._waiting[number]
        self._processes = len(answers)
        return _merge(answers, wanted.limit)

    def read(self, notice: str) -> None:
        """Answer a question, or collect an answer, if the notice is one."""
        number, _, text = notice[1:].partition(" ")
        if notice[:1] == ANSWER and number in self._waiting:
            self._waiting[number].add(Answer(*json.loads(text)))
        elif notice[:1] == QUESTION and self._answering < _MAX_ANSWERED_QUESTIONS:
            self._answering += 1
            gevent.spawn(self._answer, number, Filter(*json.loads(text)))

    def _answer(self, number: str, wanted: Filter) -> None:
        try:
            with _SKIPPING:
                answer = self._find(wanted)
                self._store.broadcast(f"{ANSWER}{number} {json.dumps(answer)}")
        finally:
            self._answering -= 1

    def _find(self, wanted: Filter) -> Answer:
        ways, time_slice = _Ways(wanted.topic), TimeSlice()
        found = [
            it
            for it in cooperative(self._hub, time_slice)
            if it.waits and _is_wanted(it, wanted) and ways.leads_to(it.feed, time_slice)
        ]
        behind = (it for it in cooperative(found) if it.name > wanted.after)
        page = nsmallest(min(wanted.limit, MAX_LISTED) + 1, behind, key=lambda it: it.name)
        size, listed = 0, list[dict[str, Any]]()
        for stream in page[: wanted.limit]:
            document = self._document(stream, ways.by_feed.get(stream.feed))
            size += len(json.dumps(document))
            if listed and size > _MAX_ANSWER_BYTES:
                break
            listed.append(document)
        consoles = sum(it.feed.form.console for it in found)
        return Answer(listed, len(listed) < len(page), len(found), consoles)

    def _document(self, stream: Stream, via: str | None) -> dict[str, Any]:
        topics = list(_shown(sorted(stream.patterns)))
        behind_ms = self._hub.window.head.ms - stream.cursor.ms
        return {
            "id": stream.name,
            "address": stream.client,
            "subject": stream.grant.subject,
            "topics": topics,
            "more_topics": len(stream.patterns) - len(topics),
            "via": via,
            "since": round(time() - (monotonic() - stream.opened_at), 3),
            "sent": stream.events_sent,
            "lag": 0 if stream.parked else max(0, behind_ms),
            "parked": stream.parked,
            "console": stream.feed.form.console,
        }


class _Collection:
    """The answers to one question."""

    def __init__(self) -> None:
        self._answers: list[Answer] = []
        self._added = Signal()

    def add(self, answer: Answer) -> None:
        """Add an answer."""
        self._answers.append(answer)
        self._added.set()

    def wait(self, expected: int) -> list[Answer]:
        """Wait until no more answers come.

        :param expected: how many came the last time.
        """
        until = monotonic() + _TIMEOUT_S
        while (left := until - monotonic()) > 0:
            self._added.clear()
            enough = len(self._answers) >= expected
            if not self._added.wait(min(left, _QUIET_S) if enough else left):
                break
        return self._answers


class _Ways:
    """How streams ask for one topic. All streams of a feed do it in the same way.

    :param topic: an empty one: any, and in no way.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self.by_feed: dict[Feed, str | None] = {}
        """The topic or pattern of each feed; None: it does not ask for the topic."""

    def leads_to(self, feed: Feed, time_slice: TimeSlice) -> bool:
        """Return whether a feed asks for the topic. It yields to the loop."""
        if self._topic and feed not in self.by_feed:
            self.by_feed[feed] = _way(feed.matcher, self._topic, time_slice)
        return not self._topic or self.by_feed[feed] is not None


def _way(patterns: TopicPatterns, topic: str, time_slice: TimeSlice) -> str | None:
    """Return which of some patterns matches a topic, the most exact one first."""
    if topic in patterns.texts:
        return topic
    templates = cooperative(patterns.templates, time_slice)
    found = next((it.text for it in templates if it.matches(topic)), None)
    return found or (EVERYTHING if patterns.has_everything else None)


def _is_wanted(stream: Stream, wanted: Filter) -> bool:
    return (not wanted.subject or wanted.subject == stream.grant.subject) and (
        not wanted.address or wanted.address == stream.client
    )


def _shown(topics: list[str]) -> Iterator[str]:
    """Yield the first topics that are not too long together."""
    left = _MAX_TOPIC_CHARS
    for topic in topics[:_MAX_TOPICS]:
        left -= len(topic)
        if left < 0:
            return
        yield topic


def _merge(answers: list[Answer], limit: int) -> Connections:
    """Return the first streams of all answers. Where a process has more than it listed, only those
    count that are not behind its last one.
    """
    ends = [it.connections[-1]["id"] for it in answers if it.more and it.connections]
    rows = sorted((row for it in answers for row in it.connections), key=lambda row: row["id"])
    known = list(takewhile(lambda row: not ends or row["id"] <= min(ends), rows))
    more = len(known) > limit or any(it.more for it in answers)
    total, consoles = sum(it.total for it in answers), sum(it.consoles for it in answers)
    return Connections(known[:limit], more, total, consoles, len(answers))
