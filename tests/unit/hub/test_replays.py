"""Large events of replays: encoded once, with a share of memory for each client."""

from __future__ import annotations

import pytest

from support.events import large
from support.hub import NOBODY
from webapp.core.events import Draft, Event, EventId
from webapp.free_memory import return_free_memory
from webapp.hub.delivery import replays as replays_module
from webapp.hub.delivery.feeds import Feed, Form
from webapp.hub.delivery.replays import PIECE_BYTES, Replays


@pytest.mark.parametrize("envelope", [False, True])
def test_a_large_event_is_encoded_once_and_goes_out_in_pieces(*, envelope: bool) -> None:
    replays = Replays(1 << 30, lambda: None)
    feed = Feed(frozenset({"t"}), NOBODY, Form(envelope=envelope))
    small = Event(EventId(9, 0), Draft(topics=("t",), data="small"))
    made = [replays.replay("a", feed, [large(1), small]) for _ in range(20)]
    assert replays.sending_bytes < 2 * made[0].size + 20 * 2 * PIECE_BYTES
    for replay in made:
        pieces = list(replay)
        assert max(map(len, pieces)) == PIECE_BYTES
        assert b"".join(pieces) == feed.render([large(1), small], {})
    del made, replay
    assert replays.sending_bytes == 0
    assert not replays._bytes_of


def test_one_client_has_at_most_half_of_the_bytes_in_flight() -> None:
    replays = Replays(6 * PIECE_BYTES, lambda: None)
    assert replays.has_room("a")
    replays.acquire("a", 3 * PIECE_BYTES)
    assert not replays.has_room("a")
    replays.acquire("b", 1)
    assert replays.has_room("b")
    replays.acquire("c", 3 * PIECE_BYTES)
    assert not replays.has_room("b")
    assert replays.has_room("d")
    replays.release("a", 3 * PIECE_BYTES)
    assert replays.has_room("a")
    assert replays.has_room("b")


def test_live_data_count_once_for_all_and_are_bounded_for_each_client() -> None:
    replays = Replays(8 * PIECE_BYTES, lambda: None)
    first, second = (bytes([number]) * 3 * PIECE_BYTES for number in (1, 2))
    held = [replays.hold_live("a", first) for _ in range(10)]
    assert held[0]
    assert len(set(held)) == 1
    assert replays.sending_bytes == len(first)
    assert replays.hold_live("a", second) is None  # over its half
    assert replays.hold_live("b", first) is held[0]
    others = replays.hold_live("b", second)
    assert others
    assert replays.hold_live("c", bytes(3 * PIECE_BYTES)) is None  # over all
    assert replays.hold_live("c", b"small")
    del held, others
    assert replays.sending_bytes == 0
    assert not replays._bytes_of
    assert not replays._live


def test_memory_is_returned_when_much_of_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = list[object]()
    monkeypatch.setattr("gevent.spawn_later", lambda *about: planned.append(about))
    replays = Replays(1 << 30, lambda: None)
    for size in (20 << 20, 1 << 20):
        replays.acquire("a", size)
        replays.release("a", size)
    assert planned == [(replays_module._RETURN_DELAY_S, return_free_memory)]
    return_free_memory()
