"""How many subscribers ask for each topic: counted by each worker, in files of their own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from webapp.hub import subscriber_counts
from webapp.hub.delivery.feed_index import FeedIndex
from webapp.hub.delivery.feeds import Feed, Form
from webapp.hub.subscriber_counts import SubscriberCounts

if TYPE_CHECKING:
    from pathlib import Path

OTHER = 4242
EVIL = "<b>\ud800\x00'\U0001f600"


def feeds(*all_patterns: set[str], form: Form | None = None) -> FeedIndex:
    index = FeedIndex()
    for patterns in all_patterns:
        index.acquire(Feed(frozenset(patterns), frozenset(), form or Form()))
    return index


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found = [1000.0]
    monkeypatch.setattr(subscriber_counts, "monotonic", lambda: found[0])
    return found


def write_as(pid: int, folder: Path, index: FeedIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: pid)
        SubscriberCounts(str(folder), index).sum([], [])


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def test_exact_topics_and_patterns_are_counted_apart() -> None:
    index = feeds({"a", "b"}, {"a"}, {"a"}, {"a", "/{x}"}, {"*"}, {"/{x}", "*"}, {EVIL})
    found, counts = SubscriberCounts(None, index).sum(["a", "b", "c", "*", EVIL], [])
    assert found == {"a": 4, "b": 1, "c": 0, "*": 0, EVIL: 1}
    assert counts.patterns == {"*": 2, "/{x}": 2}


def test_the_consoles_own_streams_are_left_out() -> None:
    index = feeds({"a", "*"}, form=Form(console=True))
    found, counts = SubscriberCounts(None, index).sum(["a"], [])
    assert (found, counts.patterns) == ({"a": 0}, {})


def test_all_workers_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_as(OTHER, tmp_path, feeds({"a"}, {"b", "/{x}", "/\u00e9\u202e{y}"}), monkeypatch)
    counts = SubscriberCounts(str(tmp_path), feeds({"a"}, {"/{x}"}))
    found, sum_ = counts.sum(["a", "b", "c"], [os.getpid(), OTHER])
    assert found == {"a": 2, "b": 1, "c": 0}
    assert sum_.patterns == {"/{x}": 2, "/\u00e9\u202e{y}": 1}


def test_nothing_is_known_before_all_workers_have_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = SubscriberCounts(str(tmp_path), feeds({"a"}))
    found, sum_ = counts.sum(["a"], [os.getpid(), OTHER])
    assert (found, sum_.complete) == ({}, False)
    write_as(OTHER, tmp_path, feeds(), monkeypatch)
    os.utime(tmp_path / f"subscribers-{OTHER}", (1, 1))  # of another visit
    assert counts.sum(["a"], [os.getpid(), OTHER])[0] == {}
    write_as(OTHER, tmp_path, feeds(), monkeypatch)
    assert counts.sum(["a"], [os.getpid(), OTHER])[0] == {"a": 1}


def test_a_worker_counts_only_while_a_console_asks(tmp_path: Path, now: list[float]) -> None:
    asked, own = tmp_path / "subscribers-asked", tmp_path / f"subscribers-{os.getpid()}"
    counts = SubscriberCounts(str(tmp_path), feeds({"a"}))
    counts.tick()
    assert list(tmp_path.iterdir()) == []
    SubscriberCounts(str(tmp_path), feeds()).sum([], [])
    own.unlink()
    counts.tick()
    assert own.exists()
    own.unlink()
    counts.tick()  # not yet again
    assert not own.exists()
    now[0] += 5
    os.utime(asked, (1, 1))
    counts.tick()
    assert not own.exists()


def test_what_is_counted_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(subscriber_counts, "_MAX_TOPICS", 10)
    index = feeds(*({f"t{n}"} for n in range(50)), *({f"/{n}/{{x}}"} for n in range(2000)))
    found, counts = SubscriberCounts(str(tmp_path), index).sum(["t0", "t49"], [])
    assert found == {}  # not known, rather than wrong
    assert len(counts.patterns) == 100
    assert (tmp_path / f"subscribers-{os.getpid()}").stat().st_size < 10_000


@pytest.mark.parametrize(
    "damage",
    [
        lambda it: it.write_bytes(b""),
        lambda it: it.write_bytes(b"x" * 9),
        lambda it: it.write_bytes(b"\xff" * 5000),
        lambda it: it.write_bytes(b"\0" * 5 + b"\1\0\0\0\1["),
        lambda it: it.write_bytes(b"\0\0\0\0\2\0\0\0\1[]"),
        lambda it: it.write_bytes(b'\0\0\0\0\x0b\0\0\0\1{"a":1e999}'),
        lambda it: it.write_bytes(it.read_bytes()[:-1]),
        lambda it: it.unlink(),
        replace_by_fifo,
        replace_by_link,
    ],
)
def test_a_damaged_file_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: object
) -> None:
    write_as(OTHER, tmp_path, feeds({"a", "{x}"}), monkeypatch)
    counts = SubscriberCounts(str(tmp_path), feeds({"a"}))
    assert counts.sum(["a"], [OTHER])[0] == {"a": 2}
    damage(tmp_path / f"subscribers-{OTHER}")  # type: ignore[operator]
    assert counts.sum(["a"], [OTHER])[0] == {}


def test_a_folder_that_cannot_be_written_costs_only_the_others(tmp_path: Path) -> None:
    counts = SubscriberCounts(str(tmp_path / "none"), feeds({"a"}))
    assert counts.sum(["a"], [os.getpid()])[0] == {"a": 1}
    assert counts.sum(["a"], [os.getpid(), OTHER])[0] == {}
