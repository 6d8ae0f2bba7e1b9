"""How the answers of several processes become one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webapp.core.topics import TopicPatterns
from webapp.presence.connections import Answer, _merge, _way
from webapp.scheduling import TimeSlice

if TYPE_CHECKING:
    import pytest


def answer(ids: str, *, more: bool = False) -> Answer:
    return Answer([{"id": it} for it in ids], more, 10, 2)


def ids(*answers: Answer, limit: int = 9) -> tuple[str, bool]:
    found = _merge(list(answers), limit)
    return "".join(it["id"] for it in found.connections), found.more


def test_all_streams_are_in_the_order_of_their_ids() -> None:
    assert ids(answer("bdf"), answer("ace")) == ("abcdef", False)
    found = _merge([answer("a"), answer("b")], 9)
    assert (found.total, found.consoles) == (20, 4)


def test_a_page_ends_before_what_a_process_has_left_out() -> None:
    assert ids(answer("ad", more=True), answer("bcef")) == ("abcd", True)
    assert ids(answer("bf", more=True), answer("ac", more=True)) == ("abc", True)


def test_a_page_has_its_limit() -> None:
    assert ids(answer("ac"), answer("bd"), limit=3) == ("abc", True)
    assert ids(answer("ac"), answer("bd"), limit=4) == ("abcd", False)
    assert ids() == ("", False)


def way(*patterns: str, topic: str = "/users/7") -> str | None:
    return _way(TopicPatterns(frozenset(patterns)), topic, TimeSlice())


def test_the_most_exact_pattern_is_named() -> None:
    assert way("*", "/users/{id}", "/users/7") == "/users/7"
    assert way("*", "/users/{id}", "/users/8") == "/users/{id}"
    assert way("*", "/rooms/{id}", "/users/8") == "*"
    assert way("/users", "/users/{id}/x", "/users/8") is None
    assert way("/users/{id", topic="/users/7") is None  # no valid template


def test_matching_many_patterns_yields(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = list[None]()
    monkeypatch.setattr(TimeSlice, "checkpoint", lambda _: checkpoints.append(None))
    assert way(*(f"/rooms/{number}/{{id}}" for number in range(500))) is None
    assert len(checkpoints) == 500
