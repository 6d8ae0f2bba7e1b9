"""The guides' recipes, each as it is written there: its blocks are taken from it and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import pytest
import yaml
from flask import Flask, render_template
from playwright.sync_api import expect
from werkzeug.serving import make_server

from support.browser import show
from support.cli import shell_environment
from support.doc_pages import blocks
from support.ports import free_port
from support.programs import need
from support.project import ROOT
from support.tokens import KEY, authorization, token
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from support.server import Server

HUB_URL = "https://hub.example"
EVERYTHING = token(publish=["*"])
[NEW_TOKEN] = blocks("guides/notifications.md", "Make a token for the user", "python")
APP = free_port()
_LIFE_S = 5  # of a token, in which a slow machine opens its stream


@pytest.fixture(name="hub", scope="module")
def _hub(serve: Callable[..., Server]) -> Server:
    origins = f"http://localhost:{APP}"
    return serve(TIDINGS_JWT_KEY=KEY, TIDINGS_CORS_ORIGINS=origins, TIDINGS_RETRY="0.1")


@pytest.fixture(name="env")
def _env(hub: Server, tmp_path: Path) -> dict[str, str]:
    return shell_environment(tmp_path, TIDINGS_URL=hub.url, TIDINGS_TOKEN=EVERYTHING)


@contextmanager
def shell(code: str, env: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script as a user would, until the end of the block."""
    with subprocess.Popen(
        [need("sh"), "-c", code], env=env, cwd=folder, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 15)


def run(code: str, env: dict[str, str], folder: Path = ROOT) -> None:
    subprocess.run([need("sh"), "-c", code], env=env, cwd=folder, check=True, timeout=PATIENCE)


def module(code: str, **names: Any) -> dict[str, Any]:
    """Run a block of Python with these names; return what it has then."""
    exec(compile(code, "a guide", "exec"), names)
    return names


def test_publish_from_a_shell_and_from_cron(hub: Server, env: dict[str, str]) -> None:
    sh, read, crontab = [
        *blocks("guides/shell.md", "From a shell", "sh", "sh"),
        *blocks("guides/shell.md", "From cron", "crontab"),
    ]
    with hub.listen(topic=["deploys", "disk"]) as stream:
        run(sh, env)
        subject = ["git", "log", "-1", "--format=%s"]
        said = subprocess.run(subject, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert stream.take(1) == [said.strip()]
        printed = subprocess.run([need("sh"), "-c", read], env=env, capture_output=True, check=True)
        assert printed.stdout.decode() == said
        *settings, line = crontab.splitlines()
        assert [setting.partition("=")[0] for setting in settings] == [
            "TIDINGS_URL",
            "TIDINGS_TOKEN",
        ]
        # As cron does: five fields, then a command in which \% is % and % ends it.
        command = line.split(" ", 5)[5].replace(r"\%", "\0").partition("%")[0].replace("\0", "%")
        run(command.replace("/srv/tidings/.venv/bin/tidings", "tidings"), env)
        [message] = stream.messages(1)
        assert re.fullmatch(r" *\d+%", message.data)
        assert re.fullmatch(r"disk-\d+", message.id)


@pytest.fixture(name="publish")
def _publish(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """What hub.py of the recipe has, importable."""
    code = blocks("guides/flask.md", "Publish from a view", "python", "python")[0]
    for name in ("TIDINGS_URL", "TIDINGS_TOKEN"):
        monkeypatch.setenv(name, env[name])
    hub = type(sys)("hub")
    exec(compile(code, "a guide", "exec"), vars(hub))
    monkeypatch.setitem(sys.modules, "hub", hub)
    yield hub.publish
    hub._hub.close()


@pytest.mark.usefixtures("publish")
def test_publish_from_flask(hub: Server) -> None:
    code = blocks("guides/flask.md", "Publish from a view", "python", "python")[1]
    app = module(code, __name__="shop")["app"]
    with hub.listen(topic="orders") as stream:
        answer = app.test_client().post("/orders", data={"item": "tea"})
        assert (answer.status_code, answer.text) == (200, "ordered\n")
        assert stream.take(1) == ['{"item":"tea"}']


@pytest.mark.usefixtures("publish")
def test_publish_from_django(hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import django
    from django.conf import settings
    from django.db import transaction
    from django.test import RequestFactory

    # Playwright's loop, where a browser runs, is not Django's concern.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    code = blocks("guides/django.md", "Django", "python")[0]
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db")}
    settings.configure(DATABASES={"default": database})
    django.setup()
    order = module(code)["order"]
    asked = RequestFactory().post("/orders", {"item": "tea"})

    def rolled_back() -> None:
        with transaction.atomic():
            order(asked)
            raise KeyError

    with hub.listen(topic="orders") as stream:
        with pytest.raises(KeyError):
            rolled_back()
        with transaction.atomic():
            assert order(asked).content == b"ordered\n"
        hub.http.post("/events", data={"topic": "orders", "data": "end"}, headers=BEARER)
        assert stream.take(2) == ['{"item":"tea"}', "end"]


BEARER = {"Authorization": f"Bearer {EVERYTHING}"}


@contextmanager
def shop(app: Flask) -> Iterator[str]:
    """Serve an app beside the hub."""
    server = make_server("localhost", APP, app, threaded=True)  # Chromium may open one to spare
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{APP}/"
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()


def publish_mail(env: dict[str, str]) -> None:
    [_, _, sh] = blocks("guides/notifications.md", "With tidings.js", "python", "html", "sh")
    for user in (8, 7):
        run(sh.replace("/users/7", f"/users/{user}").replace("mail'", f"mail, {user}'"), env)


@pytest.fixture(name="template")
def _template(hub: Server, tmp_path: Path) -> Callable[[str], Flask]:
    """Make an app whose page is some HTML of the documentation's."""

    def template(html: str) -> Flask:
        at_localhost = hub.url.replace("127.0.0.1", "localhost")  # one site with the app
        (tmp_path / "templates").mkdir()
        (tmp_path / "templates" / "page.html").write_text(html.replace(HUB_URL, at_localhost))
        return Flask("shop", root_path=str(tmp_path))

    return template


@pytest.fixture(name="notified")
def _notified(
    env: dict[str, str],
    page: Page,
    template: Callable[[str], Flask],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., None]:
    """Run a recipe: its page shows what is published to its user, and nothing else."""
    monkeypatch.setenv("TIDINGS_JWT_KEY", KEY)

    def notified(python: str, html: str) -> None:
        assert "3600" in python
        app = template(html.replace("5_000", "50"))
        if '"/"' not in python:
            app.add_url_rule("/", view_func=lambda: render_template("page.html", user=7))
        module(python.replace("3600", str(_LIFE_S)), app=app, user_id=lambda: 7)
        with shop(app) as url:
            with page.expect_response(re.compile("/events")) as answer:
                page.goto(url)
            assert answer.value.status == 200
            expired = time.time() + _LIFE_S
            until(lambda: time.time() > expired, "the first token has expired")
            publish_mail(env)
            expect(page.get_by_role("listitem")).to_have_text(["You have mail, 7"])

    return notified


def test_notify_a_user_for_longer_than_a_token_lives(notified: Callable[..., None]) -> None:
    python, html, _ = blocks("guides/notifications.md", "With tidings.js", "python", "html", "sh")
    notified(NEW_TOKEN + python, html)


def test_notify_a_user_for_longer_than_a_cookies_token_lives(
    notified: Callable[..., None],
) -> None:
    python, html = blocks(
        "guides/notifications.md", "With a cookie and EventSource", "python", "html"
    )
    notified(NEW_TOKEN + python, html)


def test_the_browser_clients_complete_example(
    hub: Server, env: dict[str, str], page: Page, tmp_path: Path
) -> None:
    python, start, publish = blocks(
        "guides/browser-client.md", "A complete example", "python", "sh", "sh"
    )
    (tmp_path / "news.py").write_text(python.replace("http://localhost:8000", hub.url))
    start = start.replace("$(openssl rand -hex 32)", KEY).replace("make run", "true")
    start = start.replace(".venv/bin/flask", f"{sys.executable} -m flask")
    publish = publish.replace(".venv/bin/", "")
    with shell(start.replace("run &", f"run --port {APP}"), env, tmp_path):
        until(lambda: answers(APP), "the app answers")
        page.goto(f"http://localhost:{APP}")
        expect(page.get_by_role("status")).to_have_text("Connected.")
        run(publish, {**env, "TIDINGS_JWT_KEY": KEY})
        expect(page.get_by_role("listitem")).to_have_text(["Hello"])


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("localhost", port)):
        return True
    return False


def test_a_live_dashboard(hub: Server, env: dict[str, str], page: Page, tmp_path: Path) -> None:
    html, sh = blocks("guides/dashboard.md", "A live dashboard", "html", "sh")
    with hub.listen(topic="load") as stream, shell(sh.replace("5", "0.1"), env, tmp_path):
        [first] = stream.take(1)
    show(page, hub, html, HUB_URL)
    expect(page.get_by_role("status")).to_have_text(re.compile(r"^\d+(\.\d+)?$"))
    assert json.loads(first)["load"] >= 0


def test_a_dashboard_of_many_values(
    hub: Server, env: dict[str, str], page: Page, tmp_path: Path
) -> None:
    html, sh = blocks("guides/dashboard.md", "Show many values", "html", "sh")
    for host, load in (("web-1", 1), ("web-2", 2), ("web-1", 3)):
        form = {"topic": f"load/{host}", "data": json.dumps({"load": load})}
        hub.http.post("/events", data=form, headers=BEARER).raise_for_status()
    show(page, hub, html, HUB_URL)
    expect(page.get_by_role("row")).to_have_text(["load/web-22", "load/web-13"])
    sh = sh.replace("5", "0.1").replace("$(hostname)", "web-3")
    with shell(sh, env, tmp_path):
        expect(page.get_by_role("row").last).to_have_text(re.compile(r"^load/web-3\d+(\.\d+)?$"))
    row = page.get_by_role("row").first
    form = {"topic": "load/web-2", "data": json.dumps({"load": 7})}
    hub.http.post("/events", data=form, headers=BEARER).raise_for_status()
    expect(row).to_have_text("load/web-27")


def test_an_answer_of_a_language_model_survives_a_reload(
    hub: Server, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    [python] = blocks("guides/llm-streaming.md", "Publish the words", "python")
    [html] = blocks("guides/llm-streaming.md", "Show the answer", "html")
    monkeypatch.setenv("TIDINGS_TOKEN", EVERYTHING)
    names = module(python.replace(HUB_URL, hub.url))
    further = [threading.Event() for _ in range(2)]

    def words() -> Iterator[str]:
        yield from ["One", " ordered"]
        further[0].wait(PATIENCE)
        yield " log.\n"
        further[1].wait(PATIENCE)
        yield "The end."

    model = threading.Thread(target=names["publish_answer"], args=(42, words()))
    with hub.listen(topic="/answers/42") as stream:
        model.start()
        stream.take(1)  # the guide opens the page after the first event
    answer = page.locator("#answer")
    show(page, hub, html, HUB_URL)
    expect(answer).to_have_text("One ordered")
    page.reload()
    expect(answer).to_have_text("One ordered")
    further[0].set()
    expect(answer).to_have_text("One ordered log.")
    further[1].set()
    expect(answer).to_have_text("One ordered log. The end.")
    model.join(PATIENCE)
    page.reload()
    expect(answer).to_have_text("One ordered log. The end.")


def test_an_old_answer_comes_from_the_app(hub: Server, page: Page) -> None:
    [html] = blocks("guides/llm-streaming.md", "Show the answer", "html")
    page.route("**/answers/42", lambda it: it.fulfill(body="An old answer."))
    show(page, hub, html.replace("answer-42", "answer-41"), HUB_URL)
    expect(page.locator("#answer")).to_have_text("An old answer.")


NATIVE = """<ul id="news"></ul><script>
  const source = new EventSource("http://localhost:8000/events?topic=news");
  source.onmessage = ({ data }) => document.getElementById("news").append(data);
  %s
</script>"""
COUNT = """navigation.addEventListener("navigate", () => {
  sessionStorage.reloads = +(sessionStorage.reloads || 0) + 1;
})"""


@pytest.mark.parametrize(
    ("client", "cursor", "reloads"),
    [
        ("EventSource", "", 0),
        ("EventSource", "answer-41", 1),
        ("tidings.js", "null", 0),
        ("tidings.js", "1-0", 1),
    ],
)
def test_a_page_with_a_lost_cursor_is_reloaded_once_at_most(
    hub: Server, page: Page, topic: str, client: str, cursor: str, reloads: int
) -> None:
    if client == "tidings.js":
        [html] = blocks("guides/browser-client.md", "Use it like an EventSource", "html")
        page.route("**/token", lambda it: it.fulfill(body=EVERYTHING))
    else:
        html = NATIVE % blocks("guides/subscribe.md", "Handle control events", "js")[0]
    topic = quote(topic)
    page.add_init_script(COUNT)
    show(page, hub, html.replace("topic=news", f"topic={topic}&last_event_id={cursor}"))
    how = ["navigate", "reload"][reloads]
    page.wait_for_function(f"performance.getEntriesByType('navigation')[0].type === '{how}'")

    def seen() -> bool:
        hub.http.post("/events", data={"topic": unquote(topic), "data": "x"}, headers=BEARER)
        return "x" in (page.locator("#news").text_content() or "")

    until(seen, "the page receives an event, and hub.reset came before it")
    assert page.evaluate("+(sessionStorage.reloads || 0)") == reloads


def test_an_answer_goes_on_when_the_hub_restarts(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    [python] = blocks("guides/llm-streaming.md", "Publish the words", "python")
    monkeypatch.setenv("TIDINGS_TOKEN", EVERYTHING)
    hub = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_DRAIN="1")
    publish_answer = module(python.replace(HUB_URL, hub.url))["publish_answer"]
    further = threading.Event()

    def words() -> Iterator[str]:
        yield from ["One", " ordered"]
        further.wait(PATIENCE)
        yield " log."

    model = threading.Thread(target=publish_answer, args=(42, words()))
    with hub.listen(topic="/answers/42") as stream:
        model.start()
        assert stream.take(3) == ["", "One", " ordered"]
        worker = hub.worker
        hub.process.send_signal(signal.SIGHUP)
        until(lambda: hub.worker != worker, "another worker serves")
        cursor = [message.id for message in stream.rest()][-1]
    further.set()
    with hub.listen(topic="/answers/42", last_event_id=cursor) as stream:
        assert stream.take(2) == [" log.", ""]
    model.join(PATIENCE)


FORM = "application/x-www-form-urlencoded"
# As the services write them: Alertmanager in one line that ends, GitHub in one of two ways, Stripe
# with indents, CloudEvents with fields that events have too.
WEBHOOKS = {
    "Alertmanager": (
        "application/json",
        b'{"receiver":"tidings","alerts":[],"version":"4","groupKey":"{}:{a=\\"Down\\"}"}\n',
    ),
    "GitHub": (
        "application/json",
        b'{"zen":"Speak like a human.","hook_id":7,"hook":{"type":"Repository","id":7}}',
    ),
    "GitHub, form": (FORM, b"payload=%7B%22zen%22%3A%22Keep+it+logically+awesome.%22%7D"),
    "Stripe": (
        "application/json; charset=utf-8",
        '{\n  "id": "evt_1",\n  "data": {"name": "Zoë"},\n  "type": "charge.succeeded"\n}'.encode(),
    ),
    "CloudEvents": (
        "application/cloudevents+json; charset=UTF-8",
        b'{"specversion":"1.0","id":"1","source":"/a","type":"com.example.a","data":{"b":1}}',
    ),
    "CloudEvents, batch": (
        "application/cloudevents-batch+json",
        b'[{"specversion":"1.0","id":"1","source":"/a","type":"a","data_base64":"AA=="}]',
    ),
}


@pytest.mark.parametrize(("kind", "body"), WEBHOOKS.values(), ids=WEBHOOKS)
def test_a_webhook_arrives_byte_for_byte(hub: Server, kind: str, body: bytes) -> None:
    [url, sh] = blocks("guides/webhooks.md", "Make a URL for the service", "text", "sh")
    topic = shlex.split(sh)[3]
    to = url.strip().removeprefix(HUB_URL).replace("TOKEN", token(publish=[topic]))
    granted = authorization(token(subscribe=[topic]))
    with hub.listen(topic=topic, headers=granted) as stream, hub.listen(topic="*") as stranger:
        answer = hub.http.post(to, content=body, headers={"Content-Type": kind})
        assert answer.status_code == 200, answer.text
        [message] = stream.messages(1)
        assert (message.data.encode(), message.id) == (body, answer.text.strip())
        assert message.type == "message"
        hub.http.post("/events", data={"data": "end"}, headers=authorization(EVERYTHING))
        assert stranger.take(1) == ["end"]


def test_alertmanagers_receiver_publishes(hub: Server) -> None:
    [text] = blocks("guides/webhooks.md", "Alertmanager", "yaml")
    [config] = yaml.safe_load(text)["receivers"][0]["webhook_configs"]
    assert config["http_config"]["authorization"] == {"credentials": "TOKEN"}
    kind, body = WEBHOOKS["Alertmanager"]
    headers = {"Content-Type": kind, **authorization(EVERYTHING)}
    with hub.listen(topic="/hooks/alerts") as stream:
        to = config["url"].removeprefix(HUB_URL)
        assert hub.http.post(to, content=body, headers=headers).status_code == 200
        assert stream.take(1) == [body.decode()]


def test_a_log_in_a_browser(hub: Server, env: dict[str, str], page: Page, tmp_path: Path) -> None:
    sh, html = blocks("guides/logs.md", "Show a log file in a browser", "sh", "html")
    log = tmp_path / "app.log"
    log.write_text("begun\n")
    with shell(sh, env, tmp_path), hub.listen(topic="log", last_event_id="earliest") as stream:
        assert stream.take(1) == ["begun"]
        show(page, hub, html, HUB_URL)
        with log.open("a") as file:
            file.write("<b>two</b>\nthree\n")
        expect(page.locator("#log")).to_have_text("begun\n<b>two</b>\nthree\n")
