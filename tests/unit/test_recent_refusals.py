"""The newest refusal for each reason, in a file that anything may happen to."""

from __future__ import annotations

import os
from time import time
from typing import TYPE_CHECKING

import pytest

from webapp.recent_refusals import RecentRefusals, RefusedRequest

if TYPE_CHECKING:
    from pathlib import Path


def refused(detail: str = "x", at: float | None = None, path: str = "/events") -> RefusedRequest:
    return RefusedRequest(time() if at is None else at, 403, "GET", path, "192.0.2.1", detail)


def test_other_workers_see_them(tmp_path: Path) -> None:
    one, other = RecentRefusals(str(tmp_path)), RecentRefusals(str(tmp_path))
    one.note("full", refused("a", 1))
    other.note("full", refused("b", 2))
    other.note("rate", refused("c", 3))
    assert {reason: it.detail for reason, it in one.read().items()} == {"full": "a"}
    one.share()
    other.share()
    for it in (one, other, RecentRefusals(str(tmp_path))):
        assert {reason: it.detail for reason, it in it.read().items()} == {"full": "b", "rate": "c"}


def test_an_example_a_second_is_enough() -> None:
    refusals = RecentRefusals(None)
    assert refusals.wants("full", 10)
    refusals.note("full", refused("a", 10))
    assert not refusals.wants("full", 10.5)
    assert refusals.wants("full", 11.5)
    assert refusals.wants("full", 9)  # the clock was set back
    assert refusals.wants("rate", 10.5)


def test_they_are_bounded(tmp_path: Path) -> None:
    refusals = RecentRefusals(str(tmp_path))
    for part in range(3):
        for number in range(300):
            refusals.note(f"{part}-{number}", refused("\U0001f600" * 10_000))
        refusals.share()
    found = refusals.read()
    assert len(found) == 100
    assert all(len(it.detail) == 300 for it in found.values())


def test_no_token_and_no_control_character_is_kept() -> None:
    refusals = RecentRefusals(None)
    token = "eyJhbGciOiJIUzI1NiJ9.eyJtZXJjdXJlIjp7fX0.c2lnbmF0dXJl"
    refusals.note("full", refused(f"the \x1b[31m token\r\n {token}", path=f"/x/{token[:30]}"))
    found = refusals.read()["full"]
    assert "eyJ" not in str(found)
    assert found.detail.isprintable()
    assert found.path == "/x/…"


@pytest.mark.parametrize(
    "content", [b"x", b"[]", b'{"full": 7}', b'{"full": ["x"]}', b"[" * 200_000, b"\xff\x00" * 99]
)
def test_a_damaged_file_is_written_again(tmp_path: Path, content: bytes) -> None:
    refusals = RecentRefusals(str(tmp_path))
    refusals.note("full", refused())
    refusals.share()
    (tmp_path / "refusals.json").write_bytes(content)
    assert "full" in refusals.read()  # it remembers them
    assert RecentRefusals(str(tmp_path)).read() == {}
    refusals.note("rate", refused())
    refusals.share()
    assert RecentRefusals(str(tmp_path)).read().keys() == {"rate"}


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "refusals.json")
    refusals = RecentRefusals(str(tmp_path))
    assert refusals.read() == {}
