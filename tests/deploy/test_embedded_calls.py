"""What an app asks of its hub in process, on two workers and in a process that serves nobody."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from flask import Flask

from support.embedded import project, serving
from support.project import environment
from support.waiting import PATIENCE, until
from webapp import Tidings
from webapp.errors import BadRequest, Misconfigured, NotFound, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.server import Server
    from support.stream import Stream

APP = """
from gevent import monkey

monkey.patch_all()

from flask import Flask, request
from tidings import Tidings


def authorize(request):
    user = request.headers.get("X-User")
    if user:
        paths = "/.well-known/mercure/subscriptions{/topic}{/subscriber}"
        return {"subscribe": [f"/users/{user}", paths], "publish": ["a"], "subject": user}


app = Flask(__name__)
app.config.update(TIDINGS_ANONYMOUS=0)
hub = Tidings(app, url_prefix="/realtime", authorize=authorize)


@app.post("/out/<int:user>")
def out(user):
    hub.disconnect(subject=user)
    return "out"


@app.get("/topics")
def topics():
    return [[it.topic, it.last_id, it.time, it.events] for it in hub.topics(limit=2)]
"""
IN_SHELL = """
for topic in ("b", "a", "/c/2", "/c/1", "b"):
    hub.publish("x", topic=topic)
hub.publish("x", topic="/c/3", private=True)
print([(it.topic, it.last_id, it.time, it.events) for it in hub.topics(limit=2)])
for page in (hub.topics("/c/{n}"), hub.topics(["a", "b", "z"], limit=1), hub.topics(after="/c/3")):
    print([it.topic for it in page])
"""
REMOVING = """
id = hub.publish("1", topic="removed")
hub.publish("2", topic="removed")
print(hub.delete("removed", id), hub.delete("removed", id), hub.delete("removed"))
"""
EVENTS, PRESENCE = "/realtime/events", "/realtime/.well-known/mercure/subscriptions"


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("app"), APP)


@pytest.fixture(name="server", scope="module")
def _server(folder: Path) -> Iterator[Server]:
    with serving(folder, "-k", "tidings.server.StreamWorker", "-w", "2") as server:
        yield server


def shell(folder: Path, code: str) -> str:
    """Run a program beside the app; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"from app import hub\n{code}"],
        cwd=folder,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def opened(server: Server, stack: ExitStack, user: str) -> Stream:
    stream = stack.enter_context(server.listen(EVENTS, {"X-User": user}, topic=f"/users/{user}"))
    assert stream.next().type == "hub.open"
    return stream


def subscribers(server: Server, user: str) -> list[str]:
    path = f"{PRESENCE}/{quote(f'/users/{user}', safe='')}"
    answer = server.http.get(path, headers={"X-User": user})
    assert answer.status_code == 200, answer.text
    return [it["subscriber"] for it in answer.json()["subscriptions"]]


def test_a_view_ends_all_streams_of_a_user_on_all_workers(server: Server) -> None:
    with ExitStack() as stack:
        seven = [opened(server, stack, "7") for _ in range(6)]
        eight = opened(server, stack, "8")
        assert server.http.post("/out/7").text == "out"
        assert [stream.next().data for stream in seven] == ['{"reason": "kicked"}'] * 6
        again = opened(server, stack, "7")
        server.http.post("/out/8")
        assert eight.next().data == '{"reason": "kicked"}'
        until(lambda: len(subscribers(server, "7")) == 1, "only the new stream is listed")
        again.close()


def test_a_process_that_serves_nobody_removes_events(folder: Path) -> None:
    assert shell(folder, REMOVING) == "1 0 1\n"


def test_presence_needs_the_apps_login_and_no_key(server: Server) -> None:
    with ExitStack() as stack:
        opened(server, stack, "9")
        [name] = until(lambda: subscribers(server, "9"), "it is listed")
        assert name.startswith("urn:uuid:")
        assert server.http.get(PRESENCE).status_code == 403
        foreign = {"X-User": "9", "Origin": "https://evil.example"}
        assert server.http.delete(PRESENCE, headers=foreign).status_code == 403


def test_a_process_that_serves_nobody_ends_a_stream(server: Server, folder: Path) -> None:
    with ExitStack() as stack:
        streams = [opened(server, stack, user) for user in "556"]
        names = until(
            lambda: len(found := subscribers(server, "5")) == 2 and found, "both are listed"
        )
        shell(folder, f"hub.disconnect(subscriber={names[0]!r})\nhub.disconnect(subject='6')")
        until(lambda: subscribers(server, "5") == names[1:], "one has ended")
        assert streams[2].next().data == '{"reason": "kicked"}'


def test_topics_are_the_same_in_a_view_and_in_a_shell(server: Server, folder: Path) -> None:
    found = shell(folder, IN_SHELL).splitlines()
    in_view = server.http.get("/topics").json()
    assert [it[0] for it in in_view] == ["/c/1", "/c/2"]
    assert [list(it) for it in eval(found[0])] == in_view
    assert list(map(eval, found[1:])) == [["/c/1", "/c/2", "/c/3"], ["a"], ["a", "b"]]


def test_nobody_subscribes_without_the_apps_login(server: Server) -> None:
    answer = server.http.get(EVENTS)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (
        401,
        'Bearer realm="tidings"',
    )
    assert "Log in to the app" in answer.json()["remedy"]


def test_a_refusal_says_that_the_login_does_not_grant_it(server: Server) -> None:
    user = {"X-User": "7"}
    refused = server.http.post(EVENTS, data={"topic": "b", "data": "x"}, headers=user)
    assert refused.json()["detail"] == "The app's login does not grant every topic of the event."
    assert refused.json()["granted"] == ["a"]
    topics = server.http.get("/realtime/topics", headers=user)
    assert topics.json()["detail"] == "The app's login does not grant this path."
    assert '"subscribe"' in topics.json()["remedy"]
    assert "WWW-Authenticate" not in topics.headers


def embed(folder: Path, authorize: object = None, **config: object) -> Tidings:
    app = Flask(__name__, instance_path=str(folder))
    app.config.update(config)
    return Tidings(app, authorize=authorize)  # type: ignore[arg-type] # a test's own


def test_wrong_arguments_are_refused_by_name(tmp_path: Path) -> None:
    hub = embed(tmp_path, lambda _: None)
    for arguments in (
        {},
        {"subject": "a", "subscriber": "b"},
        {"subject": None},
        {"subject": "x" * 5000},
    ):
        with pytest.raises(BadRequest, match="subject"):
            hub.disconnect(**arguments)
    with pytest.raises(BadRequest, match="limit"):
        hub.topics(limit=0)
    with pytest.raises(BadRequest, match="topic"):
        hub.topics([])
    with pytest.raises(NotFound, match="authorize"):
        embed(tmp_path).disconnect(subject="a")
    with pytest.raises(Misconfigured, match="memory://"):
        embed(tmp_path, lambda _: None, TIDINGS_BROKER_URL="memory://").disconnect(subject="a")


def test_without_anybody_who_may_subscribe_the_hub_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="a function authorize"):
        embed(tmp_path, TIDINGS_ANONYMOUS=0)
    hub = embed(tmp_path, lambda _: None, TIDINGS_ANONYMOUS=0)
    authorizer = hub._apps[0].extensions["tidings"].authorizer
    with hub._apps[0].test_request_context(), pytest.raises(Unauthorized, match="Log in"):
        authorizer.subscribe(())
