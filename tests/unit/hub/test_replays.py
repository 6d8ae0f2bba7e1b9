"""Large events of replays: encoded once, with a share of memory for each client."""

from __future__ import annotations

import pytest

from support.events import large
from support.hub import NOBODY
from webapp.core.events import Draft, Event, EventId
from webapp.hub.feeds import Feed
from webapp.hub.replays import PIECE_BYTES, Replays


@pytest.mark.parametrize("envelope", [False, True])
def test_a_large_event_is_encoded_once_and_goes_out_in_pieces(*, envelope: bool) -> None:
    replays = Replays(1 << 30, lambda: None)
    feed = Feed(frozenset({"t"}), NOBODY, envelope=envelope)
    small = Event(EventId(9, 0), Draft(topics=("t",), data="small"))
    made = [replays.replay("a", feed, [large(1), small]) for _ in range(20)]
    assert replays.bytes < 2 * made[0].size + 20 * 2 * PIECE_BYTES
    for replay in made:
        pieces = list(replay)
        assert max(map(len, pieces)) == PIECE_BYTES
        assert b"".join(pieces) == feed.render([large(1), small], {})
    del made, replay
    assert replays.bytes == 0
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
