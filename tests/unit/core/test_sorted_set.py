"""A sorted set is a set in order, whatever is done to it."""

from __future__ import annotations

import random

import pytest

from webapp.core import sorted_set
from webapp.core.sorted_set import SortedSet


@pytest.mark.parametrize("seed", range(5))
def test_it_is_a_set_in_order(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_set, "_MAX_CHUNK_ITEMS", 4)
    chance = random.Random(seed)
    tested, model = SortedSet[int](), set[int]()
    for _ in range(2000):
        item = chance.randrange(60)
        if chance.random() < 0.6:
            tested.add(item)
            model.add(item)
        else:
            tested.discard(item)
            model.discard(item)
        if chance.random() < 0.02:
            tested.keep_first(item)
            model = set(sorted(model)[:item])
        start, count = chance.randrange(-1, 62), chance.randrange(9)
        expected = [it for it in sorted(model) if it >= start][:count]
        assert tested.first_from(start, count) == expected
        assert len(tested) == len(model)
        ends = min(model, default=None), max(model, default=None)
        assert (tested.first, tested.last) == ends
