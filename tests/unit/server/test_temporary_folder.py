"""Where temporary files go if the usual folders cannot be written, as with a read-only root."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from webapp.config.settings import Settings
from webapp.errors import Misconfigured
from webapp.server import temporary_folder


@pytest.fixture(autouse=True)
def _read_only_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tmp_path.is_dir()  # it was made before
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc"])
    monkeypatch.setattr(temporary_folder, "MEMORY", Path("/proc/shm"))


def test_it_takes_the_folder_of_the_event_log(tmp_path: Path) -> None:
    temporary_folder.choose(Settings(broker_url=f"sqlite:///{tmp_path}/tidings.db"))
    assert Path(tempfile.gettempdir()) == tmp_path


def test_memory_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary_folder, "MEMORY", tmp_path)
    temporary_folder.choose(Settings(broker_url="redis://h"))
    assert Path(tempfile.gettempdir()) == tmp_path


@pytest.mark.parametrize("url", ["sqlite:////proc/data/tidings.db", "redis://h", "memory://"])
def test_it_refuses_to_start_without_any_folder_and_says_what_to_mount(url: str) -> None:
    with pytest.raises(Misconfigured, match="Mount one at /tmp, such as an emptyDir"):
        temporary_folder.choose(Settings(broker_url=url))


def test_a_usual_folder_that_can_be_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path)])
    temporary_folder.choose(Settings(broker_url="memory://"))
    assert Path(tempfile.gettempdir()) == tmp_path
