"""What every event log promises of its index by topic, asked of each broker that has one.

`INDEX_SEEDS=20` tries more random logs.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from support.events import MANY, all_topics, contents, next_events
from webapp.core.events import Draft, Event, EventId
from webapp.core.globs import globs_of
from webapp.core.topics import TopicPatterns
from webapp.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from support.broker_process import BrokerProcess
    from webapp.core.topic_index import TopicEntry

END = EventId(1 << 60, 0)
TOPICS = ["a", "a/1", "a/2", "a/é", "b", "B", "c'\"\\", "🎈", "a%", "a_", "a*1", "a[?]1"]
PATTERNS = ["a{x}", "a/{x}", "{x}1", "{x}*{y}", "a[{x}", "{+x}?{+y}1", "{x}a{y}", "b", "{x}", "*"]


def draft(*topics: str, data: str = "", **fields: Any) -> Draft:
    return Draft(topics=topics, data=data, **fields)


def of_topics(log: BrokerProcess, *topics: str, after: EventId | None = None) -> list[Event]:
    """Read all events that have one of some topics, page by page."""
    position, found = after or log.bounds().floor, list[Event]()
    while True:
        page = log.read_topics(position, 1000, topics)
        found += page.events
        if page.upto >= page.bounds.head:
            return found
        assert page.upto > position
        position = page.upto


def test_a_page_has_the_events_of_some_topics_and_says_how_far_it_goes(
    indexed: BrokerProcess,
) -> None:
    start = indexed.bounds().head
    events = indexed.append(
        [draft("a"), draft("b"), draft("c", "a"), draft("b", "a", private=True), draft("c")]
    )
    page = indexed.read_topics(start, MANY, ["a"])
    assert page.upto == page.bounds.head == events[-1].position
    assert positions(page.events) == [events[n].position for n in (0, 2, 3)]
    assert positions(of_topics(indexed, "a", "b")) == [it.position for it in events[:4]]
    assert of_topics(indexed, "nobody's") == []
    assert of_topics(indexed, "a", after=events[3].position) == []
    first = indexed.read_topics(start, 1, ["a"])
    assert (positions(first.events), first.upto) == ([events[0].position], events[0].position)


def test_the_newest_before_a_position_come_in_the_logs_order(indexed: BrokerProcess) -> None:
    events = indexed.append([draft(topic, data=topic) for topic in "abcabcabc"])
    assert contents(indexed.before_topics(END, 3, MANY, ["a", "c"])) == ["c", "a", "c"]
    found = indexed.before_topics(events[6].position, 2, MANY, ["a"])
    assert positions(found) == [events[0].position, events[3].position]
    assert indexed.before_topics(events[0].position, 2, MANY, ["a"]) == []
    assert indexed.before_topics(END, 0, MANY, ["a"]) == []


def test_the_newest_of_each_topic_is_known_with_and_without_private_ones(
    indexed: BrokerProcess,
) -> None:
    one, two, three = indexed.append([draft("a"), draft("a", "b", private=True), draft("b", "c")])
    topics = ["a", "b", "c", "none"]
    assert indexed.newest(topics, END, public=False) == [
        two.position,
        three.position,
        three.position,
        None,
    ]
    assert indexed.newest(topics, END, public=True) == [
        one.position,
        three.position,
        three.position,
        None,
    ]
    before = indexed.newest(topics, three.position, public=False)
    assert before == [two.position, two.position, None, None]
    assert indexed.newest(["b"], three.position, public=True) == [None]


def test_events_are_read_at_their_positions(indexed: BrokerProcess) -> None:
    events = indexed.append([draft("a", data=str(n)) for n in range(5)])
    wanted = [events[3].position, END, events[1].position, events[3].position]
    assert contents(indexed.read_at(wanted, MANY)) == ["1", "3"]
    assert contents(indexed.read_at(wanted, 1)) == ["1"]
    assert indexed.read_at([], MANY) == indexed.read_at([END], MANY) == []


def test_the_directory_lists_topics_by_name_in_pages(indexed: BrokerProcess) -> None:
    assert all_topics(indexed) == []
    one, two = indexed.append([draft("é/2", "b"), draft("b", private=True)])
    [three] = indexed.append([draft("é/1", private=True)])
    assert all_topics(indexed) == [
        ("b", two.position, 2, one.position, 1),
        ("é/1", three.position, 1, None, 0),
        ("é/2", one.position, 1, one.position, 1),
    ]
    assert names(all_topics(indexed, "é/")) == ["é/1", "é/2"]
    assert names(all_topics(indexed, "é/", "é/1")) == ["é/2"]
    assert names(indexed.topics("", "b", 1).entries) == ["é/1"]
    assert names(all_topics(indexed, "b")) == ["b"]
    assert all_topics(indexed, "x") == all_topics(indexed, "", "é/2") == []


def test_names_that_no_glob_matches_are_left_out(indexed: BrokerProcess) -> None:
    topics = ["a*b", "a/1/b", "a/1/c", "ab", "a[b", "é/1/b", "a?b"]
    indexed.append([draft(it) for it in topics])
    for pattern, expected in (
        ("a/{n}/b", ["a/1/b"]),
        ("{n}/b", ["a/1/b", "é/1/b"]),
        ("{x}[{y}", ["a[b"]),
        ("{+x}?{y}", ["a?b"]),
        ("{x}*{y}", ["a*b"]),
        ("é{+x}b", ["é/1/b"]),
    ):
        globs = globs_of(TopicPatterns(frozenset([pattern])), "")
        assert names(all_topics(indexed, globs=globs)) == expected


def test_an_own_id_is_unique_per_canonical_topic(indexed: BrokerProcess) -> None:
    first, second = indexed.append([draft("a", "c", data="1", id="v"), draft("b", id="v")])
    assert first.position != second.position
    assert positions(indexed.append([draft("b", id="v")])) == [second.position]
    assert positions(indexed.append([draft("a", "c", data="1", id="v")])) == [first.position]
    for taken in ([draft("a", data="2", id="v")], [draft("x"), draft("a", id="v")]):
        with pytest.raises(Conflict):
            indexed.append(taken)
    with pytest.raises(Conflict):
        indexed.append([draft("d", data="1", id="v"), draft("d", data="2", id="v")])
    both = [draft("c", "a", id="v"), draft("d", id="v"), draft("c", "a", id="v")]
    third, fourth, same = indexed.append(both)
    assert same.position == third.position
    found = [it.position for it in (first, second, third, fourth)]
    assert indexed.positions_of("v", None, 10) == found
    assert indexed.positions_of("v", None, 2) == found[:2]
    assert indexed.positions_of("v", second.position, 10) == found[2:]
    assert indexed.positions_of("v", None, 10, ["c", "b"]) == found[:3]
    assert indexed.positions_of("v", first.position, 1, ["a"]) == [third.position]
    assert indexed.positions_of("v", None, 10, ["x"]) == indexed.positions_of("w", None, 10) == []


@pytest.mark.parametrize("seed", range(int(os.environ.get("INDEX_SEEDS", "1"))))
def test_whatever_is_published_and_trimmed_the_index_says_what_the_log_has(
    indexed: BrokerProcess, seed: int
) -> None:
    chance = random.Random(seed)
    follower = indexed.follow(indexed.bounds().head)
    published: list[Event] = []
    for _ in range(80):
        known = len(published)
        events = indexed.append(
            [random_draft(chance, known + n) for n in range(chance.choice([1, 1, 2, 9]))]
        )
        published += events
        next_events(follower, len(events))
        check(indexed, published, chance)


def random_draft(chance: random.Random, number: int) -> Draft:
    topics = chance.choices(TOPICS, k=chance.choice([1, 1, 1, 2, 4]))  # one may be there twice
    own = chance.choice([None, f"own {number % 7}"])
    if own:
        topics[0] = f"{topics[0]} {number}"
    return draft(*topics, data=str(number), id=own, private=chance.random() < 0.3)


def check(log: BrokerProcess, published: list[Event], chance: random.Random) -> None:
    """Compare some answers with those of a walk through what the log has."""
    topics = chance.sample(TOPICS, chance.choice([1, 2, 5]))
    position = chance.choice(published).position
    prefix, public = chance.choice(["", "", "a", "a/", "nobody's"]), chance.random() < 0.5
    wanted = TopicPatterns(frozenset(chance.sample(PATTERNS, chance.choice([1, 1, 3]))))
    globs = globs_of(wanted, prefix)
    at = [chance.choice(published).position for _ in range(5)]

    def has(event: Event) -> bool:
        return not {*topics}.isdisjoint(event.draft.topics)

    answers: list[tuple[Callable[[], Any], Callable[[list[Event]], Any]]] = [
        (
            lambda: positions(of_topics(log, *topics)),
            lambda model: [it.position for it in model if has(it)],
        ),
        (
            lambda: positions(log.before_topics(position, 4, MANY, topics)),
            lambda model: [it.position for it in model if has(it) and it.position < position][-4:],
        ),
        (
            lambda: log.newest(topics, position, public=public),
            lambda model: [newest(model, topic, position, public=public) for topic in topics],
        ),
        (
            lambda: positions(log.read_at(at, MANY)),
            lambda model: [it.position for it in model if it.position in at],
        ),
        (
            lambda: all_topics(log, prefix),
            lambda model: directory(model, prefix),
        ),
        (
            lambda: [it for it in all_topics(log, prefix, globs=globs) if wanted.matches(it[0])],
            lambda model: [it for it in directory(model, prefix) if wanted.matches(it[0])],
        ),
        (
            lambda: log.positions_of("own 3", None, 1000),
            lambda model: [it.position for it in model if it.id == "own 3"],
        ),
    ]
    for _ in range(100):  # it may be trimmed between two questions
        floor = log.bounds().floor
        found = [ask() for ask, _ in answers]
        if log.bounds().floor == floor:
            break
    model = [it for it in published if it.position > floor]
    for answer, (_, expect) in zip(found, answers, strict=True):
        # The id of the event at the floor may count.
        assert answer[answer[:1] == [floor] :] == expect(model)


def newest(model: list[Event], topic: str, before: EventId, *, public: bool) -> EventId | None:
    found = (
        it.position
        for it in model
        if topic in it.draft.topics and it.position < before and not (public and it.draft.private)
    )
    return max(found, default=None)


def directory(model: list[Event], prefix: str) -> list[tuple[Any, ...]]:
    lines = []
    for topic in sorted({topic for it in model for topic in it.draft.topics}):
        of_topic = [it for it in model if topic in it.draft.topics]
        public = [it.position for it in of_topic if not it.draft.private]
        line = (topic, of_topic[-1].position, len(of_topic), max(public, default=None), len(public))
        if topic.startswith(prefix):
            lines.append(line)
    return lines


def positions(events: Sequence[Event]) -> list[EventId]:
    return [it.position for it in events]


def names(entries: Sequence[TopicEntry]) -> list[str]:
    return [it.topic for it in entries]
