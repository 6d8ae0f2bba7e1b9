"""What the broker for Redis does with the server's answers; tests/brokers has real servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.events import contents
from webapp.brokers.base import Gap
from webapp.brokers.redis.broker import RedisBroker
from webapp.brokers.redis.turn import RedisTurn
from webapp.core.events import Draft, EventId

if TYPE_CHECKING:
    from collections.abc import Callable

DRAFTS = [Draft(topics=("t",), data=text) for text in "abc"]


class Server:
    """Appends at the positions 1-1, 1-2, … and returns all that follows a position."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.before_answer: Callable[[], object] = lambda: None
        self.knows_all = True

    def call_once(self, call: Any) -> list[bytes]:
        positions = []
        for text in call.arguments[5::2]:
            positions.append(b"1-%d" % (len(self.lines) + 1))
            self.lines.append(positions[-1] + b" " + text.encode())
        self.before_answer()
        return positions

    def blocking_reader(self, _: str) -> Server:
        return self

    def call(self, call: Any, _: str | None) -> list[Any]:
        after = EventId.parse(call.arguments[5])
        assert after
        lines, head = self.lines[after.seq :], b"1-%d" % len(self.lines)
        floor, known = (b"1-0", 1) if self.knows_all else (head, 0)
        return [
            floor,
            b"1-1",
            head,
            known,
            [line + b"\n" for line in lines],
            len(self.lines),
            0,
            b"-1",
            0,
            1,
            None,
            1,
        ]


@pytest.fixture(name="server")
def _server() -> Server:
    return Server()


@pytest.fixture(name="log")
def _log(server: Server) -> RedisBroker:
    log = RedisBroker("redis://127.0.0.1:1", 100, 1 << 20, 60)
    log.client = server  # type: ignore[assignment]
    return log


def test_a_follower_does_not_decode_what_its_process_appended(log: RedisBroker) -> None:
    log.append(DRAFTS[:1])
    follower = log.follow(EventId(1, 0))
    [before_it] = next(follower)  # type: ignore[misc]
    assert before_it.draft == DRAFTS[0]
    appended = log.append(DRAFTS[1:])
    assert [id(event) for event in next(follower)] == list(map(id, appended))  # type: ignore[union-attr]
    assert not len(log._own)


def test_a_follower_decodes_what_another_process_appended(log: RedisBroker, server: Server) -> None:
    server.lines = [b"1-1 " + DRAFTS[0].to_json().encode()]
    follower = log.follow(EventId(1, 0))
    [event] = next(follower)  # type: ignore[misc]
    assert event.draft == DRAFTS[0]


def test_an_event_that_is_read_before_its_append_is_answered_is_forgotten(
    log: RedisBroker, server: Server
) -> None:
    log.append(DRAFTS[:1])
    follower = log.follow(EventId(1, 0))
    next(follower)
    read: list[Any] = []
    server.before_answer = lambda: read.append(next(follower))
    log.append(DRAFTS[1:2])
    server.before_answer = lambda: None
    log.append(DRAFTS[2:])
    assert list(map(contents, [*read, next(follower)])) == [["b"], ["c"]]
    assert not len(log._own)


def test_a_position_that_a_failover_gives_again_names_the_new_event(
    log: RedisBroker, server: Server
) -> None:
    log.append(DRAFTS[:1])
    follower = log.follow(EventId(1, 0))
    next(follower)
    log.append(DRAFTS[1:2])
    server.lines[-1] = b"1-2 " + DRAFTS[2].to_json().encode()
    [event] = next(follower)  # type: ignore[misc]
    assert event.draft == DRAFTS[2]


def test_after_a_gap_no_event_of_before_is_kept(log: RedisBroker, server: Server) -> None:
    log.append(DRAFTS[:1])
    follower = log.follow(EventId(1, 0))
    next(follower)
    log.append(DRAFTS[1:])
    server.knows_all = False
    assert isinstance(next(follower), Gap)
    assert not len(log._own)


def test_single_events_hold_a_large_append_up_for_a_second_and_followers_for_longer() -> None:
    answer = 0  # another process has the turn
    turn = RedisTurn(lambda *_: answer, 100_000, 64 << 20)
    assert not turn.take(40_000, 0.9, beside_singles=True)
    assert turn.take(40_000, 1, beside_singles=True)
    assert not turn.take(1 << 20, 9, beside_singles=False)  # it might overtake a follower
    answer = 2  # a follower is behind
    assert not turn.take(40_000, 0.9, beside_singles=True)
    assert not turn.take(40_000, 9, beside_singles=True)
    answer = 1
    assert turn.take(40_000, 9, beside_singles=True)
