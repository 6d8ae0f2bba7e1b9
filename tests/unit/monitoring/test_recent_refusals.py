"""The newest refusals, in a file that anything may happen to."""

from __future__ import annotations

import os
from time import time
from typing import TYPE_CHECKING, Any

import pytest

from webapp.auth.refusals import SEND_ONE
from webapp.monitoring.recent_refusals import RecentRefusals, RefusedRequest

if TYPE_CHECKING:
    from pathlib import Path


def refused(reason: str = "full", detail: str = "x", at: float = 0, **other: Any) -> RefusedRequest:
    values: dict[str, Any] = {
        "method": "GET",
        "path": "/events",
        "address": "192.0.2.1",
        "subject": "user-7",
    }
    values |= {"remedy": "y", "asked": ("/a",), "granted": ("/b", "/c")} | other
    return RefusedRequest(time=at or time(), reason=reason, status=403, detail=detail, **values)


def details(refusals: RecentRefusals) -> list[str]:
    return [it.detail for it in refusals.read().values()]


def test_other_workers_see_them(tmp_path: Path) -> None:
    one, other = RecentRefusals(str(tmp_path)), RecentRefusals(str(tmp_path))
    one.add(refused("full", "a", 1))
    other.add(refused("full", "b", 2))
    other.add(refused("rate", "c", 3))
    assert details(one) == ["a"]
    one.share()
    other.share()
    for it in (one, other, RecentRefusals(str(tmp_path))):
        assert details(it) == ["a", "b", "c"]
        assert list(it.read().values())[2] == refused("rate", "c", 3)


def test_of_a_second_the_first_two_and_the_newest_are_kept() -> None:
    refusals = RecentRefusals(None)
    for number in range(9):
        refusals.add(refused("full", str(number), 10 + number / 10))
    refusals.add(refused("rate", "other", 10.95))
    refusals.add(refused("full", "later", 11))
    refusals.add(refused("full", "back", 9))  # the clock was set back
    assert details(refusals) == ["back", "0", "1", "8", "other", "later"]


def test_the_newest_of_each_reason_outlives_a_flood(tmp_path: Path) -> None:
    one, other = RecentRefusals(str(tmp_path)), RecentRefusals(str(tmp_path))
    for it in (one, other):
        it.add(refused("rare", "older", 1))
        it.add(refused("rare", "newest", 2))
        for number in range(100):
            it.add(refused("flood", str(number), 3 + number))
        it.share()
    found = details(RecentRefusals(str(tmp_path)))
    assert found[0] == "newest"
    assert found[1:] == [str(number) for number in range(51, 100)]


def test_they_are_bounded(tmp_path: Path) -> None:
    refusals = RecentRefusals(str(tmp_path))
    long = "\U0001f600" * 10_000
    texts: dict[str, Any] = dict.fromkeys(("method", "path", "address", "subject", "remedy"), long)
    for part in range(3):
        for number in range(100):
            lists: dict[str, Any] = {"asked": (long,) * 9, "granted": (long,) * 9}
            refusals.add(refused(f"{part}-{number}", long, **texts, **lists))
        refusals.share()
    for it in (refusals, RecentRefusals(str(tmp_path))):
        found = list(it.read().values())
        assert len(found) == 50
        assert {len(text) for text in found[0][3:9]} == {300}
        assert [len(text) for text in found[0].asked + found[0].granted] == [300] * 10


def test_no_token_and_no_control_character_is_kept() -> None:
    refusals = RecentRefusals(None)
    token = "eyJhbGciOiJIUzI1NiJ9.eyJtZXJjdXJlIjp7fX0.c2lnbmF0dXJl"
    text = f"the \x1b[31m token\r\n {token}"
    refusals.add(refused("full", text, path=f"/x/{token[:30]}", asked=(text,), granted=(text,)))
    [found] = refusals.read().values()
    assert "eyJ" not in str(found)
    assert found.detail.isprintable()
    assert found.asked[0].isprintable()
    assert found.path == "/x/…"
    refusals.add(refused("rate", f"{SEND_ONE} Bearer secret", 1e10))
    assert list(refusals.read().values())[1].detail == f"{SEND_ONE} Bearer …"


@pytest.mark.parametrize(
    "content",
    [b"x", b"[]", b'{"full": 7}', b'{"full": ["x"]}', b"[" * 200_000, b"\xff\x00" * 99,
     b'{"full": [1, "full", 403, "", "", "", "", "", "", 7, {}]}'],
)  # fmt: skip
def test_a_damaged_file_is_written_again(tmp_path: Path, content: bytes) -> None:
    refusals = RecentRefusals(str(tmp_path))
    refusals.add(refused("full"))
    refusals.share()
    (tmp_path / "refusals.json").write_bytes(content)
    assert details(refusals) == ["x"]  # it remembers them
    assert RecentRefusals(str(tmp_path)).read() == {}
    refusals.add(refused("rate"))
    refusals.share()
    assert [it.reason for it in RecentRefusals(str(tmp_path)).read().values()] == ["rate"]


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "refusals.json")
    refusals = RecentRefusals(str(tmp_path))
    assert refusals.read() == {}
