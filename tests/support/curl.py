"""curl as a reader of the documentation runs it."""

from __future__ import annotations

import os
import subprocess

from support.programs import need
from support.project import ROOT
from support.waiting import PATIENCE


def curl_output(command: str, **env: str) -> str:
    """Run a curl that ends."""
    need("curl")
    return subprocess.run(
        [*shell(), f"{command} -sS"],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout


def curl_until(command: str, wanted: str, **env: str) -> str:
    """Run a curl that does not end, until it has printed what is wanted."""
    need("curl")
    output = ""
    with subprocess.Popen(
        [*shell(), f"exec {command} -sS --max-time {PATIENCE}"],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        text=True,
    ) as curl:
        assert curl.stdout
        while wanted not in output:
            line = curl.stdout.readline()
            assert line, f"it ended after {output!r}"
            output += line
        curl.kill()
    return output


def shell() -> list[str]:
    return [need("sh"), "-c"]
