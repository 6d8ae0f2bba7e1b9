"""The benchmark works: whoever changes the hub finds out what it costs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def bench(*arguments: str) -> str:
    """Run small versions of some runs; nothing may be lost."""
    command = [sys.executable, "tests/bench", "--quick", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=80, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_small_benchmark_loses_nothing_and_draws_its_picture(tmp_path: Path) -> None:
    picture = tmp_path / "bench.svg"
    shown = bench("--runs=A,E", f"--picture={picture}", "tidings", "naive", "bare")
    assert "| lost deliveries and connects | 0 | 0 | 0 |" in shown
    for measure in ("A: 1,000 readers", "E: one connection"):
        assert measure in shown
        assert measure.partition(",")[0] in picture.read_text()
    assert ET.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_a_small_benchmark_tries_waiting_probes_stalls_tokens_and_topics() -> None:
    shown = bench("--runs=D,F,G,H", "tidings")
    assert "| F: closed readers | at most 0 | 0 |  |" in shown
    assert "| G: resumed without the exact sequence | at most 0 | 0 |  |" in shown
    for measure in ("bytes each", "garbage collection", "publishing meanwhile", "H: 1,000 tokens"):
        assert measure in shown
