"""What every log promises, asked of each broker in processes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.events import MANY, contents, drafts, next_events
from support.waiting import PATIENCE, until
from webapp.core.events import Draft, EventId
from webapp.errors import Conflict

if TYPE_CHECKING:
    from support.broker_process import Connect


def test_what_was_appended_is_followed_in_order_from_any_place(connect: Connect) -> None:
    log = connect()
    start = log.bounds().head
    first, second = log.append(drafts("a", "b"))
    [third] = log.append(drafts("c"))
    assert start < first.position < second.position < third.position
    assert contents(next_events(log.follow(start), 3)) == ["a", "b", "c"]
    follower = log.follow(second.position)
    assert contents(next_events(follower, 1)) == ["c"]
    log.append(drafts("d"))
    assert contents(next_events(follower, 1)) == ["d"]


def test_an_event_comes_back_as_it_was_published(connect: Connect) -> None:
    log = connect()
    start = log.bounds().head
    odd = Draft(
        topics=("https://example.com/ü", "other"),
        data='line\r\nline\n\x00 "quoted" \u2028 🎈',
        type="the type",
        id="my id",
        private=True,
        retry=1234,
    )
    [event] = log.append([odd])
    for found in (next_events(log.follow(start), 1), log.read(start, MANY)):
        assert found[0].draft == odd
        assert found[0].position == event.position
        assert found[0].frame == event.frame


def test_an_own_id_is_appended_once_and_is_a_place_to_come_back_to(connect: Connect) -> None:
    log = connect()
    [event] = log.append(drafts("a", id="mine"))
    assert [e.position for e in log.append(drafts("a", id="mine"))] == [event.position]
    assert log.position_of("mine") == log.position_of(str(event.position)) == event.position
    with pytest.raises(Conflict):
        log.append([*drafts("new"), *drafts("b", id="mine")])
    with pytest.raises(Conflict):
        log.append([*drafts("x", id="twice"), *drafts("y", id="twice")])
    assert log.bounds().head == event.position  # all, or none
    again = log.append([*drafts("x", id="twice"), *drafts("x", id="twice")])
    assert again[0].position == again[1].position
    assert log.position_of("nobody's") is None
    assert log.position_of("999999999999999-7") is None
    assert log.position_of("99999999999999999999-99999999999999999999") is None


def test_publishers_at_once_do_not_fail_each_other(connect: Connect) -> None:
    log = connect()
    follower = log.follow(log.bounds().head)
    log.append(drafts("a", id="taken"))
    asked = [log.start("append", drafts(str(number))) for number in range(50)]
    refused = log.start("append", [*drafts("half"), *drafts("b", id="taken")])
    asked += [log.start("append", drafts(str(number))) for number in range(50, 100)]
    events = [future.result(PATIENCE)[0] for future in asked]
    with pytest.raises(Conflict):
        refused.result(PATIENCE)
    order = [event.position for event in sorted(events, key=lambda event: event.position)]
    assert [event.position for event in next_events(follower, 101)[1:]] == order
    assert log.bounds().head == order[-1]


def test_pages_go_forwards_and_backwards_and_are_bounded(connect: Connect) -> None:
    log = connect()
    start = log.bounds().head
    data = [str(number) * 100 for number in range(10)]
    events = log.append(drafts(*data))
    assert contents(log.read(start, MANY)) == data
    page = log.read(start, 300)
    assert 1 <= len(page) <= 4
    assert contents(page) == data[: len(page)]
    assert len(log.read(start, 1)) == 1
    assert log.read(events[-1].position, MANY) == []
    assert contents(log.before(events[5].position, 3, MANY)) == data[2:5]
    assert contents(log.before(EventId(1 << 60, 0), 100, MANY)) == data
    assert log.before(events[0].position, 3, MANY) == []


def test_the_log_keeps_the_newest_within_its_bound(connect: Connect) -> None:
    log = connect(HISTORY_EVENTS=1000)
    start = log.bounds().head
    follower = log.follow(start)
    published = []
    for part in range(40):
        data = [f"{part}-{number}" for number in range(100)]
        log.append(drafts(*data))
        next_events(follower, 100)
        published += data
    # About: whole nodes of a Redis stream go at once, and PostgreSQL is trimmed a moment later.
    until(lambda: log.count() < 2000, "it is trimmed")
    floor, head = log.bounds()
    assert start < floor < head
    kept = contents(log.read(floor, MANY))
    assert 1000 <= len(kept) < 2000
    assert kept == published[-len(kept) :]
    assert log.position_of(str(start)) is None


def test_the_floor_is_a_place_to_come_back_to(connect: Connect) -> None:
    log = connect(HISTORY_EVENTS=100)
    assert log.bounds().floor == log.bounds().head
    follower = log.follow(log.bounds().head)
    for part in range(12):
        floor = log.bounds().floor
        # It may be trimmed on between two questions.
        assert log.position_of(str(floor)) == floor or log.bounds().floor > floor
        assert log.before(floor.next(0), 10, MANY) == []
        log.append(drafts(*[f"{part}"] * 50))  # at most half of the event log at once
        next_events(follower, 50)


def test_the_log_knows_how_many_events_it_keeps(connect: Connect) -> None:
    log = connect(HISTORY_EVENTS=100)
    assert log.count() == 0
    follower = log.follow(log.bounds().head)
    log.append(drafts("a", "b"))
    assert log.count() == 2
    for _ in range(10):
        log.append(drafts(*["x"] * 50))  # at most half of the event log at once
        next_events(follower, 50)
    until(lambda: log.count() < 502, "it is trimmed")
    kept = log.count()
    assert 100 <= kept < 502
    assert len(log.read(log.bounds().floor, MANY)) <= kept  # it may be trimmed meanwhile


def test_the_log_knows_how_much_it_keeps(connect: Connect) -> None:
    log = connect()
    empty = log.usage()
    assert (empty.bounds, empty.events, empty.refused) == (log.bounds(), 0, ())
    log.append(drafts("y", "x" * 10_000))
    usage = log.usage()
    assert (usage.bounds, usage.events) == (log.bounds(), 2)
    assert empty.bytes is not None
    assert usage.bytes is not None
    assert 10_000 < usage.bytes - empty.bytes < 50_000


def test_a_private_events_own_id_is_forgotten_with_it(connect: Connect) -> None:
    log = connect(HISTORY_EVENTS=10)
    follower = log.follow(log.bounds().head)
    for part in range(50):
        ids = [f"private-{5 * part + number}" for number in range(5)]
        events = log.append([it for own in ids for it in drafts("x", id=own, private=True)])
        next_events(follower, 5)
        assert log.position_of(ids[-1]) == events[-1].position
    before = log.bounds().floor
    located = [log.position_of(f"private-{number}") for number in range(250)]
    assert located[0] is None
    assert all(position > before for position in located if position)


def test_nothing_lies_before_a_floor_however_the_events_came(connect: Connect) -> None:
    log = connect(HISTORY_EVENTS=10)
    follower = log.follow(log.bounds().head)
    for number in range(220):  # the first of a millisecond each, or nearly
        log.append(drafts(str(number)))
        next_events(follower, 1)
    floor = log.bounds().floor
    assert log.before(floor.next(0), 10, MANY) == []
    assert contents(log.read(floor, MANY))[-1] == "219"
