"""Wherever and by whatever server the hub is started: it serves safely, or says what to do."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from flask import Flask

from support.inherited import inheriting
from support.ports import free_port
from support.project import environment, installed
from support.server import Server, running, serving
from support.tokens import KEY
from support.waiting import PATIENCE, until
from webapp.config import exposure
from webapp.config.settings import Settings
from webapp.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

OURS = "webapp.server.StreamWorker"
KEYED = {"TIDINGS_JWT_KEY": KEY}
REFUSED = "Tidings does not start: "
STRANGERS = "Others can reach this hub"


# The sockets of `-l` are 3, 4, …, as systemd hands them over.
@contextmanager
def elsewhere(
    folder: Path, *arguments: str, **env: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run gunicorn from a folder that has no configuration."""
    (folder / "else").mkdir(exist_ok=True)
    shell = ["sh", "-c", f'cd {folder}/else && exec "$@"', "sh"]
    with running(list(arguments), env, folder / "log", shell) as process:
        yield process, folder / "log"


@contextmanager
def named(process: subprocess.Popen[bytes], log: Path) -> Iterator[Server]:
    """Return a running hub."""
    server = Server(process, log)
    with server.http:
        yield server


def ended(process: subprocess.Popen[bytes], log: Path, sentence: str) -> None:
    """Await the end of a server that served nobody, and its one sentence."""
    assert process.wait(PATIENCE) != 0
    said = log.read_text()
    assert said.count(REFUSED) == 1, said
    assert sentence in said
    assert "Traceback" not in said
    assert "Tidings is at" not in said
    assert said.count("Booting worker") <= 1


@pytest.mark.parametrize("command", ["-k sync", "-k gthread --preload", "-k gevent"])
def test_another_worker_class_is_refused_with_the_command_that_serves(
    tmp_path: Path, command: str
) -> None:
    arguments = ["--chdir", str(tmp_path), "-b", "127.0.0.1:0", *command.split()]
    with elsewhere(tmp_path, *arguments) as (process, log):
        ended(process, log, f"-c {tmp_path}/gunicorn.conf.py")


def test_the_command_that_the_refusal_names_serves_from_any_folder(tmp_path: Path) -> None:
    arguments = ["-c", f"{tmp_path}/gunicorn.conf.py", "-b", "127.0.0.1:0"]
    with elsewhere(tmp_path, *arguments) as started, named(*started) as server:
        answers(server)


def answers(server: Server) -> None:
    with server.listen(topic="t") as stream:
        server.publish("x", topic="t")
        assert stream.take(1) == ["x"]
        assert server.http.get("/", headers={"Host": "evil.example"}).status_code == 400
        assert server.http.get("/static/tidings.js").status_code == 200


def test_the_worker_alone_brings_what_safety_depends_on(tmp_path: Path) -> None:
    arguments = ["--chdir", str(tmp_path), "-k", OURS, "--access-logfile", "-"]
    arguments += ["-b", "127.0.0.1:0"]
    with elsewhere(tmp_path, *arguments) as started, named(*started) as server:
        server.http.get("/readyz", params={"authorization": "SECRET"})
        moved = server.http.get("/x/readyz", headers={"SCRIPT_NAME": "/x"})
        assert moved.status_code in {400, 404}
        server.http.get("/a%0Ab")
        until(lambda: "GET /a%0Ab" in server.log, "the line is written")
        assert "everybody on this machine may read and publish" in server.log
        assert "SECRET" not in server.log
        assert "ontrol socket" not in server.log
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "Worker exiting" in server.log, "a new worker has replaced it")
        until(lambda: server.http.get("/metrics").status_code == 200, "it has shared numbers")
        assert 'tidings_worker_pid{worker="' in server.http.get("/metrics").text
        answers(server)


@pytest.mark.parametrize("place", ["[::]:0", "unix:SOCKET"])
def test_without_the_configuration_no_stranger_is_let_in_without_a_key(
    tmp_path: Path, place: str
) -> None:
    place = place.replace("SOCKET", str(tmp_path / "socket"))
    env = {"GUNICORN_CMD_ARGS": f"-k {OURS} -b {place}"}
    with elsewhere(tmp_path, "--chdir", str(tmp_path), **env) as (process, log):
        ended(process, log, STRANGERS)


def test_without_the_configuration_memory_has_one_worker_only(tmp_path: Path) -> None:
    env = {"TIDINGS_BROKER_URL": "memory://"}
    arguments = ["--chdir", str(tmp_path), "-k", OURS, "-b", "127.0.0.1:0"]
    with elsewhere(tmp_path, *arguments, "-w", "2", **env) as (process, log):
        ended(process, log, "2 workers would each have an event log of their own")
    with elsewhere(tmp_path, *arguments, **env) as started, named(*started) as server:
        server.process.send_signal(signal.SIGTTIN)
        until(lambda: "There can be only one worker" in server.log, "it is taken back")


def test_a_configuration_of_ones_own_keeps_its_settings_and_hooks(tmp_path: Path) -> None:
    own = tmp_path / "own.conf.py"
    own.write_text(
        f'bind = "127.0.0.1:0"\nworker_class = "{OURS}"\nkeepalive = 7\n'
        'http_parser = "fast"\n'  # a parser without the hub's bounds, which is not used
        'def pre_fork(server, worker):\n    server.log.info("mine: %s", server.cfg.keepalive)\n'
        'def on_starting(server):\n    server.log.info("beginning")\n'
    )
    arguments = ["--chdir", str(tmp_path), "-c", str(own)]
    with elsewhere(tmp_path, *arguments) as started, named(*started) as server:
        assert "mine: 7" in server.log
        assert "beginning" in server.log
        assert 'tidings_worker_pid{worker="0"}' in server.http.get("/metrics").text
        own.write_text(own.read_text().replace("127.0.0.1:0", "0.0.0.0:0"))
        server.process.send_signal(signal.SIGHUP)
        assert server.process.wait(PATIENCE) != 0
        assert STRANGERS in server.log
        assert server.log.count("mine: 7") == 2


HANDED = {
    "loopback": (["127.0.0.1:0"], {}, True),
    "the second of two is for all": (["127.0.0.1:0", "0.0.0.0:0"], {}, False),
    "a socket for all, and a key": (["0.0.0.0:0"], KEYED, True),
    "loopback, and a platform's port": (["127.0.0.1:0"], {"PORT": "1"}, False),
}


@pytest.mark.parametrize(("places", "env", "served"), HANDED.values(), ids=HANDED)
def test_sockets_of_systemd_are_judged_by_what_they_are(
    tmp_path: Path, places: list[str], env: dict[str, str], *, served: bool
) -> None:
    prefix = inheriting(*places)
    log = tmp_path / "log"
    if served:
        with serving([], env, log, prefix) as server:
            assert server.http.get("/readyz").status_code == 200
    else:
        with running([], env, log, prefix) as process:
            ended(process, log, STRANGERS)


def test_a_guarded_app_keeps_what_was_put_around_it() -> None:
    app, refused = Flask(__name__), list[Misconfigured]()
    with socket.create_server(("127.0.0.1", 0)):
        exposure.guard(app, Settings(), refused.append)
        calls, inner = list[str](), app.wsgi_app

        def around(environ: Any, start_response: Any) -> Any:
            calls.append(environ["PATH_INFO"])
            return inner(environ, start_response)

        app.wsgi_app = around  # type: ignore[method-assign]
        for path in ("/a", "/b"):
            app.test_client().get(path)
    assert calls == ["/a", "/b"]
    assert refused == []
    with socket.create_server(("0.0.0.0", 0)):
        exposure.guard(app, Settings(), refused.append)
        app.test_client().get("/c")
    assert STRANGERS in str(refused[0])


PYWSGI = "import wsgi; from gevent.pywsgi import WSGIServer as S"
OTHERS = {
    "flask": ["-m", "flask", "--app", "wsgi", "run", "-h", "HOST", "-p", "PORT"],
    "pywsgi": ["-c", f"{PYWSGI}; S(('HOST', PORT), wsgi.app).serve_forever()"],
}


@contextmanager
def other(
    folder: Path, command: list[str], host: str, port: int, **env: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run another server than gunicorn."""
    parts = [part.replace("HOST", host).replace("PORT", str(port)) for part in command]
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, *parts],
            cwd=installed(folder),
            env=environment(env),
            stdout=out,
            stderr=out,
        )
    try:
        yield process, log
    finally:
        process.kill()
        process.wait(PATIENCE)


@pytest.mark.parametrize("command", OTHERS.values(), ids=OTHERS)
def test_another_server_ends_by_itself_where_strangers_could_publish(
    tmp_path: Path, command: list[str]
) -> None:
    with other(tmp_path, command, "0.0.0.0", free_port()) as (process, log):
        ended(process, log, STRANGERS)


@pytest.mark.parametrize("command", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize(
    ("host", "env", "status"), [("127.0.0.1", {}, 400), ("0.0.0.0", KEYED, 200)]
)
def test_another_server_serves_this_machine_or_with_a_key(
    tmp_path: Path, command: list[str], host: str, env: dict[str, str], status: int
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with other(tmp_path, command, host, port, **env):
        until(lambda: answered(f"{url}/readyz") == 200, "it serves")
        assert answered(url, Host="evil.example") == status


def answered(url: str, **headers: str) -> int | None:
    try:
        return httpx.get(
            url, headers=headers, trust_env=False, verify=False, timeout=PATIENCE
        ).status_code
    except httpx.TransportError:
        return None


def test_a_platforms_port_counts_under_any_server(tmp_path: Path) -> None:
    port = free_port()
    with other(tmp_path, OTHERS["flask"], "127.0.0.1", port, PORT=str(port)) as (process, log):
        ended(process, log, STRANGERS)


def test_waitress_is_refused_with_the_command_that_serves(tmp_path: Path) -> None:
    command = ["-m", "waitress", "--listen=HOST:PORT", "wsgi:app"]
    with other(tmp_path, command, "127.0.0.1", free_port()) as (process, log):
        ended(process, log, f"gunicorn -c {tmp_path}/gunicorn.conf.py")


GUARDED = """
import wsgi
answer = wsgi.app.test_client().post("/events", data={"data": "x"}, environ_base=%r)
print(answer.status_code)
"""


@pytest.mark.parametrize(("address", "served"), [("127.0.0.1", True), ("192.0.2.1", False)])
def test_where_no_socket_is_seen_the_client_counts(
    tmp_path: Path, address: str, *, served: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GUARDED % {"REMOTE_ADDR": address}],
        cwd=installed(tmp_path),
        env=environment({"TIDINGS_BROKER_URL": "memory://"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), STRANGERS in done.stderr) == ("200" if served else "", not served)


def test_an_upgrade_in_place_keeps_the_sockets_and_the_checks(tmp_path: Path) -> None:
    # By its script: gunicorn cannot start `python -m gunicorn` again.
    script = f'shift 3; exec "{Path(sys.executable).parent}/gunicorn" "$@"'
    shell = ["sh", "-c", script, "sh"]
    with serving(["-b", "127.0.0.1:0"], {}, tmp_path / "log", shell) as server:
        server.process.send_signal(signal.SIGUSR2)
        until(lambda: server.log.count("Tidings is at") == 2, "a second master starts")
        second = int(re.findall(r"Listening at: .*\((\d+)\)", server.log)[-1])
        until(lambda: server.log.count("Booting worker") == 2, "it has a worker")
        until(lambda: server.http.get("/readyz").status_code == 200, "it serves")
        os.kill(second, signal.SIGTERM)
        until(lambda: "Shutting down: Master.2" in server.log, "it is taken back")
        answers(server)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        (("127.0.0.2", 1), True),
        (("::1", 1, 0, 0), True),
        (("::ffff:127.0.0.1", 1, 0, 0), True),
        (("localhost", 1), True),
        (("::ffff:192.0.2.1", 1, 0, 0), False),
        (("0.0.0.0", 1), False),
        (("fe80::1%eth0", 1, 0, 2), False),
        ((2130706433, 1), False),
        (("", 1), False),
        ("/run/tidings.sock", False),
        (b"\0abstract", False),
        ("", False),
    ],
)
def test_what_is_loopback(address: object, *, loopback: bool) -> None:
    assert exposure.is_loopback(address) == loopback
