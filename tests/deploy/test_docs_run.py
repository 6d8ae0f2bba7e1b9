"""The documentation's commands, pages and code, each run as it is written there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from playwright.sync_api import expect

from support.browser import show
from support.cli import COMMAND
from support.curl import curl_output, curl_until, shell
from support.doc_pages import blocks, section, shell_lines
from support.programs import need
from support.project import ROOT, environment
from support.tokens import KEY
from support.waiting import PATIENCE
from webapp.auth.authorizer import Authorizer
from webapp.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

    from support.server import Server


def test_its_keys_are_accepted() -> None:
    need("openssl")
    table = section("guides/authentication.md", "Make a key")
    commands = re.findall(r"`(openssl (?:rand|genpkey) [^`]*)`", table)
    assert len(commands) == 4
    [export, _] = re.findall(r"openssl rand -hex 32", table)
    assert f"export TIDINGS_JWT_KEY=$({export})\n" in blocks(
        "guides/authentication.md", "Make a key", "sh"
    )
    public = re.search(r"`openssl pkey -in private.pem( -pubout)`", table)
    assert public
    for command in commands:
        key = output(command)
        if "genpkey" in command:
            key = output(f"openssl pkey{public[1]}", stdin=key)
        Settings.from_env({"TIDINGS_JWT_KEY": key, "PORT": "80"}).check_exposure(reachable=True)
        Authorizer(Settings.from_env({"TIDINGS_JWT_KEY": key}))


def output(command: str, stdin: str = "") -> str:
    done = subprocess.run(
        shlex.split(command), input=stdin, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_its_python_makes_a_token(keyed: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    [python] = blocks("guides/authentication.md", "Make a token in your app", "json", "python")[1:]
    monkeypatch.setenv("TIDINGS_JWT_KEY", KEY)
    names: dict[str, Any] = {}
    exec(compile(python, "authentication.md", "exec"), names)
    headers = {"Authorization": f"Bearer {names['token']}"}
    with keyed.listen(topic="/users/7", headers=headers) as stream:
        form = {"topic": "/users/7", "data": "x", "private": "1"}
        everything = jwt.encode({"mercure": {"publish": ["*"]}}, KEY)
        keyed.http.post("/events", data=form, headers={"Authorization": f"Bearer {everything}"})
        assert stream.take(1) == ["x"]


def test_its_first_key_makes_a_token_that_publishes(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    need("openssl")
    key, token, publish, private = blocks(
        "quickstart.md", "Make a first key and token", *4 * ["sh"]
    )
    run_in(tmp_path, key.replace("make run\n", ""))
    hub = serve(TIDINGS_JWT_KEY=(tmp_path / "jwt.key").read_text())
    command = tmp_path / ".venv/bin/tidings"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\ncd {ROOT}\nexec {shlex.join(COMMAND)} "$@"\n')
    command.chmod(0o755)
    with hub.listen() as stream:
        here = f"{token}{publish}".replace("localhost:8000", f"localhost:{hub.port}")
        printed = run_in(tmp_path, f"{here}{private}", TIDINGS_URL=hub.url)
        assert printed.splitlines()[-1] == "for token holders"
        run_in(tmp_path, here, TIDINGS_URL=hub.url)
        assert stream.take(4) == 2 * ["hello", "hello with a token"]


def run_in(folder: Path, code: str, **env: str) -> str:
    command = [*shell(), f"set -e\n{code}"]
    done = subprocess.run(
        command, cwd=folder, env=environment(env), stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


# curl


CURLS = [
    line
    for line in shell_lines()
    if line.startswith("curl ") and "localhost:8000" in line and not line.endswith("/orders")
]
"""Those of a hub; test_embedded asks the guide's app."""
OPEN = [line for line in CURLS if "$TOKEN" not in line]
WITH_TOKEN = [line for line in CURLS if "$TOKEN" in line]


@pytest.mark.parametrize("command", sorted(set(OPEN)))
def test_its_curls_work_as_written(server: Server, command: str) -> None:
    here = command.partition("  #")[0].replace("localhost:8000", f"localhost:{server.port}")
    if command.endswith("/readyz"):
        assert curl_output(here) == "ready\n"
    elif "-d" in command.split() or "--data-binary" in command:
        assert re.fullmatch(r"(\d+-\d+\n?)+", curl_output(here))
    elif "DELETE" in command:
        assert json.loads(curl_output(here)) == {"deleted": 0}
    elif "application/json" in command:
        assert json.loads(curl_output(here)).keys() >= {"events", "last_id"}
    elif "wait=0" in command:
        assert "event: hub.mark" in curl_output(here)
    else:
        answer = curl_until(here, '"topics": ')
        assert "event: hub.open" in answer
        assert ("/users/{id}" in answer) == ("/users/{id}" in command)


@pytest.fixture(name="keyed", scope="module")
def _keyed(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY)


@pytest.mark.parametrize("command", sorted(set(WITH_TOKEN)))
def test_its_curls_with_a_token_work_as_written(keyed: Server, command: str) -> None:
    here = command.replace("localhost:8000", f"localhost:{keyed.port}")
    token = jwt.encode({"mercure": {"publish": ["*"], "subscribe": ["*"]}}, KEY)
    if "-gN" in command:
        assert "event: hub.open" in curl_until(here, '"active": true', TOKEN=token)  # of itself
        return
    answer, _, status = curl_output(f"{here} -w ' %{{http_code}}'", TOKEN=token).rpartition(" ")
    if command.endswith("localhost:8000/events"):
        assert (bool(re.fullmatch(r"\d+-\d+\n?", answer)), status) == (True, "200")
    elif "-X DELETE" in command or "-d" in command.split():
        assert (answer, status) == ("", "204")
    else:
        assert (json.loads(answer)["type"], status) == ("Subscriptions", "200")


def test_its_pipe_publishes_as_it_is_written(server: Server) -> None:
    [block] = blocks("guides/publish.md", "Publish a stream of lines", "sh")
    here = block.replace("localhost:8000", f"localhost:{server.port}").replace(
        "sleep 1", "sleep 0.1"
    )
    with server.listen() as stream:
        pipe = subprocess.Popen([*shell(), here], start_new_session=True, stderr=subprocess.DEVNULL)
        assert all(re.fullmatch(r"\d\d:\d\d:\d\d", data) for data in stream.take(3))
        subprocess.run(["kill", "--", f"-{pipe.pid}"], check=True)
        pipe.wait()


# Pages and Python


def test_its_page_from_a_file_shows_what_is_published(
    serve: Callable[..., Server], page: Page, tmp_path: Path
) -> None:
    html, sh = blocks("quickstart.md", "Subscribe in a web page", "html", "sh")
    assert [html] == blocks("README.md", "Subscribe", "sh", "html")[1:]
    env = dict(word.split("=") for word in shlex.split(sh) if "=" in word)
    hub = serve(**env)
    path = tmp_path / "page.html"
    path.write_text(html.replace("http://localhost:8000", hub.url))
    page.goto(f"file://{path}")
    expect(page.get_by_role("listitem").first).to_have_text(re.compile(r"New event: Event \d"))


def test_its_bind_moves_the_hub() -> None:
    [sh] = blocks("quickstart.md", "Use another port", "sh")
    [(name, value)] = [word.split("=", 1) for word in shlex.split(sh) if "=" in word]
    command = [sys.executable, "-m", "gunicorn", "--print-config", "wsgi:app"]
    env = environment({name: value})
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert re.search(r"^bind +=.*127\.0\.0\.1:8123", done.stdout, re.MULTILINE)


def test_the_readmes_python_publishes(server: Server) -> None:
    [python] = blocks("README.md", "Publish from your app", "python")
    with server.listen(topic="orders") as stream:
        code = python.replace("http://localhost:8000", server.url)
        exec(compile(code, "README.md", "exec"), {})
        assert stream.take(1) == ['{"item":"tea"}']


def test_its_browser_client_gets_a_token_and_shows_events(keyed: Server, page: Page) -> None:
    [html] = blocks("guides/browser-client.md", "Use it like an EventSource", "html")
    tokens = []

    def answer(route: Any) -> None:
        tokens.append(jwt.encode({"mercure": {"subscribe": ["news"]}}, KEY))
        route.fulfill(body=tokens[-1], content_type="text/plain")

    page.route(f"{keyed.url}/token", answer)
    show(page, keyed, html)
    publisher = jwt.encode({"mercure": {"publish": ["*"]}}, KEY)
    until_read(keyed, publisher, page)
    assert tokens


def until_read(hub: Server, publisher: str, page: Page) -> None:
    """Publish privately until the page, which may still connect, has shown something."""
    item = page.get_by_role("listitem").first
    deadline = time.monotonic() + PATIENCE
    while not item.is_visible() and time.monotonic() < deadline:
        form = {"topic": "news", "data": "for you", "private": "1"}
        hub.http.post("/events", data=form, headers={"Authorization": f"Bearer {publisher}"})
        page.wait_for_timeout(200)
    expect(item).to_have_text("for you")


def test_its_listener_reads_the_reason_of_a_reset(server: Server, page: Page) -> None:
    [code] = blocks("reference/hub-events.md", "Control events", "js")
    with page.expect_console_message() as line:
        show(page, server, f"{RESET}\n{code}</script>")
    assert line.value.text == "unknown"
    page.goto("about:blank")


def test_its_listener_reloads_after_a_reset(server: Server, page: Page) -> None:
    [code] = blocks("guides/subscribe.md", "Handle control events", "js")
    shown = list[str]()
    page.on("framenavigated", lambda frame: shown.append(frame.url))
    show(page, server, f"{RESET}\n{code}</script>")
    page.wait_for_event("framenavigated", lambda _: len(shown) > 1)
    page.goto("about:blank")


RESET = "<script>const source = new EventSource('/events?last_event_id=gone');"
