"""The samples of the last fifteen minutes, in a file that anything may happen to."""

from __future__ import annotations

import fcntl
import os
import random
from typing import TYPE_CHECKING

import pytest

from webapp.monitoring.samples import POINTS, SECONDS_BOUNDS, STEP_S, Sample, Samples
from webapp.monitoring.series import series

if TYPE_CHECKING:
    from pathlib import Path

FIRST = 352_000_000  # a tick
BUCKETS = len(SECONDS_BOUNDS) + 1


def sample(tick: int, published: float = 0, fanout: tuple[float, ...] = (0,) * BUCKETS) -> Sample:
    return Sample(tick, tick * STEP_S + 0.25, (7, 1 << 20, 3, 99), (published, 0, 0, 1), fanout)


def add(samples: Samples, *ticks: int) -> None:
    for tick in ticks:
        samples.add(tick, tick * STEP_S, sample)


def file_of(folder: Path) -> Path:
    [path] = folder.iterdir()
    return path


def test_a_sample_comes_back_in_this_and_other_processes(tmp_path: Path) -> None:
    one, other = Samples(str(tmp_path), 1.5), Samples(str(tmp_path), 2.5)
    add(one, FIRST)
    add(other, FIRST + 1)
    assert one.read() == other.read() == {it: sample(it) for it in (FIRST, FIRST + 1)}
    assert one.began() == other.began() == FIRST * STEP_S
    assert file_of(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_tick_is_sampled_once(tmp_path: Path) -> None:
    one, other = Samples(str(tmp_path), 0), Samples(str(tmp_path), 0)
    add(one, FIRST)
    other.add(FIRST, 0, lambda _: pytest.fail("it has been sampled"))


def test_a_worker_leaves_a_tick_to_one_that_takes_it(tmp_path: Path) -> None:
    samples = Samples(str(tmp_path), 0)
    add(samples, FIRST)
    with file_of(tmp_path).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            add(samples, FIRST + 1)
    add(samples, FIRST + 1)
    assert samples.read().keys() == {FIRST, FIRST + 1}


@pytest.mark.parametrize("in_file", [True, False])
def test_they_are_bounded(tmp_path: Path, *, in_file: bool) -> None:
    samples = Samples(str(tmp_path) if in_file else None, 0)
    ticks = range(FIRST, FIRST + 3 * POINTS)
    add(samples, *ticks)
    assert sorted(samples.read()) == list(ticks)[-POINTS - 1 :]
    if in_file:
        assert file_of(tmp_path).stat().st_size < 64 << 10


def test_a_damaged_file_costs_only_what_is_damaged(tmp_path: Path) -> None:
    samples, ticks = Samples(str(tmp_path), 0), range(FIRST, FIRST + POINTS)
    add(samples, *ticks)
    path = file_of(tmp_path)
    whole = path.read_bytes()
    for seed in range(200):
        chosen = random.Random(seed)
        data = bytearray(whole)
        start = chosen.randrange(len(data))
        data[start : start + 64] = chosen.randbytes(64)
        path.write_bytes(bytes(data[: chosen.choice([len(data), start, 0])]))
        found = samples.read()
        assert all(it == sample(tick) for tick, it in found.items())
        if len(data) == path.stat().st_size:
            assert len(found) >= POINTS - 2
        assert samples.began() in {None, FIRST * STEP_S}
        add(samples, ticks[-1] + 1)
        assert ticks[-1] + 1 in samples.read()
    path.write_bytes(random.Random(0).randbytes(1 << 20))
    assert (samples.read(), samples.began()) == ({}, None)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    samples = Samples(str(tmp_path), 0)
    os.mkfifo(tmp_path / "samples")
    assert (samples.read(), samples.began()) == ({}, None)
    (tmp_path / "samples").unlink()
    (tmp_path / "samples").symlink_to("/dev/zero")
    assert samples.read() == {}
    with pytest.raises(OSError, match="symbolic"):
        add(samples, FIRST)


def test_a_folder_that_another_user_replaced_gets_no_file(tmp_path: Path) -> None:
    folder, other = tmp_path / "metrics", tmp_path / "other"
    other.mkdir()
    folder.symlink_to(other)
    samples = Samples(str(folder), 0)
    with pytest.raises(OSError, match=r"directory|symbolic"):
        add(samples, FIRST)
    assert list(other.iterdir()) == []


def test_without_a_folder_they_are_in_memory() -> None:
    samples = Samples(None, 12.5)
    add(samples, FIRST)
    assert (samples.read(), samples.began()) == ({FIRST: sample(FIRST)}, 12.5)


def test_a_folder_that_is_gone_has_no_samples(tmp_path: Path) -> None:
    samples = Samples(str(tmp_path / "gone"), 0)
    assert (samples.read(), samples.began()) == ({}, None)
    with pytest.raises(FileNotFoundError):
        add(samples, FIRST)


# What is plotted

NOW = (FIRST + 1000) * STEP_S


def test_a_step_that_nobody_sampled_has_no_numbers() -> None:
    found = series({it: sample(it, it * 10) for it in (FIRST, FIRST + 1, FIRST + 3)}, 0, NOW)
    assert (found["from"], found["to"]) == (FIRST * STEP_S, (FIRST + 3) * STEP_S)
    assert found["subscribers"] == [7, 7, None, 7]
    assert found["log_bytes"] == [99, 99, None, 99]
    assert found["published"] == [None, 2, None, None]  # a rate needs the sample before
    assert len({len(it) for it in found.values() if isinstance(it, list)}) == 1


def test_only_newer_points_are_returned() -> None:
    samples = {it: sample(it, it) for it in range(FIRST, FIRST + 10)}
    found = series(samples, (FIRST + 7) * STEP_S, NOW)
    assert (found["from"], found["to"]) == ((FIRST + 8) * STEP_S, (FIRST + 9) * STEP_S)
    assert found["published"] == [0.2, 0.2]
    nothing = series(samples, (FIRST + 9) * STEP_S, NOW)
    assert (nothing["from"], nothing["to"], nothing["published"]) == (None, None, [])
    assert series({}, 0, NOW)["from"] is None
    assert series(samples, 1e11, NOW)["subscribers"] == []


def test_there_are_at_most_so_many_points() -> None:
    samples = {it: sample(it, it) for it in range(FIRST, FIRST + POINTS + 1)}
    found = series(samples, 0, NOW)
    assert len(found["published"]) == POINTS
    assert None not in found["published"]  # the sample before the first one is known
    old = {FIRST: sample(FIRST), FIRST + 999: sample(FIRST + 999)}
    assert len(series(old, 0, NOW)["memory"]) == POINTS


def test_samples_of_the_future_are_left_out() -> None:
    found = series({FIRST: sample(FIRST), FIRST + 5: sample(FIRST + 5)}, 0, FIRST * STEP_S + 1)
    assert found["to"] == FIRST * STEP_S


def test_counters_that_began_anew_have_no_rate() -> None:
    found = series({FIRST: sample(FIRST, 100), FIRST + 1: sample(FIRST + 1, 3)}, 0, NOW)
    assert found["published"] == [None, None]
    assert found["cpu"] == [None, 0]


def test_quantiles_are_those_of_the_step() -> None:
    before = (100.0,) * BUCKETS
    after = (100.0, 190.0, *(199.0,) * 12, 200.0)  # 90 below 1 ms, 9 below 2.5, 1 over 10 s
    samples = {FIRST: sample(FIRST, 0, before), FIRST + 1: sample(FIRST + 1, 0, after)}
    found = series(samples, 0, NOW)
    assert found["fanout_p50"][1] == pytest.approx(0.0005 + 0.0005 * 50 / 90)
    assert found["fanout_p99"][1] == pytest.approx(0.0025)
    samples[FIRST + 2] = sample(FIRST + 2, 0, after)
    assert series(samples, 0, NOW)["fanout_p50"][2] is None  # nothing was sent
