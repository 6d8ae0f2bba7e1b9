"""The files in which workers share their counts: killed workers, removed directories."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.metrics import answers, kept, parse, read, state, total
from support.tokens import KEY
from support.waiting import PATIENCE, until
from webapp.monitoring import metrics_folder
from webapp.server import metrics_dir

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server

pytestmark = pytest.mark.slow


def test_a_killed_worker_leaves_its_counts_and_takes_its_subscribers(
    serve: Callable[..., Server], topic: str
) -> None:
    server = serve("-w", "2", TIDINGS_JWT_KEY=KEY, TIDINGS_HEARTBEAT="0.1")
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(server.listen(topic=topic)).next()
        until(lambda: total(server, "readers") == 6, "all are counted")
        workers = until(lambda: (w := read(server)["workers"])[1:] and w, "both workers tell")
        directory = kept(workers[0]["pid"])
        files = {path.name for path in directory.iterdir()}
        for worker in workers:
            os.kill(worker["pid"], signal.SIGKILL)
            until(partial(is_gone, server, worker["pid"]), "its subscribers are gone")
    until(lambda: len(state(server)) == 2, "two others are there")
    assert not {w["pid"] for w in state(server)} & {w["pid"] for w in workers}
    assert total(server, "streams_opened_total") == 6
    until(lambda: total(server, "readers") == 0, "nobody reads")
    expected = files | {"warnings.json"}
    until(lambda: {path.name for path in directory.iterdir()} == expected, "no file is left over")
    server.process.send_signal(signal.SIGHUP)
    until(lambda: len(re.findall("Worker exiting", server.log)) >= 2, "they are replaced")
    until(lambda: len(state(server)) == 2, "two others are there")
    assert total(server, "streams_opened_total") == 6
    assert server.stop() == 0
    assert not directory.exists()


def is_gone(server: Server, pid: int) -> bool:
    return pid not in {worker["pid"] for worker in state(server)}


def test_the_next_server_removes_only_a_killed_servers_files(
    serve: Callable[..., Server],
) -> None:
    others = serve(TIDINGS_DEMO="0"), serve(TIDINGS_DEMO="0")
    dead, alive = (kept(other.worker) for other in others)
    os.killpg(others[0].process.pid, signal.SIGKILL)
    others[0].process.wait(PATIENCE)
    until(lambda: not held(dead), "its worker is gone, too")
    last = serve(TIDINGS_DEMO="0")
    assert not dead.exists()
    assert alive.exists()
    assert kept(last.worker) not in {dead, alive}
    assert parse(others[1].http.get("/metrics").text)["tidings_streams_opened_total", ""] == 0


def held(directory: Path) -> bool:
    try:
        os.close(metrics_dir._lock(directory))
    except BlockingIOError:
        return True
    except FileNotFoundError:  # a server of another test has started
        return False
    return False


def test_two_that_begin_at_once_do_not_take_each_others_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(metrics_folder.VARIABLE, "")
    monkeypatch.setattr(metrics_dir, "MEMORY", tmp_path)
    made, make = list[str](), tempfile.mkdtemp

    def begin_another_first(**how: Any) -> str:
        mine: str = make(**how)
        made.append(mine)
        if len(made) == 1:
            metrics_dir.create()
        return mine

    monkeypatch.setattr(tempfile, "mkdtemp", begin_another_first)
    metrics_dir.create()
    assert [Path(it).is_dir() for it in made] == [False, True, True]
    assert os.environ[metrics_folder.VARIABLE] == made[2]


def test_numbers_that_somebody_removed_hold_nothing_else_up(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_DEMO="0")
    assert answers(server)  # it has begun
    worker = server.worker
    shutil.rmtree(kept(worker))
    answer = server.http.get("/metrics", headers={"Connection": "close"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    server.publish("x")
    os.kill(worker, signal.SIGKILL)
    until(lambda: server.worker != worker and answers(server), "another has taken its place")
    assert len(read(server)["workers"]) == 1
    serve(TIDINGS_DEMO="0")  # tidies up at its start
    assert answers(server)


def test_a_worker_that_has_only_just_a_file_holds_nothing_up(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_DEMO="0")
    assert answers(server)
    for name in ("gauge_liveall_1.db", "counter_1.db"):
        (kept(server.worker) / name).touch()  # it has its size a moment later
    assert answers(server)
