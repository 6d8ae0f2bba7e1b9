"""A hub in apps that are combined, wrapped or forked."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from support.embedded import project, serving
from support.project import environment
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

APPS = """
from gevent import monkey

monkey.patch_all()

import os
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from tidings import Tidings


def make(name):
    made = Flask(name, instance_path=os.path.abspath(name))
    hub = Tidings(made, url_prefix="/realtime")
    made.add_url_rule("/name", "name", lambda: hub.publish(name, topic="t"), methods=["POST"])
    return made
"""
WORKER = ["-k", "tidings.server.StreamWorker"]


def test_a_worker_serves_the_hubs_of_all_apps_below_a_middleware(tmp_path: Path) -> None:
    app = f'{APPS}\napp = ProxyFix(DispatcherMiddleware(make("a"), {{"/b": make("b")}}))\n'
    with serving(project(tmp_path, app), *WORKER) as server, ExitStack() as stack:
        streams = {
            name: stack.enter_context(server.listen(f"{path}/realtime/events", topic="t"))
            for name, path in {"a": "", "b": "/b"}.items()
        }
        assert {server.http.post(f"{path}/name").status_code for path in ("", "/b")} == {200}
        for name, stream in streams.items():
            assert stream.take(1) == [name]
        server.process.send_signal(signal.SIGTERM)
        assert [stream.next().type for stream in streams.values()] == ["hub.bye"] * 2


NO_HUB = 'from flask import Flask\n\napp = Flask("app")\n'
WITH_HUB = f'{APPS}\napp = make("a")\n'


@pytest.mark.parametrize(
    ("app", "worker", "remedy"),
    [
        (NO_HUB, WORKER[1], "Add one to the app: Tidings(app)."),
        (WITH_HUB, "sync", "-k tidings.server.StreamWorker"),
        (WITH_HUB, "gthread", "-k tidings.server.StreamWorker"),
    ],
    ids=["no hub", "sync", "gthread"],
)
def test_gunicorn_refuses_in_one_sentence_what_cannot_serve(
    tmp_path: Path, app: str, worker: str, remedy: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-b", "127.0.0.1:0", "-k", worker, "app:app"],
        cwd=project(tmp_path, app),
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.count("Tidings does not start: ") == 1
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr


PUBLISH_IN_A_FORK = """
import os
from tidings import Tidings
from flask import Flask

hub = Tidings(Flask("app", instance_path=os.getcwd()))
hub.publish("before")
pid = os.fork()
hub.publish("after")
if pid:
    os.waitpid(pid, 0)
    print(hub._apps[0].extensions["tidings"].hub.broker.count())
"""


@pytest.mark.parametrize("patched", [True, False])
def test_a_process_publishes_after_a_fork_of_one_that_did(tmp_path: Path, *, patched: bool) -> None:
    begin = "from gevent import monkey; monkey.patch_all()" if patched else ""
    done = subprocess.run(
        [sys.executable, "-c", f"{begin}\n{PUBLISH_IN_A_FORK}"],
        cwd=project(tmp_path, ""),
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout == "3\n", done.stderr
