"""How far publishers may be ahead of the followers of a process."""

from __future__ import annotations

import gevent
import pytest

from support.waiting import PATIENCE
from webapp.brokers.backlog import SMALL_BYTES, Backlog, is_large
from webapp.brokers.lead import Lead, weigh
from webapp.core.events import Draft, EventId
from webapp.errors import ServiceUnavailable

LARGE, LIMIT, LIMIT_FOR_LARGE = SMALL_BYTES + 1, 16_000, 1000
MANY = 1 << 30


class Clock:
    now = 1000.0


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that the backlog reads."""
    clock = Clock()
    monkeypatch.setattr("webapp.brokers.backlog.monotonic", lambda: clock.now)
    return clock


def test_large_appends_wait_sooner_than_small_ones() -> None:
    backlog = Backlog(LIMIT)
    assert backlog.has_room(9, LARGE)
    backlog.add(LIMIT_FOR_LARGE)
    assert not backlog.has_room(9, LARGE)
    assert backlog.has_room(9, SMALL_BYTES)
    backlog.add(LIMIT - LIMIT_FOR_LARGE)
    assert not backlog.has_room(9, SMALL_BYTES)


def test_an_append_never_waits_for_an_empty_backlog() -> None:
    assert Backlog(1).has_room(9, LARGE)


def test_a_large_append_that_has_waited_long_waits_like_a_small_one() -> None:
    backlog = Backlog(LIMIT)
    backlog.add(LIMIT - 1)
    assert not backlog.has_room(9, LARGE, waited=0.5)
    assert backlog.has_room(9, LARGE, waited=2)
    backlog.add(1)
    assert not backlog.has_room(9, LARGE, waited=2)


def test_only_one_large_append_a_second_waits_like_a_small_one(clock: Clock) -> None:
    backlog = Backlog(MANY)
    backlog.add(backlog.limit_for_large)
    clock.now += 2
    assert backlog.has_room(9, LARGE, waited=2)
    backlog.begin(LARGE, large=True)
    assert not backlog.has_room(9, LARGE, waited=2)


@pytest.mark.parametrize(("limit", "for_large"), [(1 << 20, 64 << 10), (64 << 20, 512 << 10)])
def test_large_appends_wait_above_a_part_of_the_limit_or_512_kb(limit: int, for_large: int) -> None:
    backlog = Backlog(limit)
    backlog.begin(for_large - 1, large=True)
    assert backlog.has_room(9, LARGE)
    backlog.add(1)
    assert not backlog.has_room(9, LARGE)
    assert backlog.has_room(9, SMALL_BYTES)


def test_large_appends_rest_for_longer_than_their_turn_while_there_are_single_events(
    clock: Clock,
) -> None:
    backlog = Backlog(MANY)
    assert all(backlog.has_room(1, SMALL_BYTES) for _ in range(2))
    assert backlog.has_room(9, LARGE)
    backlog.begin(LARGE, large=True)
    clock.now += 0.05
    assert backlog.has_room(9, LARGE)
    backlog.begin(LARGE, large=True)
    clock.now += 0.15
    assert not backlog.has_room(9, LARGE)  # the turn is over
    backlog.add(-2 * LARGE)
    clock.now += 0.25
    assert not backlog.has_room(9, LARGE)  # the rest is not
    assert backlog.has_room(9, SMALL_BYTES)
    clock.now += 0.1
    assert backlog.has_room(9, LARGE)


def test_large_appends_do_not_rest_without_single_events(clock: Clock) -> None:
    backlog = Backlog(MANY)
    assert backlog.has_room(1, SMALL_BYTES)
    for _ in range(3):
        assert backlog.has_room(9, SMALL_BYTES)
        assert backlog.has_room(9, LARGE)
        backlog.begin(LARGE, large=True)
        clock.now += 10
        assert backlog.has_room(9, LARGE)
        backlog.add(-LARGE)


def test_a_large_append_that_failed_begins_no_turn(clock: Clock) -> None:
    backlog = Backlog(MANY)
    assert all(backlog.has_room(1, SMALL_BYTES) for _ in range(2))
    assert backlog.has_room(9, LARGE)
    clock.now += 0.5
    assert backlog.has_room(9, LARGE)


@pytest.mark.parametrize("turn", [0.3, 0.5, 60])
def test_the_rest_after_a_long_turn_is_longer_and_bounded(clock: Clock, turn: float) -> None:
    backlog = Backlog(MANY)
    assert backlog.has_room(9, LARGE)
    backlog.begin(LARGE, large=True)
    clock.now += turn
    backlog.add(-LARGE)
    assert all(backlog.has_room(1, SMALL_BYTES) for _ in range(2))
    clock.now += 0.85
    assert all(backlog.has_room(1, SMALL_BYTES) for _ in range(2))
    assert not backlog.has_room(9, LARGE)
    clock.now += 0.1
    assert backlog.has_room(9, LARGE)


def test_an_append_waits_for_other_processes_too_but_not_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backlog = Backlog(LIMIT)
    backlog.report(LIMIT_FOR_LARGE)
    monkeypatch.setattr("webapp.brokers.backlog._REPORT_S", PATIENCE)
    assert not backlog.has_room(9, LARGE)
    assert backlog.has_room(9, SMALL_BYTES)
    assert backlog.has_room(9, LARGE, waited=2)
    monkeypatch.setattr("webapp.brokers.backlog._REPORT_S", 0)
    assert backlog.has_room(9, LARGE)


def test_appends_that_wait_begin_one_after_the_other() -> None:
    backlog, begun = Backlog(LIMIT), list[int]()
    backlog.add(LIMIT)

    def begin(number: int) -> None:
        assert backlog.wait_for_room(9, LARGE, PATIENCE)
        backlog.begin(LIMIT, large=True)
        begun.append(number)

    waiting = [gevent.spawn(begin, number) for number in range(3)]
    gevent.idle()
    for count in range(3):
        assert len(begun) == count
        backlog.add(-LIMIT)
        with gevent.Timeout(PATIENCE):
            while len(begun) == count:
                gevent.sleep(0.001)
    gevent.joinall(waiting, raise_error=True)
    assert not backlog.wait_for_room(9, LARGE, 0)


class Turn:
    """The turn of all processes, as one of them sees it."""

    def __init__(self) -> None:
        self.free = True
        self.calls: list[object] = []

    def take(self, _: int, __: float, *, beside_singles: bool) -> bool:
        self.calls.append(beside_singles)
        return self.free

    def end(self, rest: float) -> None:
        self.calls.append(rest)

    def announce_singles(self) -> None:
        self.calls.append("singles")


def test_a_large_append_waits_for_the_turn_of_all_processes() -> None:
    turn = Turn()
    backlog = Backlog(MANY, turn)
    assert backlog.wait_for_room(9, SMALL_BYTES, 0)
    assert not turn.calls
    turn.free = False
    assert not backlog.wait_for_room(9, LARGE, 0)
    turn.free = True
    assert backlog.wait_for_room(9, LARGE, 0)
    backlog.begin(LARGE, large=True)
    turn.free = False
    assert backlog.wait_for_room(9, LARGE, 0)  # it has the turn
    assert turn.calls[-1] is False


def test_a_turn_ends_with_a_rest_for_all_processes_while_there_are_single_events(
    clock: Clock,
) -> None:
    turn = Turn()
    backlog = Backlog(MANY, turn)
    for rest in (0.0, 0.15):
        backlog.begin(LARGE, large=True)
        clock.now += 0.1
        backlog.add(-LARGE)
        assert turn.calls[-1] == pytest.approx(rest)
        backlog.note_singles_elsewhere()


def test_a_turn_lasts_until_other_processes_have_read_what_it_appended(clock: Clock) -> None:
    turn = Turn()
    backlog = Backlog(MANY, turn)
    backlog.note_singles_elsewhere()
    backlog.begin(LARGE, large=True)
    clock.now += 0.1
    backlog.add(-LARGE)
    for seconds in (0.05, 0.05):
        clock.now += seconds
        backlog.report(LARGE)
    assert turn.calls == pytest.approx([0.15, 0.225, 0.3])
    backlog.report(SMALL_BYTES - 1)  # that is no array
    clock.now += 0.29
    backlog.note_singles_elsewhere()
    assert not backlog.has_room(9, LARGE)
    clock.now += 0.02
    backlog.report(LARGE)  # of an append by another process
    assert len(turn.calls) == 3


def test_regular_single_events_are_announced_a_few_times_a_second(clock: Clock) -> None:
    turn = Turn()
    backlog = Backlog(MANY, turn)
    for _ in range(10):
        clock.now += 0.1
        assert backlog.has_room(1, SMALL_BYTES)
    assert 2 <= len(turn.calls) <= 4


def test_a_single_event_is_large_only_over_64_kb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.brokers.lead._TIMEOUT_S", 0.0)
    turn = Turn()
    lead = Lead(100, 100 * 2 * LARGE, turn)  # a short event log, of which each event is a part
    lead.followed(EventId(1, 1))
    turn.free = False
    for size in (1, 64 << 10):
        lead.begin(1, size)
        lead.end(None, 1, size)
    assert not [call for call in turn.calls if call != "singles"]
    for events, size in ((1, (64 << 10) + 1), (2, 2)):
        with pytest.raises(ServiceUnavailable):
            lead.begin(events, size)


def test_an_append_with_many_topics_is_large() -> None:
    assert not is_large(500, weigh([Draft(topics=("t",))] * 500, 20_000))
    assert is_large(1, weigh([Draft(topics=tuple(map(str, range(300))))], 3000))
    assert is_large(60, weigh([Draft(topics=("a", "b", "c"))] * 60, 3000))


def test_an_append_is_woken_although_room_came_while_it_asked_for_the_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webapp.brokers.backlog._REPORT_S", PATIENCE)
    turn = Turn()
    backlog = Backlog(MANY, turn)
    answers = [False, True]

    def take(*_: object, **__: object) -> bool:
        backlog.add(-1)
        return answers.pop(0)

    monkeypatch.setattr(turn, "take", take)
    with gevent.Timeout(PATIENCE / 2):
        assert backlog.wait_for_room(9, LARGE, PATIENCE)
