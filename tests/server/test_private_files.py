"""The hub's files: for its own user only, and no trap of another user is opened or waited for."""

from __future__ import annotations

import os
import shutil
import signal
import stat
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.server import running, serving
from support.tokens import KEY
from support.waiting import PATIENCE, until
from webapp import private_files
from webapp.brokers.sqlite.broker import SqliteBroker
from webapp.errors import Misconfigured
from webapp.monitoring import metrics_folder
from webapp.server import metrics_dir

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server

pytestmark = pytest.mark.slow

NOBODY = 65534

SPECIAL: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "a device": lambda path: path.symlink_to("/dev/null"),
    "a link to itself": lambda path: path.symlink_to(path),
    "its write-ahead log is a FIFO": lambda path: os.mkfifo(f"{path}-wal"),
}


@pytest.mark.parametrize("make", SPECIAL.values(), ids=SPECIAL)
def test_a_log_that_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "t.db"
    make(path)
    with (
        closing(SqliteBroker(path, 10, 1000, 60)) as log,
        pytest.raises(Misconfigured, match="TIDINGS_BROKER_URL"),
    ):
        log.bounds()


def test_a_hub_whose_log_is_no_file_says_so_in_one_sentence(tmp_path: Path) -> None:
    path, log = tmp_path / "t.db", tmp_path / "log"
    os.mkfifo(path)
    env = {"TIDINGS_BROKER_URL": f"sqlite:///{path}"}
    with running(["-b", "127.0.0.1:0"], env, log) as process:
        assert process.wait(PATIENCE) != 0
    assert log.read_text().count("Tidings does not start: ") == 1
    assert "TIDINGS_BROKER_URL" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_all_that_is_made_is_for_the_hubs_user_only(tmp_path: Path) -> None:
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "t.db").symlink_to(tmp_path / "real" / "deep.db")
    env = {
        "TIDINGS_BROKER_URL": f"sqlite:///{tmp_path}/named/t.db",
        "TIDINGS_JWT_KEY": KEY,  # so that there is a store
    }
    (tmp_path / "log").touch()
    shell = ["sh", "-c", 'umask 000; exec "$@"', "sh"]
    with serving(["-b", "127.0.0.1:0"], env, tmp_path / "log", shell) as server:
        until(lambda: server.http.get("/readyz").status_code == 200, "it serves")
        made = [path for path in (tmp_path / "real").rglob("*") if not path.is_socket()]
        assert {"deep.db", "deep.db-wal", "deep.db-shm", "deep.db-readers"} <= {
            path.name for path in made
        }
        for path in [tmp_path / "real", *made]:
            mode = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == mode, path
        assert [path.name for path in (tmp_path / "named").iterdir()] == ["t.db"]


def test_another_users_file_in_a_public_folder_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    tmp_path.chmod(0o1777)
    os.chown(tmp_path, 1, 1)
    path = tmp_path / "t.db"
    private_files.create_file(path)
    assert private_files.danger(path) is None
    os.chown(path, NOBODY, NOBODY)
    assert private_files.danger(path) == "planted"
    tmp_path.chmod(0o755)
    assert private_files.danger(path) is None


def test_a_fifo_among_the_metrics_directories_stops_no_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(metrics_folder.VARIABLE, "")
    monkeypatch.setattr(metrics_dir, "MEMORY", tmp_path)
    os.mkfifo(tmp_path / "tidings-metrics-fifo")
    (tmp_path / "target").mkdir()
    (tmp_path / "tidings-metrics-link").symlink_to(tmp_path / "target")
    old = tmp_path / "tidings-metrics-old"
    old.mkdir()
    metrics_dir.create()
    assert (tmp_path / "target").is_dir()
    assert not old.exists()
    metrics_dir.remove()


def test_another_users_folder_is_not_used(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    folder = tmp_path / "tidings-metrics-x"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(PermissionError, match="another user"):
        private_files.open_folder(folder)
    os.chown(tmp_path, NOBODY, NOBODY)
    os.close(private_files.open_folder(folder))


def test_a_worker_keeps_out_of_a_metrics_directory_that_was_replaced(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    server = serve(TIDINGS_DEMO="0")
    descriptors = Path(f"/proc/{server.process.pid}/fd").iterdir()
    [directory] = [it.resolve() for it in descriptors if "tidings-metrics" in str(it.resolve())]
    shutil.rmtree(directory)
    directory.symlink_to(tmp_path)
    try:
        os.kill(server.worker, signal.SIGKILL)
        until(lambda: "metrics are not shared" in server.log, "the next worker says so")
        until(lambda: server.http.get("/readyz").status_code == 200, "it serves")
        assert server.http.get("/metrics").status_code == 200
        assert list(tmp_path.iterdir()) == []
    finally:
        directory.unlink()
