"""A hub in a Flask app serves the same under each server that Flask runs under."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest

from support.embedded import project
from support.postgres_server import PostgresServer, running_postgres
from support.redis_server import RedisServer, running_redis
from support.waiting import PATIENCE, until
from support.wsgi_servers import START_PATIENCE, served, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.wsgi_servers import WsgiServer

pytestmark = pytest.mark.slow

EVENTS = "/realtime/events"
PATCH = "from gevent import monkey\n\nmonkey.patch_all()\n"
APP = """
import threading

from flask import Flask, request
from tidings import Tidings

app = Flask(__name__)
threads = set()


def authorize(asked):
    threads.add(threading.current_thread().name)
    user = asked.headers.get("X-User")
    return {"subscribe": [f"/users/{user}"], "publish": ["*"]} if user else None


hub = Tidings(app, url_prefix="/realtime", authorize=authorize)


@app.get("/ready")
def ready():
    return "ready"


@app.post("/orders")
def order():
    return hub.publish(request.form["item"] * int(request.form.get("times", 1)), topic="orders")


@app.post("/mail")
def mail():
    return hub.publish("mail", topic="/users/7", private=True)


@app.get("/streams")
def streams():
    services = app.extensions["tidings"]
    return str(max(len(services.hub), len(getattr(services, "room", ""))))


@app.get("/threads")
def names():
    return " ".join(threads)
"""


class Kind(NamedTuple):
    command: str
    streams: int | None = None
    """How many it holds; None: many."""
    bye: bool = True
    """Whether it lets streams say that they end."""
    app: str = APP


GUNICORN = "gunicorn -b 127.0.0.1:PORT app:app"
UWSGI = "uwsgi --http 127.0.0.1:PORT --wsgi-file app.py --callable app --master --die-on-term"
KINDS = {
    "flask": Kind("flask --app app run --debug -p PORT", bye=False),
    "conf": Kind(f"{GUNICORN} -c python:tidings.server.conf"),
    "gevent": Kind(f"{GUNICORN} -k gevent --worker-connections 5", 4),
    "gthread": Kind(f"{GUNICORN} -k gthread --threads 4", 3),
    "waitress": Kind("waitress-serve --listen=127.0.0.1:PORT app:app", 3, bye=False),
    "uwsgi-threads": Kind(f"{UWSGI} --threads 4", 3, bye=False),
    "uwsgi-gevent": Kind(f"{UWSGI} --gevent 5", 4, bye=False, app=PATCH + APP),
}


@pytest.fixture(name="kind", scope="module", params=KINDS)
def _kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(name="running", scope="module")
def _running(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WsgiServer]:
    folder = project(tmp_path_factory.mktemp("app"), kind.app)
    # Some servers notice only by a write that a client has left.
    with served(folder, kind.command, "/ready", TIDINGS_HEARTBEAT="1") as server:
        yield server


@pytest.fixture(name="server")
def _server(running: WsgiServer) -> WsgiServer:
    until(lambda: running.http.get("/streams").text == "0", "no stream is left of the last test")
    return running


def order(server: WsgiServer, item: str, **fields: int) -> str:
    answer = server.http.post("/orders", data={"item": item, **fields})
    assert answer.status_code == 200, answer.text
    return answer.text


def test_a_stream_gets_what_it_missed_and_what_comes(server: WsgiServer) -> None:
    order(server, "a", times=200_000)
    order(server, "b")
    with server.listen(EVENTS, topic="orders", last="2") as stream:
        assert stream.take(2) == ["a" * 200_000, "b"]
        order(server, "c", times=200_000)
        order(server, "d")
        assert stream.take(2) == ["c" * 200_000, "d"]


def test_the_apps_login_decides_in_a_thread_of_the_server(server: WsgiServer) -> None:
    topics = ["/users/7", "orders"]
    with (
        server.listen(EVENTS, {"X-User": "7"}, topic=topics) as seven,
        server.listen(EVENTS, {"X-User": "8"}, topic=topics) as eight,
    ):
        assert server.http.post("/mail").status_code == 200
        order(server, "tea")
        assert seven.take(2) == ["mail", "tea"]
        assert eight.take(1) == ["tea"]
    assert "tidings" not in server.http.get("/threads").text.split()


def test_its_refusals_are_the_same(server: WsgiServer) -> None:
    user = {"X-User": "7"}
    event = {"data": "x", "id": "own", "topic": "t"}
    assert server.http.post(EVENTS, data=event).status_code == 403
    assert server.http.post(EVENTS, data=event, headers=user).text == "own\n"
    changed = {**event, "data": "y"}
    assert server.http.post(EVENTS, data=changed, headers=user).status_code == 409
    assert server.http.get(EVENTS, params={"topics": "t"}).status_code == 400
    assert server.http.get("/realtime/topics").status_code == 403
    assert server.http.get("/realtime/readyz").status_code == 200
    assert server.http.head(EVENTS).headers["Content-Type"].startswith("text/event-stream")


def test_a_pipe_publishes_line_by_line(server: WsgiServer) -> None:
    lines = "".join(json.dumps({"topic": "t", "data": number}) + "\n" for number in range(1500))
    headers = {"X-User": "7", "Content-Type": "application/x-ndjson"}
    with server.listen(EVENTS, topic="t") as stream:
        answer = server.http.post(EVENTS, content=lines, headers=headers)
        assert answer.json()["published"] == 1500
        assert stream.take(1500) == list(map(str, range(1500)))


def test_a_client_that_leaves_is_forgotten(server: WsgiServer) -> None:
    with server.listen(EVENTS, topic="quiet") as stream:
        assert stream.next().type == "hub.open"
        assert int(server.http.get("/streams").text) > 0
    until(lambda: server.http.get("/streams").text == "0", "it has noticed")


def test_a_full_server_still_publishes(kind: Kind, server: WsgiServer) -> None:
    count = kind.streams or 10
    with ExitStack() as stack:
        streams = [stack.enter_context(server.listen(EVENTS, topic="orders")) for _ in range(count)]
        assert [stream.next().type for stream in streams] == ["hub.open"] * count
        if kind.streams:
            refuses_another(server)
        order(server, "x")
        assert [stream.take(1) for stream in streams] == [["x"]] * count
    assert (f"{count} of them can be streams. For more, " in server.log) == bool(kind.streams)


def refuses_another(server: WsgiServer) -> None:
    with server.listen(EVENTS, {"Accept": "text/event-stream"}, topic="orders") as stream:
        [bye] = stream.rest()
        assert (bye.type, json.loads(bye.data)) == ("hub.bye", {"reason": "full"})
    assert server.http.get(EVENTS).status_code == 503


def test_it_ends_with_open_streams(kind: Kind, server: WsgiServer) -> None:
    with server.listen(EVENTS, topic="quiet") as stream:
        assert stream.next().type == "hub.open"
        # As a terminal does it: flask runs the app in a second process.
        stop = signal.SIGINT if kind.command.startswith("flask") else signal.SIGTERM
        os.killpg(server.process.pid, stop)
        if kind.bye:
            assert [event.type for event in stream.rest()] == ["hub.bye"]
        server.process.wait(PATIENCE)
    assert "Traceback" not in server.log


def test_a_reload_ends_streams_and_serves_the_new_code(tmp_path: Path) -> None:
    folder = project(tmp_path, APP)
    with served(folder, KINDS["flask"].command, "/ready") as server:
        with server.listen(EVENTS, topic="orders") as stream:
            assert stream.next().type == "hub.open"
            order(server, "before")
            (folder / "app.py").write_text(APP.replace('return "ready"', 'return "new"'))
            events = stream.rest()
            assert [event.data for event in events[:-1]] == ["before"]
            assert json.loads(events[-1].data) == {"reason": "drain"}
        until(lambda: server.serves("/ready") and server.http.get("/ready").text == "new", "it is")
        cursor = {"Last-Event-ID": events[-1].id}
        with server.listen(EVENTS, cursor, topic="orders") as stream:
            order(server, "after")
            assert stream.take(1) == ["after"]


@pytest.fixture(name="log_server", params=["redis", "postgres"])
def _log_server(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[RedisServer | PostgresServer]:
    if request.param == "redis":
        with running_redis("redis-server", tmp_path / "redis") as redis:
            yield redis
    else:
        with running_postgres() as postgres:
            yield postgres


def test_a_log_server_that_hangs_does_not_hold_up_the_hubs_thread(
    tmp_path: Path, log_server: RedisServer | PostgresServer
) -> None:
    url = log_server.url() if isinstance(log_server, PostgresServer) else log_server.url
    env = {"TIDINGS_BROKER_URL": url, "TIDINGS_HEARTBEAT": "1"}
    with (
        served(project(tmp_path, APP), KINDS["gthread"].command, "/ready", **env) as server,
        server.listen(EVENTS, topic="orders") as stream,
        ThreadPoolExecutor(1) as executor,
    ):
        order(server, "a")
        assert stream.take(1) == ["a"]
        log_server.freeze()
        late = executor.submit(server.http.post, "/orders", data={"item": "b"})
        beats = 0
        while beats < 2:
            beats += stream.response.read1(100).count(b":\n")
        log_server.thaw()
        assert late.result().status_code in {200, 503}


REFUSED = {
    "sync": (f"{GUNICORN} -k sync", APP, "-k tidings.server.StreamWorker"),
    "one thread": (f"{GUNICORN} -k gthread", APP, "start gunicorn with --threads 100"),
    "uwsgi, one thread": (UWSGI, APP, "start uWSGI with --threads 100"),
    "uwsgi, not patched": (f"{UWSGI} --gevent 5", APP, "begin the app with `from gevent import"),
    "memory": (f"{GUNICORN} -k gthread --threads 4 -w 2 --preload", APP, "log of their own"),
}


@pytest.mark.parametrize(("command", "app", "remedy"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_hold_streams_is_refused_in_one_sentence(
    tmp_path: Path, command: str, app: str, remedy: str
) -> None:
    with started(
        project(tmp_path, app), command.replace("PORT", "0"), TIDINGS_BROKER_URL="memory://"
    ) as process:
        assert process.wait(START_PATIENCE) != 0
    log = (tmp_path / "log").read_text()
    assert log.count("Tidings does not start: ") == 1
    assert remedy.lower() in log.lower()
    assert "Traceback" not in log


def test_a_server_with_one_thread_refuses_streams_alone(tmp_path: Path) -> None:
    command = "flask --app app run --without-threads -p PORT"
    with served(project(tmp_path, APP), command, "/ready") as server:
        answer = server.http.get(EVENTS)
        assert answer.status_code == 500
        assert "serves one request at a time" in answer.json()["detail"]
        order(server, "x")


def test_workers_share_the_event_log_after_a_preload(tmp_path: Path) -> None:
    command = f"{GUNICORN} -k gthread --threads 10 -w 2 --preload"
    with served(project(tmp_path, APP), command, "/ready") as server, ExitStack() as stack:
        streams = [stack.enter_context(server.listen(EVENTS, topic="orders")) for _ in range(6)]
        assert {stream.next().type for stream in streams} == {"hub.open"}
        order(server, "x")
        assert [stream.take(1) for stream in streams] == [["x"]] * 6
