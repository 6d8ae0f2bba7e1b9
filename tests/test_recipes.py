"""The README's recipes, each as it is written there: its blocks are taken from it and run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django_htmx
import httpx
import jwt
import pytest
from commands import COMMAND, token
from conftest import KEY, PATIENCE, ROOT, Server, environment, need
from flask import Flask, make_response, render_template, request
from logs import free_port
from playwright.sync_api import expect
from readme import blocks
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

HUB = "https://hub.example"
EVERYTHING = token(publish=["*"])
APP = free_port()


@pytest.fixture(name="hub", scope="module")
def _hub(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY, TIDINGS_CORS_ORIGINS=f"http://localhost:{APP}")


@pytest.fixture(name="env")
def _env(hub: Server, tmp_path: Path) -> dict[str, str]:
    """A shell's environment in which `tidings` is a command."""
    command = tmp_path / "bin" / "tidings"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\ncd {ROOT}\nexec {" ".join(COMMAND)} "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    return environment({"TIDINGS_URL": hub.url, "TIDINGS_TOKEN": EVERYTHING, "PATH": path})


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
    exec(compile(code, "README.md", "exec"), names)
    return names


def show(page: Page, hub: Server, html: str) -> None:
    """Open a page of the hub's own origin."""
    html = f"<!doctype html><meta charset=utf-8>{html.replace(HUB, hub.url)}"
    page.route(f"{hub.url}/page", lambda route: route.fulfill(body=html, content_type="text/html"))
    page.goto(f"{hub.url}/page")


def test_publish_from_a_shell_and_from_cron(hub: Server, env: dict[str, str]) -> None:
    sh, crontab = blocks("Publish from a shell, from cron", "sh", "crontab")
    with hub.listen(topic=["deploys", "disk"]) as stream:
        run(sh, env)
        subject = ["git", "log", "-1", "--format=%s"]
        said = subprocess.run(subject, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert stream.take(1) == [said.strip()]
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
    code = blocks("Publish from Flask, from Django", "python", "python", "python")[0]
    for name in ("TIDINGS_URL", "TIDINGS_TOKEN"):
        monkeypatch.setenv(name, env[name])
    hub = type(sys)("hub")
    exec(compile(code, "README.md", "exec"), vars(hub))
    monkeypatch.setitem(sys.modules, "hub", hub)
    yield hub.publish
    hub._hub.close()


@pytest.mark.usefixtures("publish")
def test_publish_from_flask(hub: Server) -> None:
    code = blocks("Publish from Flask, from Django", "python", "python", "python")[1]
    app = Flask("shop")
    module(code, app=app, request=request)
    with hub.listen(topic="orders") as stream:
        answer = app.test_client().post("/orders", data={"item": "tea"})
        assert (answer.status_code, answer.text) == (200, "ordered\n")
        assert stream.take(1) == ['{"item":"tea"}']


@pytest.mark.usefixtures("publish")
def test_publish_from_django(hub: Server, tmp_path: Path) -> None:
    import django
    from django.conf import settings
    from django.db import transaction
    from django.http import HttpResponse
    from django.test import RequestFactory

    code = blocks("Publish from Flask, from Django", "python", "python", "python")[2]
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db")}
    settings.configure(DATABASES={"default": database})
    django.setup()
    order = module(code, HttpResponse=HttpResponse)["order"]
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


def test_notify_a_user(
    hub: Server, env: dict[str, str], page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python, html, sh = blocks("Notify a user", "python", "html", "sh")
    at_localhost = hub.url.replace("127.0.0.1", "localhost")  # one site with the app
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "page.html").write_text(html.replace(HUB, at_localhost))
    monkeypatch.setenv("TIDINGS_JWT_KEY", KEY)
    app = Flask("shop", root_path=str(tmp_path))
    names = {"jwt": jwt, "time": time, "os": os, "make_response": make_response}
    module(python, app=app, user_id=lambda: 7, render_template=render_template, **names)
    server = make_server("localhost", APP, app, threaded=True)  # Chromium may open one to spare
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with page.expect_response(re.compile("/events")) as answer:
            page.goto(f"http://localhost:{APP}/")
        assert answer.value.status == 200
        for user in (8, 7):
            run(sh.replace("/users/7", f"/users/{user}").replace("mail'", f"mail, {user}'"), env)
        expect(page.get_by_role("listitem")).to_have_text(["You have mail, 7"])
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()


def test_a_live_dashboard(hub: Server, env: dict[str, str], page: Page, tmp_path: Path) -> None:
    html, sh = blocks("A live dashboard", "html", "sh")
    with hub.listen(topic="load") as stream, shell(sh.replace("5", "0.1"), env, tmp_path):
        [first] = stream.take(1)
    show(page, hub, html)
    expect(page.get_by_role("status")).to_have_text(re.compile(r"^\d+(\.\d+)?$"))
    assert json.loads(first)["load"] >= 0


def test_an_answer_of_a_language_model_survives_a_reload(
    hub: Server, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    python, html = blocks("An answer as a language model writes it", "python", "html")
    monkeypatch.setenv("TIDINGS_TOKEN", EVERYTHING)
    names = module(python.replace(HUB, hub.url), httpx=httpx, json=json, os=os)
    further = [threading.Event() for _ in range(2)]

    def words() -> Iterator[str]:
        yield from ["One", " ordered"]
        further[0].wait(PATIENCE)
        yield " log.\n"
        further[1].wait(PATIENCE)
        yield "The end."

    model = threading.Thread(target=names["publish_answer"], args=(42, words()))
    model.start()
    answer = page.locator("#answer")
    show(page, hub, html)
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


def test_a_log_in_a_browser(hub: Server, env: dict[str, str], page: Page, tmp_path: Path) -> None:
    sh, html = blocks("A log in a browser", "sh", "html")
    log = tmp_path / "app.log"
    log.write_text("begun\n")
    with shell(sh, env, tmp_path), hub.listen(topic="log", last_event_id="earliest") as stream:
        assert stream.take(1) == ["begun"]
        show(page, hub, html)
        with log.open("a") as file:
            file.write("<b>two</b>\nthree\n")
        expect(page.locator("#log")).to_have_text("begun\n<b>two</b>\nthree\n")


def test_htmx(hub: Server, env: dict[str, str], page: Page) -> None:
    html, sh, _, _ = blocks("htmx and Turbo", "html", "sh", "html", "sh")
    scripts = Path(django_htmx.__file__).parent / "static" / "django_htmx"
    parts = ("htmx-2.min.js", "ext/hx-sse-2.min.js")
    show(page, hub, library(*(scripts / part for part in parts)) + html)
    run(sh, env)
    expect(page.locator("b")).to_have_text("Hello")
    run(sh.replace("Hello", "Again"), env)
    expect(page.locator("b")).to_have_text("Again")


def test_turbo(hub: Server, env: dict[str, str], page: Page) -> None:
    _, _, html, sh = blocks("htmx and Turbo", "html", "sh", "html", "sh")
    turbo = ROOT / "tests/node_modules/@hotwired/turbo/dist/turbo.es2017-umd.js"
    need("npm")
    assert turbo.exists(), "make test installs it"
    show(page, hub, library(turbo) + html)
    source = "document.querySelector('turbo-stream-source')?.streamSource"
    page.wait_for_function(f"{source}?.readyState === 1")
    run(sh, env)
    run(sh.replace("Hello", "Again"), env)
    expect(page.get_by_role("listitem")).to_have_text(["Hello", "Again"])


def library(*scripts: Path) -> str:
    """What a page that loads these has at its beginning."""
    return "".join(f"<script>{script.read_text()}</script>" for script in scripts)
