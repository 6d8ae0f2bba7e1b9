"""A hub in a Flask app of one's own, as the guide says it, under the servers that it names."""

from __future__ import annotations

import itertools
import shlex
import signal
import subprocess
import sys
import textwrap
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import werkzeug.exceptions
from flask import Flask

from support.doc_pages import blocks
from support.embedded import project, serving
from support.project import environment
from support.tokens import KEY
from support.waiting import PATIENCE, until
from webapp import Tidings
from webapp.auth.authorizer import Grant
from webapp.errors import BadRequest, Conflict, ContentTooLarge, Forbidden, Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.server import Server

pytestmark = pytest.mark.slow

[APP, COMMANDS] = blocks("guides/embed.md", "Three lines", "python", "sh")
AUTHORIZE, LOGOUT = blocks("guides/embed.md", "Who may see what", "python", "python")
[TEST] = blocks("guides/embed.md", "In your tests", "python")
WORKER = shlex.split(COMMANDS.splitlines()[0])[1:3]
"""The option that the guide gives to gunicorn."""
EVENTS = "/realtime/events"

OWN = """
import flask

app.secret_key = "for the tests"
left = []


@app.get("/login/<user>")
def login(user):
    session["user"] = user
    return user


@app.post("/mail")
def mail():
    return hub.publish("mail", topic="/users/7", private=True)


@app.teardown_request
def leave(_):
    left.append(request.headers["Host"])


@app.get("/left")
def count():
    return str(len(left))


@app.get("/own-stream")
def own_stream():
    events = iter(["data: 1\\n\\n", "", "data: 2\\n\\n"])
    return flask.Response(events, mimetype="text/event-stream")


@app.errorhandler(404)
def missing(_):
    return "the app's own page", 404
"""


@pytest.fixture(name="own", scope="module")
def _own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The guide's app with its login, and with views and hooks of its own."""
    app = APP.replace('hub = Tidings(app, url_prefix="/realtime")', AUTHORIZE) + LOGOUT + OWN
    folder = project(tmp_path_factory.mktemp("own"), app)
    with serving(folder, *WORKER) as server:
        yield server


def run(folder: Path, code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the app's folder."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def order(url: str) -> None:
    """Do what the guide's second command does."""
    _, curl = COMMANDS.strip().splitlines()
    form = dict([shlex.split(curl)[2].split("=")])
    assert (
        httpx.post(f"{url}/orders", data=form, timeout=PATIENCE, trust_env=False).text
        == "ordered\n"
    )


OTHER = ["-k", "gevent", "--graceful-timeout", "1"]  # it knows nothing of streams when it stops


@pytest.mark.parametrize("options", [WORKER, OTHER], ids=["stream-worker", "gevent"])
def test_the_guides_app_shows_what_its_view_publishes(tmp_path: Path, options: list[str]) -> None:
    with serving(project(tmp_path, APP), *options) as server:
        with server.listen(EVENTS, topic="orders") as stream:
            order(server.url)
            assert stream.take(1) == ['{"item":"tea"}']
        assert "/realtime/events?topic=orders" in server.http.get("/").text
        assert (tmp_path / "instance/tidings.db").exists()


def test_a_test_of_the_app_ends(tmp_path: Path) -> None:
    test = f"""
from app import app
{TEST}
test_an_order_is_announced()
left = app.test_client().get("{EVENTS}?topic=orders")
assert b"hub.open" in next(left.response)
print("end")
"""
    done = run(project(tmp_path, APP), test)
    assert done.stdout == "end\n", done.stderr


def test_a_test_of_the_app_reads_a_stream(tmp_path: Path) -> None:
    app, hub = embed(tmp_path)
    with closing(app.test_client().get("/tidings/events?topic=t")) as answer:
        frames = iter(answer.response)
        assert "event: hub.open" in str(next(frames))
        hub.publish("x", topic="t")
        assert "data: x" in str(next(frames))


def test_several_workers_share_the_event_log(tmp_path: Path) -> None:
    with serving(project(tmp_path, APP), *WORKER, "-w", "2") as server, ExitStack() as stack:
        streams = [
            stack.enter_context(server.listen(EVENTS, topic="orders", last="1")) for _ in range(4)
        ]
        order(server.url)
        assert [stream.take(1) for stream in streams] == [['{"item":"tea"}']] * 4
        server.process.send_signal(signal.SIGTERM)
        goodbyes = [stream.next().type for stream in streams]
        assert goodbyes == ["hub.bye"] * 4


def test_it_needs_no_key_where_others_can_reach_it(tmp_path: Path) -> None:
    with serving(project(tmp_path, APP), *WORKER, "-b", "0.0.0.0:0") as server:
        sentence = "the app and users whom it permits may publish"
        until(lambda: sentence in server.log, "it says who may publish")
        assert "everybody who can reach it may read and publish" not in server.log


def test_nobody_publishes_over_http_without_a_grant(own: Server) -> None:
    answer = own.http.post(EVENTS, data={"data": "x"})
    assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden")
    assert "hub.publish" in answer.json()["remedy"]
    for path in ("/metrics", "/console/state"):
        assert own.http.get(f"/realtime{path}").status_code == 403


def test_the_apps_login_decides_who_gets_private_events(own: Server) -> None:
    cookies = {user: own.http.get(f"/login/{user}").headers["Set-Cookie"] for user in ("7", "8")}
    with ExitStack() as stack:
        seven, eight, nobody = (
            stack.enter_context(own.listen(EVENTS, headers, topic=["/users/7", "orders"]))
            for headers in ({"Cookie": cookies["7"]}, {"Cookie": cookies["8"]}, {})
        )
        own.http.post("/mail")
        order(own.url)
        assert seven.take(2) == ["mail", '{"item":"tea"}']
        assert eight.take(1) == nobody.take(1) == ['{"item":"tea"}']


def test_a_logout_ends_the_users_streams(own: Server) -> None:
    cookie = {"Cookie": own.http.get("/login/7").headers["Set-Cookie"].partition(";")[0]}
    with own.listen(EVENTS, cookie, topic="/users/7") as stream:
        assert stream.next().type == "hub.open"
        assert own.http.post("/logout", headers=cookie).text == "bye\n"
        assert stream.next().data == '{"reason": "kicked"}'


def test_the_apps_own_views_and_hooks_stay_as_they_are(own: Server) -> None:
    with own.listen("/own-stream") as stream:
        assert stream.take(2) == ["1", "2"]
    assert own.http.get("/nothing").text == "the app's own page"
    assert "Server-Sent" in own.http.get("/realtime/openapi.json").text
    for path in ("/", "/console", "/static/tidings.js", "/healthz", "/readyz"):
        assert own.http.get(f"/realtime{path}").status_code == 200, path
    assert own.http.get("/static/tidings.js").status_code == 404


def test_the_apps_context_ends_before_the_first_byte(own: Server) -> None:
    before = int(own.http.get("/left").text)
    with ExitStack() as stack:
        for _ in range(10):
            stream = stack.enter_context(own.listen(EVENTS, topic="quiet"))
            assert stream.next().type == "hub.open"
        assert int(own.http.get("/left").text) == before + 11


PUBLISH_FROM_THREADS = """
    import threading
    from app import hub
    found = []
    def publish(): found.append(hub.publish("x", topic="t"))
    threads = [threading.Thread(target=publish) for _ in range(20)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    two = hub.publish_many([{"data": 1}, {"data": None, "topic": ["a", "b"]}])
    print(len(set(found)), len(two))
"""


@pytest.mark.parametrize("patched", [True, False])
def test_any_process_publishes_from_its_threads(tmp_path: Path, *, patched: bool) -> None:
    patch = "from gevent import monkey; monkey.patch_all()" if patched else ""
    folder = project(tmp_path, f"{patch}\n{APP}")
    done = run(folder, PUBLISH_FROM_THREADS)
    assert done.stdout == "20 2\n", done.stderr
    done = run(folder, PUBLISH_FROM_THREADS, TIDINGS_BROKER_URL="memory://")
    assert "Nobody can subscribe to memory:// of this process" in done.stderr


def embed(folder: Path, **config: object) -> tuple[Flask, Tidings]:
    app = Flask(__name__, instance_path=str(folder))
    app.config.update(config)
    return app, Tidings(app)


def test_settings_of_the_app_count_after_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDINGS_HEARTBEAT", "5")
    origins = ["https://a.example", "https://b.example"]
    app, _ = embed(tmp_path, TIDINGS_HEARTBEAT=3, TIDINGS_RETRY="1s", TIDINGS_CORS_ORIGINS=origins)
    settings = app.extensions["tidings"].settings
    assert (settings.heartbeat, settings.retry) == (5, 1)
    assert settings.cors_origins == tuple(origins)
    with pytest.raises(Misconfigured, match="TIDINGS_HEARTBEAT"):
        embed(tmp_path, TIDINGS_HEARTBEET=3)


def test_what_cannot_be_published_is_refused_by_name(tmp_path: Path) -> None:
    _, hub = embed(tmp_path)
    first = hub.publish("a", topic="t", id="own")
    assert hub.publish("a", topic="t", id="own") == first == "own"
    with pytest.raises(Conflict):
        hub.publish("b", topic="t", id="own")
    with pytest.raises(BadRequest, match="no field dat"):
        hub.publish_many([{"dat": "x"}])
    with pytest.raises(ContentTooLarge, match="more than 2000 events"):
        hub.publish_many({} for _ in range(2001))
    with pytest.raises(ContentTooLarge, match="1048576 bytes"):
        hub.publish_many([{"data": "x" * (1 << 19)}] * 5)
    with pytest.raises(ContentTooLarge, match="1048576 bytes"):
        hub.publish_many([{"data": "ü" * (1 << 18)}] * 3)
    with pytest.raises(ContentTooLarge, match="more than 4000 topics"):
        hub.publish_many([{"topic": [f"t{number}" for number in range(1000)]}] * 5)
    assert [it.topic for it in hub.topics()] == ["t"]
    with pytest.raises(Forbidden, match="own"):
        hub.publish("x", topic="/.well-known/mercure/subscriptions")
    assert hub.publish_many([]) == []


def test_both_ways_to_publish_store_the_same_event(tmp_path: Path) -> None:
    _, hub = embed(tmp_path)
    event = {"data": {"item": "tea"}, "topic": "t", "id": "own"}
    assert hub.publish_many([event]) == ["own"]
    assert hub.publish({"item": "tea"}, topic="t", id="own") == "own"  # no conflict
    with pytest.raises(ValueError, match="JSON"):
        hub.publish(float("nan"))
    last = hub.publish("last", topic=["t", "u"], id="last", end=True)
    assert hub.publish_many([{"data": "last", "topic": ["t", "u"], "id": "last", "end": 1}]) == [
        last
    ]
    for topic in ("t", "u"):
        with pytest.raises(Conflict, match="has ended"):
            hub.publish("x", topic=topic)


def test_of_several_apps_the_current_one_counts(tmp_path: Path) -> None:
    hub = Tidings()
    with pytest.raises(RuntimeError, match="app_context"):
        hub.publish("x")
    apps = [Flask(__name__, instance_path=str(tmp_path / name)) for name in "ab"]
    for app in apps:
        hub.init_app(app)
    with pytest.raises(RuntimeError, match="app_context"):
        hub.publish("x")
    with apps[1].app_context():
        hub.publish("x")
    assert [(tmp_path / name / "tidings.db").exists() for name in "ab"] == [False, True]


@pytest.mark.parametrize(
    ("returned", "status"),
    [
        ({"publish": ["t"]}, 200),
        ({"publish": ["u"]}, 403),
        ({"subscribe": ["t"]}, 403),
        (None, 403),
        ({"publish": {"t"}, "subscribe": None}, 200),
        ({"publishes": ["t"]}, 500),
        ({"publish": "t"}, 500),
        ({"publish": b"t"}, 500),
        ({"publish": 5}, 500),
        ({"publish": [1]}, 500),
        ({"publish": itertools.repeat("t")}, 500),
        ({"publish": ["t"], "payload": object()}, 500),
        ({1: [], "a": []}, 500),
        (("t",), 500),
        (Grant(publish=frozenset("t")), 200),
        (Grant(publish=frozenset("t"), expires=1), 401),
        (Grant(publish="a*b"), 500),  # type: ignore[arg-type] # the text contains "*"
        (werkzeug.exceptions.Gone(), 410),
    ],
)
def test_authorize_says_who_publishes_over_http(
    tmp_path: Path, returned: object, status: int
) -> None:
    def authorize(_: object) -> Any:
        if isinstance(returned, Exception):
            raise returned
        return returned

    app = Flask(__name__, instance_path=str(tmp_path))
    Tidings(app, url_prefix="", authorize=authorize)
    client = app.test_client()
    event = {"topic": "t", "data": "x"}
    answer = client.post("/events", data=event)
    assert answer.status_code == status, answer.text
    if status == 500:
        assert "authorize" in answer.text
    if status == 200:
        for foreign in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},  # the hub has https
        ):
            refused = client.post("/events", data=event, headers=foreign)
            assert refused.status_code == 403
            assert "with the app's login" in refused.text


def body(method: str) -> dict[str, str] | None:
    return {"topic": "t", "data": "x"} if method == "POST" else None


@pytest.mark.parametrize("anonymous", [True, False])
def test_the_login_counts_where_a_browser_sends_an_old_token(
    tmp_path: Path, *, anonymous: bool
) -> None:
    app = Flask(__name__, instance_path=str(tmp_path))
    app.config.update(TIDINGS_JWT_KEY=KEY, TIDINGS_ANONYMOUS=anonymous)
    granted: list[dict[str, list[str]]] = [{"publish": ["*"], "subscribe": ["*"]}]
    Tidings(app, url_prefix="", authorize=lambda _: granted[0] if granted else None)
    client = app.test_client(use_cookies=False)
    old = {"Cookie": "mercureAuthorization=old", "Origin": "http://localhost"}
    subscriptions = "/.well-known/mercure/subscriptions"
    requests: list[tuple[str, str, int]] = [
        ("HEAD", "/events", 200),
        ("POST", "/events", 200),
        ("GET", subscriptions, 200),
        ("DELETE", subscriptions, 204),
    ]
    for method, path, status in requests:
        answer = client.open(path, method=method, headers=old, data=body(method))
        assert answer.status_code == status, method
    granted.clear()
    for method, path, _ in requests:
        expected = 200 if method == "HEAD" and anonymous else 401
        answer = client.open(path, method=method, headers=old, data=body(method))
        assert answer.status_code == expected, method
