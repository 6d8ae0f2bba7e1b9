"""The pages for those who come from other packages: both forms of their code do the same."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from werkzeug.serving import make_server

from support.doc_pages import blocks
from support.embedded import project, serving
from support.ports import free_port
from support.redis_server import RedisServer
from support.stream import Stream
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.server import Server

pytestmark = pytest.mark.slow

WORKER = ["-k", "tidings.server.StreamWorker"]


def pages(diff: str) -> tuple[str, str]:
    """Return the text before and after a diff."""
    lines = diff.splitlines()
    before = [line[1:] for line in lines if line[:1] in {"-", " "}]
    after = [line[1:] for line in lines if line[:1] in {"+", " "}]
    return "\n".join(before), "\n".join(after)


def target(page: str) -> str:
    """Return the path and query to which a page subscribes."""
    url = urlsplit(page.partition('EventSource("')[2].partition('"')[0])
    return f"{url.path}?{url.query}"


@pytest.fixture(name="redis", scope="module")
def _redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer("redis-server", tmp_path_factory.mktemp("redis"), "--save", "")
    yield server
    server.stop()


def greeting(host: str, port: int, path: str, subscribed: Callable[[], Any]) -> tuple[Any, ...]:
    """Subscribe, send a message as a visitor does, and return what arrives."""
    with closing(HTTPConnection(host, port, timeout=PATIENCE)) as connection:
        connection.request("GET", path)
        until(subscribed, "it is subscribed")
        url = f"http://{host}:{port}/messages"
        form = {"text": "hello"}
        assert httpx.post(url, data=form, timeout=PATIENCE, trust_env=False).text == "sent\n"
        response = connection.getresponse()
        with closing(Stream(response, connection)) as stream:
            [message] = stream.messages(1)
            return message.type, message.data


@contextmanager
def threaded(app: Any) -> Iterator[int]:
    port = free_port()
    server = make_server("127.0.0.1", port, app, threaded=True)
    server.daemon_threads = True  # type: ignore[attr-defined] # of its class
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield port
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()


def test_an_app_of_flask_sse_sends_the_same(tmp_path: Path, redis: RedisServer) -> None:
    old, new, diff = blocks(
        "guides/from-flask-sse.md", "Move from flask-sse", "python", "python", "diff"
    )
    url = redis.base_url.rstrip("/")
    before, after = (code.replace("redis://localhost:6379", url) for code in (old, new))
    old_page, new_page = pages(diff)
    module = ModuleType("before")
    exec(before, vars(module))  # the page's own code

    def has_subscribed() -> bool:
        return bool(redis.ask("PUBSUB", "NUMSUB", "users.7")[1])

    with threaded(module.app) as port:
        old_greeting = greeting("127.0.0.1", port, target(old_page), has_subscribed)
    with serving(project(tmp_path, after), *WORKER) as server:
        new_greeting = greeting(
            server.host, server.port, target(new_page), lambda: "stream opened" in server.log
        )
    for type_, data in (old_greeting, new_greeting):
        assert (type_, json.loads(data)) == ("greeting", {"text": "hello"})


def test_django_publishes_what_it_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    code, subscribe = blocks(
        "guides/from-django-eventstream.md", "Move from django-eventstream", "diff", "diff"
    )
    [own] = blocks("guides/flask.md", "Publish from a view", "python", "python")[:1]
    monkeypatch.setenv("TIDINGS_URL", server.url)
    monkeypatch.setenv("TIDINGS_TOKEN", "none")
    hub = ModuleType("hub")
    exec(own, vars(hub))
    monkeypatch.setitem(sys.modules, "hub", hub)
    topic = target(pages(subscribe)[1]).partition("topic=")[2]
    with closing(hub._hub), server.listen(topic=topic) as stream:
        exec(pages(code)[1], {})
        assert stream.take(1) == ['{"text":"hello"}']
