"""The fuzzers work, and what they try first is well; `make fuzz` goes on for hours."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from support.project import ROOT, environment


def test_the_fuzzers_find_nothing_at_first() -> None:
    command = [sys.executable, "tests/fuzz/campaign.py", "--seed", "1", "--inputs", "120"]
    done = subprocess.run(
        [*command, "--seconds", "600"],
        cwd=ROOT,
        env=environment({"PYTHONPATH": os.pathsep.join([".", "tests"])}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names = re.findall(r"^(\w+): 120 inputs, nothing found", done.stdout, re.MULTILINE)
    assert names == ["wire", "drafts", "tokens", "patterns", "http", "smuggling"]
