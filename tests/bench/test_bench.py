"""The benchmark works: a change of the hub can be measured."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from support.programs import need
from support.project import ROOT
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path


def bench(runs: str, *arguments: str) -> dict[str, list[str]]:
    """Run small versions of some runs; return the cells of the tables, by the first of a row."""
    command = [sys.executable, "tests/bench", "--quick", f"--runs={runs}", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=4 * PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    return {row[0].strip("| "): [cell.strip("| ") for cell in row[1:]] for row in rows}


def test_a_small_benchmark_loses_nothing_and_draws_its_picture(tmp_path: Path) -> None:
    picture = tmp_path / "bench.svg"
    rows = bench("A,E view,E pipe", f"--picture={picture}", "tidings", "naive", "bare")
    assert rows["lost deliveries and connects"] == ["0", "0", "0"]
    title = "A: 1,000 subscribers, 10 events/s: deliveries per CPU-second"
    assert all(rows[title])
    assert title.partition(",")[0] in picture.read_text()
    assert ET.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    _, found, _ = rows["E: pipe, to an empty view"]
    assert float(found) > 0


def test_a_small_benchmark_tries_stalls_workers_and_brokers() -> None:
    need("redis-server")
    need("setpriv")
    rows = bench(
        "F,G stall,I sqlite,J redis,J polling,K two,L sqlite,M sqlite,"
        "M ids postgres,N redis,O 10 at 100,P minute gzip,P first gzip,P burst gzip",
        "tidings",
    )
    assert rows["lost deliveries and connects"] == ["0"]
    assert rows["F: closed subscribers"][1] == "0"
    assert rows["G: resumed without the exact sequence"][1] == "0"
    for title in (
        "I: 50 connections: events accepted per second, SQLite",
        "J: latency, median, at another worker, ms, Redis",
        "J: the same, median, PostgreSQL behind a pooler",
        "K: the same with two workers",
        "L: the same, from SQLite",
        "M: a broker alone, 50 publishers: events per second, SQLite",
        "M: own ids and two topics, PostgreSQL",
        "N: events that a hub follows per second, Redis",
        "O: 10 subscribers, 100 events/s: latency at 99 %, ms",
        "P: JSON, each stays a minute, gzip",
        "P: a stream's first event, gzip",
        "P: JSON back to back, gzip",
    ):
        assert float(rows[title][0].replace(",", "")) > 0, title


def test_a_small_crowd_loses_nothing_in_a_roll() -> None:
    small = ("--subscribers=60", "--hold=0", "--drain=2")
    command = [sys.executable, "tests/bench/crowd.py", *small]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    found = {row[0]: row[1] for row in rows}
    assert found["connected"] == found["ended whole by a roll"] == "60"
    assert found["deliveries of ten events"] == "600"


def test_a_small_run_of_transactions_has_a_ratio() -> None:
    need("setpriv")
    pytest.importorskip("psycopg", reason="psycopg is an extra of the package")
    command = [sys.executable, "tests/bench/transactions.py", "--rounds=1", "--seconds=1"]
    command += ["--connections=4", "--timed=5", "--only", "short"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=4 * PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    assert len(rows) == 5
    assert all(float(value.replace(",", "")) > 0 for _, value in rows)


def test_a_small_event_log_is_read_by_topic() -> None:
    need("redis-server")
    command = [sys.executable, "tests/bench/by_topic.py", "--events=20000"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    assert len(rows) == 13
    assert all(row[1] for row in rows[2:])


def test_a_small_benchmark_draws_what_compression_saves(tmp_path: Path) -> None:
    picture = tmp_path / "gzip.svg"
    rows = bench("P json,P json gzip", f"--gzip-picture={picture}", "tidings")
    assert rows["lost deliveries and connects"] == ["0"]
    assert ET.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert "JSON of 130 bytes" in picture.read_text()
