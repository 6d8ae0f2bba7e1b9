"""How the answers of several processes become one page."""

from __future__ import annotations

from webapp.presence.connections import Answer, _merge


def answer(ids: str, *, more: bool = False) -> Answer:
    return Answer([{"id": it} for it in ids], more, 10)


def ids(*answers: Answer, limit: int = 9) -> tuple[str, bool]:
    found = _merge(list(answers), limit)
    return "".join(it["id"] for it in found.connections), found.more


def test_all_streams_are_in_the_order_of_their_ids() -> None:
    assert ids(answer("bdf"), answer("ace")) == ("abcdef", False)
    assert _merge([answer("a"), answer("b")], 9).total == 20


def test_a_page_ends_before_what_a_process_has_left_out() -> None:
    assert ids(answer("ad", more=True), answer("bcef")) == ("abcd", True)
    assert ids(answer("bf", more=True), answer("ac", more=True)) == ("abc", True)


def test_a_page_has_its_limit() -> None:
    assert ids(answer("ac"), answer("bd"), limit=3) == ("abc", True)
    assert ids(answer("ac"), answer("bd"), limit=4) == ("abcd", False)
    assert ids() == ("", False)
