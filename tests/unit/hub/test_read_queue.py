"""The queue of reads: clients take turns, and short ways come first."""

from __future__ import annotations

from time import monotonic

import gevent
import pytest

from support.waiting import PATIENCE
from webapp.core.events import EventId
from webapp.hub import read_queue
from webapp.hub.read_queue import Reading, ReadingCancelled, ReadQueue


def order(turns: ReadQueue, readings: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return in which order readings of some clients, from some positions, have their turns."""
    had: list[tuple[str, int]] = []

    def read(client: str, ms: int) -> None:
        with turns.turn(Reading(client), EventId(ms, 0)):
            had.append((client, ms))

    first = Reading("first")
    with turns.turn(first, EventId(0, 0)):
        tasks = [gevent.spawn(read, *reading) for reading in readings]
        gevent.sleep(0)
        assert not had
    gevent.joinall(tasks, timeout=PATIENCE, raise_error=True)
    return had


def test_clients_take_turns_and_of_each_the_shortest_way_comes_first() -> None:
    turns = ReadQueue(1, lambda _: True)
    readings = [("a", 1), ("a", 2), ("a", 9), ("a", 3), ("b", 5)]
    assert order(turns, readings) == [("a", 9), ("b", 5), ("a", 3), ("a", 2), ("a", 1)]
    assert not turns._waiting
    assert not turns._granted


def test_nobody_waits_for_ever_for_shorter_ones() -> None:
    turns = ReadQueue(1, lambda _: True)
    had = order(turns, [("a", 0), *[("a", ms) for ms in range(10, 100)]])
    assert had.index(("a", 0)) < 4


@pytest.mark.parametrize("clients", ["ab", "abc", "abcd"])
def test_the_longest_wait_of_each_client_ends(clients: str) -> None:
    turns = ReadQueue(1, lambda _: True, lambda: 0.0)
    had = order(turns, [(client, ms) for ms in range(20) for client in clients])
    for client in clients:
        assert [it for it in had if it[0] == client].index((client, 0)) < 4


def test_a_cancelled_read_leaves_the_queue_and_gives_its_turn_back() -> None:
    turns, reading, done = ReadQueue(1, lambda _: True), Reading("a"), []

    def read() -> None:
        with pytest.raises(ReadingCancelled), turns.turn(reading, EventId(1, 0)):
            pass
        done.append(1)

    with turns.turn(Reading("b"), EventId(0, 0)):
        task = gevent.spawn(read)
        gevent.sleep(0)
        reading.cancel()
        task.join(PATIENCE)
        assert done
        assert not turns._waiting
    assert order(turns, [("c", 1)]) == [("c", 1)]


def test_who_may_not_go_on_lets_others_pass() -> None:
    full = {"a"}
    turns = ReadQueue(1, lambda client: client not in full)
    had: list[str] = []

    def read(client: str) -> None:
        with turns.turn(Reading(client), EventId(0, 0)):
            had.append(client)

    tasks = [gevent.spawn(read, client) for client in "ab"]
    gevent.sleep(0.01)
    assert had == ["b"]
    full.clear()
    turns.grant_turns()
    gevent.joinall(tasks, timeout=PATIENCE, raise_error=True)
    assert had == ["b", "a"]


def test_clients_share_the_time_of_turns_and_not_their_number() -> None:
    now = 0.0
    turns = ReadQueue(1, lambda _: True, lambda: now)
    had: list[str] = []

    def read(client: str, seconds: float) -> None:
        nonlocal now
        with turns.turn(Reading(client), EventId(1, 0)):
            had.append(client)
            now += seconds

    with turns.turn(Reading("first"), EventId(0, 0)):
        tasks = [gevent.spawn(read, "long", 1.0) for _ in range(20)]
        tasks += [gevent.spawn(read, "short", 0.01) for _ in range(20)]
        gevent.sleep(0)
    gevent.joinall(tasks, timeout=PATIENCE, raise_error=True)
    assert had.index("short") == 1
    assert had[:22].count("short") == 20
    assert not turns._used_s


def test_the_queue_keeps_nothing_of_those_who_left_it() -> None:
    turns = ReadQueue(1, lambda _: True)
    reading = Reading("waits")

    def give_up(reading: Reading) -> None:
        with pytest.raises(ReadingCancelled):
            turns._await(reading)

    with turns.turn(Reading("first"), EventId(0, 0)):
        for number in range(5000):
            one = Reading(str(number))
            gevent.spawn(give_up, one)
            gevent.sleep(0)
            one.cancel()
            gevent.sleep(0)
        waits = gevent.spawn(turns._await, reading)
        gevent.sleep(0)
        assert list(turns._waiting) == list(turns._number) == ["waits"]
        assert len(turns._order) < 2 * read_queue._REMEMBERED_CLIENTS
    waits.join(PATIENCE)
    turns._end(reading, 0.0)
    assert not turns._used_s


def test_a_cancelled_reading_ends_in_the_middle_of_its_work() -> None:
    reading, done = Reading("a"), list[int]()

    def work(number: int) -> None:
        done.append(number)
        if number == 3:
            reading.cancel()

    with pytest.raises(ReadingCancelled):
        list(map(work, reading.cooperative(range(10))))
    assert done == [0, 1, 2, 3]


def test_work_in_many_short_pieces_yields_to_the_loop() -> None:
    ran = list[int]()
    gevent.spawn(ran.append, 1)
    reading, began = Reading("a"), monotonic()
    while not ran and monotonic() < began + PATIENCE:
        assert list(reading.cooperative([])) == []
    assert ran
