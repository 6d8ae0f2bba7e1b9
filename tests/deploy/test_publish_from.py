"""The examples for other languages and frameworks, each as the page has it."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from support import asynchronous
from support.doc_pages import blocks
from support.programs import need
from support.project import environment
from support.tokens import KEY, token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.server import Server

pytestmark = pytest.mark.slow

EVENT = {"topic": "orders", "data": {"item": "tea"}}
ARRIVED = ['{"item":"tea"}']


@pytest.fixture(name="hub", scope="module")
def _hub(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY)


@pytest.fixture(autouse=True)
def _settings(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_URL", hub.url)
    monkeypatch.setenv("TIDINGS_TOKEN", token(publish=["*"]))


def module(code: str, name: str = "example") -> ModuleType:
    made = ModuleType(name)
    exec(code, vars(made))  # the page's own code
    return made


def test_asynchronous_python_publishes(hub: Server) -> None:
    by_httpx, by_aiohttp = map(
        module, blocks("guides/publish-from.md", "Asynchronous Python", "python", "python")
    )

    async def publish_both() -> None:
        async with by_httpx._hub:
            await by_httpx.publish(**EVENT)
        async with aiohttp.ClientSession() as session:
            await by_aiohttp.publish(session, **EVENT)

    with hub.listen(topic="orders") as stream:
        asynchronous.run(publish_both())
        assert stream.take(2) == ARRIVED * 2


def test_fastapi_publishes_after_its_answer(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    [by_httpx, _] = blocks("guides/publish-from.md", "Asynchronous Python", "python", "python")
    monkeypatch.setitem(sys.modules, "hub_async", publisher := module(by_httpx, "hub_async"))
    [code] = blocks("guides/publish-from.md", "FastAPI", "python")
    app = module(code).app

    async def order() -> list[dict[str, object]]:
        sent: list[dict[str, object]] = []

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": "/orders/tea",
            "headers": [],
        }
        scope |= {"query_string": b"", "http_version": "1.1"}
        async with publisher._hub:
            await app(scope, receive, send)
        return sent

    with hub.listen(topic="orders") as stream:
        begin, *_ = asynchronous.run(order())
        assert begin["status"] == 200
        assert stream.take(1) == ARRIVED


def test_a_task_that_runs_twice_publishes_once(
    hub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    flask_guide = blocks("guides/flask.md", "Publish from a view", "python", "python")[0]
    monkeypatch.setitem(sys.modules, "hub", publisher := module(flask_guide, "hub"))
    [code] = blocks("guides/publish-from.md", "Celery", "python")
    announce = module(code, "shop").announce
    with hub.listen(topic="orders") as stream, publisher._hub:
        announce.apply(args=(1, "tea")).get()
        announce.apply(args=(1, "tea")).get()
        publisher.publish(topic="orders", data="end")
        assert stream.take(2) == [*ARRIVED, "end"]


def test_node_publishes(hub: Server, tmp_path: Path) -> None:
    [code] = blocks("guides/publish-from.md", "Node", "js")
    program = tmp_path / "publish.mjs"
    program.write_text(f'{code}\nawait publish({{topic: "orders", data: {{item: "tea"}}}});\n')
    run(hub, [need("node"), str(program)])


def test_php_publishes(hub: Server, tmp_path: Path) -> None:
    [code] = blocks("guides/publish-from.md", "PHP", "php")
    program = tmp_path / "publish.php"
    program.write_text(f"{code}\npublish(['topic' => 'orders', 'data' => ['item' => 'tea']]);\n")
    run(hub, [need("php"), str(program)])


def run(hub: Server, command: list[str]) -> None:
    """Run a program that publishes the event."""
    env = environment({"TIDINGS_URL": hub.url, "TIDINGS_TOKEN": token(publish=["*"])})
    with hub.listen(topic="orders") as stream:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert stream.take(1) == ARRIVED
