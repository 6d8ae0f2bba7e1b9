"""A hub in apps that have other extensions, hooks and folders: one server has all of these apps."""

from __future__ import annotations

import zlib
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import httpx
import pytest
from flask import Blueprint, Flask

from support.embedded import project, serving
from support.waiting import PATIENCE
from webapp import Tidings
from webapp.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.server import Server

pytestmark = pytest.mark.slow

APPS = """
from gevent import monkey

monkey.patch_all()

import os
import zlib
import flask
from flask import Flask, request
from flask_login import LoginManager, UserMixin, current_user, login_user
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect
from gevent.event import Event
from sqlalchemy.pool import QueuePool
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from tidings import Tidings


def make(name):
    os.makedirs(f"{name}/static")
    folder = os.path.abspath(name)
    made = Flask(name, instance_path=folder, static_folder=f"{folder}/static")
    made.secret_key = "for the tests"
    return made


# With a login, and one connection to its database.
login, db = make("login"), SQLAlchemy()
login.config.update(
    SQLALCHEMY_DATABASE_URI="sqlite:///users.db",
    SQLALCHEMY_ENGINE_OPTIONS={
        "poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": 20,
        "connect_args": {"check_same_thread": False},
    },
)
db.init_app(login)
manager = LoginManager(login)
released = Event()


class User(UserMixin, db.Model):
    id = db.Column(db.Integer, primary_key=True)


with login.app_context():
    db.create_all()
    db.session.add(User(id=7))
    db.session.commit()


@manager.user_loader
def load(id):
    return db.session.get(User, int(id))


@login.before_request
def count():
    flask.g.users = db.session.query(User).count()


def authorize(request):
    if current_user.is_authenticated:
        return {"subscribe": [f"/users/{current_user.id}"], "publish": ["*"]}


of_login = Tidings(login, url_prefix="/realtime", authorize=authorize)


@login.get("/in")
def enter():
    login_user(db.session.get(User, 7))
    return str(flask.g.users)


@login.post("/mail")
def mail():
    return of_login.publish("mail", topic="/users/7", private=True)


@login.get("/wait")
def wait():
    db.session.remove()
    of_login.publish("it waits", topic="/users/7")
    released.wait()
    return "over"


@login.get("/release")
def release():
    released.set()
    return "released"


# With a protection of forms, and a limit of bodies, that are not for the hub.
forms = make("forms")
forms.config.update(MAX_CONTENT_LENGTH=4, TIDINGS_TRUSTED_PROXIES=1)
Tidings(forms, url_prefix="/realtime", authorize=lambda _: {"publish": ["*"]})
CSRFProtect(forms)
forms.add_url_rule("/own", "own", lambda: "own", methods=["POST"])

# With code that changes the bodies of all answers.
zipped = make("zipped")
Tidings(zipped, url_prefix="/realtime", authorize=lambda _: {"publish": ["*"]})


@zipped.after_request
def compress(response):
    compressor, body = zlib.compressobj(wbits=31), response.response
    flushed = (compressor.compress(it) + compressor.flush(zlib.Z_SYNC_FLUSH) for it in body if it)
    if request.args.get("unflushed"):
        flushed = (compressor.compress(it) for it in body)
    response.response = flushed
    response.headers["Content-Encoding"] = "gzip"
    response.headers.pop("Content-Length", None)
    return response


quiet = make("quiet")
Tidings(quiet, url_prefix="/realtime", authorize=lambda _: {"publish": ["*"]})


@quiet.after_request
def leave_out(response):
    body = response.response
    response.response = (it for it in body if it)
    return response


# With errors of its own, and a hook for all paths.
strict = make("strict")


class Banned(Exception):
    pass


class NoSession(Exception):
    pass


def refuse(request):
    raise NoSession


@strict.before_request
def ban():
    if request.headers.get("X-Banned"):
        raise Banned


strict.register_error_handler(Banned, lambda _: ("banned by the app", 410))
strict.register_error_handler(NoSession, lambda _: ("no session of the app", 401))
Tidings(strict, url_prefix="/realtime", authorize=refuse)

# With its own page and files where the hub's other paths are.
root = make("root")
Tidings(root, url_prefix="")
root.add_url_rule("/", "page", lambda: "the app's own page")
open("root/static/page.css", "w").write("the app's own file")

app = DispatcherMiddleware(
    login,
    {"/forms": forms, "/zipped": zipped, "/quiet": quiet, "/strict": strict, "/root": root},
)
"""
PRESENCE = "/.well-known/mercure/subscriptions"


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = project(tmp_path_factory.mktemp("apps"), APPS)
    with serving(folder, "-k", "tidings.server.StreamWorker") as server:
        yield server


def test_a_hundred_streams_leave_the_app_its_only_connection(server: Server) -> None:
    answer = server.http.get("/in")
    assert answer.text == "1"
    user = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
    with ExitStack() as stack:
        streams = [
            stack.enter_context(server.listen("/realtime/events", user, topic="/users/7"))
            for _ in range(100)
        ]
        assert {stream.next().type for stream in streams} == {"hub.open"}
        with httpx.Client(timeout=PATIENCE, trust_env=False) as other:
            assert other.get(f"{server.url}/in", headers=user).text == "1"
        assert server.http.post("/mail").status_code == 200
        assert {stream.next().data for stream in streams} == {"mail"}


def test_a_view_that_waits_does_not_stop_the_streams(server: Server) -> None:
    waiting = HTTPConnection(server.host, server.port, timeout=PATIENCE)
    path = "/realtime/events"
    with closing(waiting), server.listen(path, topic=["/users/7", "t"]) as stream:
        assert stream.next().type == "hub.open"
        waiting.request("GET", "/wait")
        assert stream.next().data == "it waits"
        with server.listen(path, topic="t") as other:
            assert other.next().type == "hub.open"
        assert server.http.get("/release").text == "released"
        assert waiting.getresponse().read() == b"over"


def test_the_protection_of_forms_does_not_concern_the_hub(server: Server) -> None:
    event = {"topic": "t", "data": "x" * 100}
    assert server.http.post("/forms/realtime/events", data=event).status_code == 200
    foreign = {"Origin": "https://evil.example"}
    refused = server.http.post("/forms/realtime/events", data=event, headers=foreign)
    assert (refused.status_code, refused.json()["title"]) == (403, "Forbidden")
    own = server.http.post("/forms/own", data={"a": ""})
    assert (own.status_code, "CSRF token is missing" in own.text) == (400, True)


def test_its_document_names_where_the_hub_is(server: Server) -> None:
    for headers, base in (({}, "/forms"), ({"X-Forwarded-Prefix": "/shop"}, "/shop")):
        document = server.http.get("/forms/realtime/openapi.json", headers=headers).json()
        assert document["servers"] == [{"url": f"{base}/realtime"}]
        assert PRESENCE in document["paths"]
        assert "securitySchemes" not in document["components"]


def test_an_app_may_compress_streams(server: Server) -> None:
    connection = HTTPConnection(server.host, server.port, timeout=PATIENCE)
    stuck = HTTPConnection(server.host, server.port, timeout=PATIENCE)
    with closing(connection), closing(stuck):
        stuck.request("GET", "/zipped/realtime/events?topic=t&unflushed=1")
        connection.request("GET", "/zipped/realtime/events?topic=t")
        response, text = connection.getresponse(), ""
        decompressor = zlib.decompressobj(wbits=31)
        while "hub.open" not in text:
            text += decompressor.decompress(response.read1()).decode()
        for data in ("one", "two"):
            posted = server.http.post("/zipped/realtime/events", data={"topic": "t", "data": data})
            assert posted.status_code == 200
            while f"data: {data}" not in text:
                text += decompressor.decompress(response.read1()).decode()


def test_an_app_may_leave_out_empty_parts_of_bodies(server: Server) -> None:
    with server.listen("/quiet/realtime/events", topic="t") as stream:
        assert stream.next().type == "hub.open"
        for data in ("one", "two"):
            server.http.post("/quiet/realtime/events", data={"topic": "t", "data": data})
            assert stream.next().data == data


def test_what_the_app_raises_is_answered_by_its_own_handlers(server: Server) -> None:
    for path, headers, expected in (
        ("healthz", {"X-Banned": "1"}, (410, "banned by the app")),
        ("events", {}, (401, "no session of the app")),
        ("healthz", {}, (200, "ok\n")),
    ):
        answer = server.http.get(f"/strict/realtime/{path}", headers=headers)
        assert (answer.status_code, answer.text) == expected


def test_at_the_root_the_apps_own_page_and_files_stay(server: Server) -> None:
    assert server.http.get("/root/").text == "the app's own page"
    assert server.http.get("/root/static/page.css").text == "the app's own file"
    console = server.http.get("/root/console").text
    assert 'src="tidings/static/console.js"' in console
    assert "Live page" not in console
    for name in ("console.js", "page.css", "tidings.js", "icon.svg"):
        assert server.http.get(f"/root/tidings/static/{name}").status_code == 200, name
    with server.listen("/root/events", topic="t") as stream:
        assert stream.next().type == "hub.open"


@pytest.mark.parametrize("prefix", ["/<x>", "/a b", "/a?b", "/a#b"])
def test_a_prefix_that_is_no_fixed_path_is_refused(prefix: str) -> None:
    with pytest.raises(Misconfigured, match="url_prefix"):
        Tidings(url_prefix=prefix)


def test_an_app_has_one_hub(tmp_path: Path) -> None:
    app = Flask(__name__, instance_path=str(tmp_path))
    Tidings(app, url_prefix="/a")
    app.extensions = {}  # some apps begin it again
    with pytest.raises(Misconfigured, match="has a hub already"):
        Tidings(app, url_prefix="/b")


def test_a_hub_is_refused_that_no_request_would_find(tmp_path: Path) -> None:
    app = Flask(__name__, instance_path=str(tmp_path), host_matching=True, static_host="a")
    with pytest.raises(Misconfigured, match="host_matching"):
        Tidings(app)
    app = Flask(__name__, instance_path=str(tmp_path))
    app.register_blueprint(Blueprint("tidings", __name__))
    with pytest.raises(Misconfigured, match="a blueprint of its own"):
        Tidings(app)
