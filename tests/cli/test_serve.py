"""How `tidings serve` of the repository starts gunicorn; of the installed package see
`deploy/test_installed.py`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from support.cli import within_test
from support.project import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="started")
def _started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The environments of what was started."""
    found: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *arguments: found.append(arguments[2]))
    return found


def test_the_event_log_is_in_the_folder_that_the_help_names(
    started: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    assert within_test("serve").exit_code == 0
    assert started[-1]["TIDINGS_BROKER_URL"] == f"sqlite:///{tmp_path}/instance/tidings.db"
    within_test("serve", TIDINGS_BROKER_URL="memory://")
    assert started[-1]["TIDINGS_BROKER_URL"] == "memory://"
    monkeypatch.chdir(ROOT)
    within_test("serve")
    assert "TIDINGS_BROKER_URL" not in started[-1]  # so the demo stays on


def test_it_says_what_cannot_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "execve", refuse)
    monkeypatch.chdir(ROOT)
    result = within_test("serve")
    assert (result.exit_code, "cannot be run: Permission denied" in result.output) == (1, True)
