"""Topics that end, on each broker and in processes of their own."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from support.events import MANY, all_events, next_events
from webapp.brokers.base import TopicEnd
from webapp.core.events import Draft, Event, EventId
from webapp.errors import Conflict

if TYPE_CHECKING:
    from support.broker_process import BrokerProcess, Connect


def end(*topics: str, **fields: Any) -> Draft:
    return Draft(topics=topics, ended=True, **fields)


def refused(log: BrokerProcess, *drafts: Draft) -> bool:
    """Whether an append is refused because a topic has ended. Then nothing is appended."""
    head = log.bounds().head
    with pytest.raises(Conflict) as refusal:
        log.append(list(drafts))
    return refusal.value.reason == "ended" and bool(log.bounds().head == head)


def test_an_ended_topic_takes_no_events(connect: Connect) -> None:
    log = connect()
    assert log.newest_end() is None
    log.append([Draft(topics=("a", "b")), Draft(topics=("other",))])
    [event] = log.append([end("a", "b", data="last", private=True)])
    for topics in (("a",), ("b",), ("new", "b"), ("a", "new")):
        assert refused(log, Draft(topics=topics))
        assert refused(log, end(*topics))
        assert refused(log, Draft(topics=("other",)), Draft(topics=topics))
    log.append([Draft(topics=("other",)), Draft(topics=("A",))])
    ended = TopicEnd(event.position, private=True)
    assert log.ends(["a", "other", "b", "nobody's"]) == [ended, None, ended, None]
    assert log.newest_end() == event.position


def test_an_end_comes_back_as_it_was_published(connect: Connect) -> None:
    log = connect()
    odd = end('"ü"', "a\\b", "{x}", "}", "]", data="[{}]", type="t", private=True, retry=1234)
    start = log.bounds().head
    log.append([odd])
    assert [it.draft for it in next_events(log.follow(start), 1)] == [odd]
    assert [it.draft for it in log.read(start, MANY)] == [odd]
    for topic in odd.topics:
        assert [it.draft for it in log.read_topics(start, MANY, [topic]).events] == [odd]
        assert refused(log, Draft(topics=(topic,)))
    assert [it.topic for it in log.topics("", "", 10).entries] == sorted(odd.topics)


def test_the_same_end_again_is_answered_the_same(connect: Connect) -> None:
    log = connect()
    before, last = Draft(topics=("t",), id="1"), end("t", id="2", data="bye")
    events = log.append([before, last, last])
    assert events[1].position == events[2].position
    assert [it.position for it in log.append([last])] == [events[1].position]
    assert [it.position for it in log.append([before])] == [events[0].position]
    assert log.count() == 2
    for other in (Draft(topics=("t",), id="2", data="bye"), end("t", id="1")):
        with pytest.raises(Conflict) as refusal:
            log.append([other])
        assert refusal.value.reason == "conflict"
    assert log.positions_of("2", None, 10, ["t"]) == [events[1].position]
    assert refused(log, Draft(topics=("t",), id="3"))


def test_an_array_that_goes_on_after_its_end_is_refused(connect: Connect) -> None:
    log = connect()
    assert refused(log, end("a"), Draft(topics=("b", "a")))
    assert refused(log, end("a", id="1"), end("a", id="2"))
    assert log.ends(["a", "b"]) == [None, None]
    log.append([Draft(topics=("a",)), end("a"), end("b"), Draft(topics=("c",))])
    assert log.count() == 4


def test_a_trimmed_end_opens_its_topic_again(connect: Connect) -> None:
    log = connect(HISTORY_EVENTS=20)
    log.follow(log.bounds().head)
    log.append([end("t", "u", id="1")])
    for number in range(300):
        log.append([Draft(topics=("other",), data=str(number))])
        if log.ends(["t"]) == [None]:
            break
    assert number >= 19
    assert log.newest_end() is None
    log.append([Draft(topics=("u", "t"))])
    [event] = log.append([end("t")])
    assert log.ends(["t", "u"]) == [TopicEnd(event.position, private=False), None]
    assert refused(log, Draft(topics=("t",)))


def test_publishers_and_an_end_have_one_order(connect: Connect, url: str) -> None:
    """Two processes race: what comes before the end is in the event log, and nothing after it."""
    logs = [connect()] if url == "memory://" else [connect(), connect()]
    topics = [f"t{number}" for number in range(60)]
    start = logs[0].bounds().head

    def publish(log: BrokerProcess, topic: str, *, last: bool) -> list[Event]:
        asked = [log.start("append", [Draft(topics=(topic,))]) for _ in range(4)]
        if last:
            asked.append(log.start("append", [end(topic)]))
        asked += [log.start("append", [Draft(topics=(topic,))]) for _ in range(4)]
        answers = [(future.exception(15), future) for future in asked]
        assert {it.reason for it, _ in answers if isinstance(it, Conflict)} <= {"ended"}
        return [event for it, future in answers if it is None for event in future.result()]

    def race(topic: str) -> list[Event]:
        with ThreadPoolExecutor() as pool:
            running = [
                pool.submit(publish, log, topic, last=it == 0) for it, log in enumerate(logs)
            ]
            return [event for it in running for event in it.result(30)]

    answered = {topic: race(topic) for topic in topics}
    logged = [event for event in all_events(logs[-1]) if event.position > start]
    refused_events = 0
    for topic in topics:
        found = [event for event in logged if event.draft.topics == (topic,)]
        assert sorted(it.position for it in answered[topic]) == [it.position for it in found]
        assert [event.draft.ended for event in found] == [False] * (len(found) - 1) + [True]
        refused_events += 8 * len(logs) + 1 - len(found)
    assert refused_events > 60
    followed = next_events(logs[-1].follow(start), len(logged))
    assert [it.position for it in followed] == [it.position for it in logged]


TOPICS = [f"t{number}" for number in range(5)]


def some_draft(chance: random.Random) -> Draft:
    topics = tuple(chance.sample(TOPICS, chance.choice([1, 1, 2])))
    ended, private = chance.random() < 0.3, chance.random() < 0.3
    return Draft(topics=topics, ended=ended, private=private)


def ends_after(floor: EventId, events: list[Event]) -> dict[str, TopicEnd]:
    kept = [it for it in events if it.draft.ended and it.position > floor]
    return {
        topic: TopicEnd(it.position, it.draft.private) for it in kept for topic in it.draft.topics
    }


def test_whatever_is_published_and_trimmed_the_ends_are_those_of_the_log(connect: Connect) -> None:
    log, chance, events, refusals = connect(HISTORY_EVENTS=20), random.Random(1), list[Event](), 0
    log.follow(log.bounds().head)
    trimmed = False
    for step in range(2000):  # PostgreSQL trims a little later than the others
        if step >= 120 and trimmed:
            break
        draft = some_draft(chance) if step % 3 else Draft(topics=("other",))
        floors = [log.bounds().floor]
        answer = log.start("append", [draft])
        is_refused = isinstance(answer.exception(15), Conflict)
        floors.append(log.bounds().floor)
        # What the log has trimmed meanwhile may have been there, or not.
        known = [ends_after(floor, events) for floor in floors]
        assert is_refused in {any(it in ends for it in draft.topics) for ends in known}
        refusals += is_refused
        events += [] if is_refused else answer.result()
        found, newest = log.ends([*TOPICS, "other"]), log.newest_end()
        if log.bounds().floor == floors[1]:
            ends = ends_after(floors[1], events)
            assert found == [ends.get(it) for it in (*TOPICS, "other")]
            assert newest == max((it.position for it in ends.values()), default=None)
        trimmed = any(it.draft.ended and it.position <= floors[1] for it in events)
    assert trimmed
    assert refusals > 10
