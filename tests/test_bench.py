"""The benchmark works: whoever changes the hub finds out what it costs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def test_a_tenth_of_the_benchmark_loses_nothing_and_draws_its_picture(tmp_path: Path) -> None:
    picture = tmp_path / "bench.svg"
    command = [sys.executable, "tests/bench", "--quick", "--picture", str(picture)]
    command += ["tidings", "naive", "bare"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| lost deliveries and connects | 0 | 0 | 0 |" in done.stdout
    for measure in ("deliveries per CPU-second", "bytes per waiting reader", "events accepted"):
        assert measure in done.stdout
        assert measure in picture.read_text()
    assert ET.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"
