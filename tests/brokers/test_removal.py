"""What every event log promises when events are removed from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.events import MANY, all_topics, contents, next_events
from webapp.core.events import Draft, EventId
from webapp.core.removals import Removal, RemovalEntry
from webapp.errors import Conflict

if TYPE_CHECKING:
    from support.broker_process import BrokerProcess, Connect
    from webapp.core.events import Event

BEGIN, END = EventId(0, 0), EventId(1 << 60, 0)


def draft(*topics: str, data: str = "", **fields: Any) -> Draft:
    return Draft(topics=topics, data=data, **fields)


def one(event: Event) -> Removal:
    return Removal(event.draft.topics[0], event.position, event.position)


def topic(name: str) -> Removal:
    return Removal(name, BEGIN, END)


def test_a_removed_event_is_in_no_read(indexed: BrokerProcess) -> None:
    start = indexed.bounds().head
    a, b, c = indexed.append([draft("a", data="1"), draft("a", "b", data="2"), draft("c", "a")])
    removed = indexed.remove(one(b))
    assert removed.number == 1
    assert removed.position == indexed.bounds().head > c.position
    assert [it.position for it in indexed.read(start, MANY)] == [a.position, c.position]
    assert [it.position for it in indexed.before(END, 9, MANY)][-2:] == [a.position, c.position]
    assert [it.position for it in indexed.before(END, 2, MANY)] == [a.position, c.position]
    assert [it.position for it in indexed.read_topics(start, MANY, ["b", "a"]).events] == [
        a.position,
        c.position,
    ]
    assert indexed.read_topics(start, MANY, ["b"]).events == []
    assert indexed.before_topics(END, 9, MANY, ["b"]) == []
    assert contents([it for it in indexed.read_at([b.position], MANY) if not it.is_hidden]) == []
    assert indexed.newest(["a", "b"], END, public=True) == [c.position, None]
    assert [it[0] for it in all_topics(indexed)] == ["a", "c"]
    page = indexed.read_page(start, MANY)
    assert page.upto >= c.position


def test_the_newest_event_uncovers_the_one_before(indexed: BrokerProcess) -> None:
    a, b = indexed.append([draft("a"), draft("a", private=True)])
    assert indexed.remove(one(b)).number == 1
    assert indexed.newest(["a"], END, public=False) == [a.position]
    assert all_topics(indexed) == [("a", a.position, 1, a.position, 1)]
    assert indexed.remove(one(a)).number == 1
    assert all_topics(indexed) == []
    assert indexed.newest(["a"], END, public=False) == [None]


def test_what_is_unknown_or_of_another_topic_is_not_removed(indexed: BrokerProcess) -> None:
    [event] = indexed.append([draft("a", "b")])
    head = indexed.bounds().head
    for removal in (
        Removal("b", event.position, event.position),
        Removal("a", END, END),
        topic("b"),
        topic("none"),
    ):
        assert indexed.remove(removal).number == 0
    assert indexed.remove(one(event)).number == 1
    assert indexed.remove(one(event)).number == 0
    assert indexed.bounds().head > head


def test_all_events_of_a_canonical_topic_are_removed(indexed: BrokerProcess) -> None:
    events = indexed.append(
        [draft(*names, private=n % 3 == 0) for n, names in enumerate([("a",), ("b", "a")] * 8)]
    )
    assert indexed.remove(topic("a")).number == 8
    [late] = indexed.append([draft("a")])
    left = [it.position for it in events if it.draft.topics[0] == "b"] + [late.position]
    assert [it.position for it in indexed.read_topics(BEGIN, MANY, ["a"]).events] == left
    assert [(it[0], it[2]) for it in all_topics(indexed)] == [("a", 9), ("b", 8)]


def test_the_positions_and_ids_of_removed_events_stay_known(indexed: BrokerProcess) -> None:
    own, plain, last = indexed.append([draft("a", "x", id="v"), draft("a"), draft("b")])
    indexed.remove(topic("a"))
    for event in (own, plain):
        assert indexed.position_of(str(event.position)) == event.position
    assert indexed.position_of("v") == own.position
    assert indexed.positions_of("v", None, 10, ["x"]) == [own.position]
    assert indexed.positions_of("v", None, 10, ["y"]) == []
    [left] = list(indexed.read_at([own.position], MANY))
    assert (left.is_hidden, left.draft.topics, left.draft.data) == (True, ("a", "x"), "")
    [same] = indexed.append([draft("a", "x", id="v")])
    assert same.position == own.position
    with pytest.raises(Conflict):
        indexed.append([draft("a", "x", id="v", data="other")])
    assert [it.position for it in indexed.read(BEGIN, MANY)] == [last.position]


def test_the_floor_frees_the_ids_of_removed_events(indexed: BrokerProcess) -> None:
    follower = indexed.follow(indexed.bounds().head)
    [event] = indexed.append([draft("a", id="v", data="1")])
    next_events(follower, 1)
    indexed.remove(one(event))
    assert isinstance(next(follower), RemovalEntry)
    for _ in range(30):
        indexed.append([draft("b") for _ in range(10)])
        next_events(follower, 10)
    assert indexed.bounds().floor > event.position
    assert indexed.append([draft("a", id="v", data="2")])[0].position > event.position


def test_a_topic_whose_end_is_removed_is_open_again(indexed: BrokerProcess) -> None:
    [end] = indexed.append([draft("a", "b", ended=True)])
    with pytest.raises(Conflict):
        indexed.append([draft("b")])
    assert indexed.remove(one(end)).number == 1
    assert indexed.ends(["a", "b"]) == [None, None]
    assert indexed.newest_end() is None
    indexed.append([draft("b"), draft("a")])


def test_followers_find_a_removal_in_its_order(connect: Connect) -> None:
    log = connect()
    start = log.bounds().head
    first, second = log.append([draft("a"), draft("b")])
    removed = log.remove(one(first))
    [third] = log.append([draft("a")])
    follower = log.follow(start)
    assert [it.position for it in next_events(follower, 1)] == [second.position]
    entry = next(follower)
    assert isinstance(entry, RemovalEntry)
    assert (entry.position, entry.removal) == (removed.position, one(first))
    assert [it.position for it in next_events(follower, 1)] == [third.position]
