"""Fixtures for all tests: servers, a topic of one's own, a hub without a server."""

from __future__ import annotations

import gc
import os
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import gevent
import pytest
from hypothesis import HealthCheck, settings

from support.hub import make_hub
from support.project import ROOT
from support.server import Server, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from webapp.hub.hub import Hub

pytest_plugins = ["support.browser"]

# Else each start of a hub would compile webapp/ again, a fifth of what a start takes, and each
# process of pytest all files of tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Hypothesis takes a process that was put aside for one that is slow.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

MARKS = {
    "bench": "stress",
    "brokers": "slow",
    "clients": "slow",
    "deploy": "slow",
    "fuzz": "slow",
    "stress": "stress",
}
"""The mark of each test in a folder below this one."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without looking for garbage, as they stay: it takes a third of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests: by their folder, as `browser` if they use Chromium, and as `slow` if they start a
    hub of their own.
    """
    for item in items:
        if mark := MARKS.get(item.path.relative_to(ROOT / "tests").parts[0]):
            item.add_marker(mark)
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
        if "serve" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Tell gevent what time it is: a time limit begins at the time that its loop last noted."""
    gevent.get_hub().loop.update_now()


@contextmanager
def _servers(folders: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start hubs until the end of the block."""
    servers = []
    with ExitStack() as stack:

        def start(*arguments: str, **env: str) -> Server:
            log = folders.mktemp("server") / "log"
            server = stack.enter_context(serving(["-b", "127.0.0.1:0", *arguments], env, log))
            servers.append(server)
            return server

        yield start
        for server in servers:
            server.process.terminate()  # all stop at once, and are awaited one after another


@pytest.fixture(name="serve", scope="module")
def _serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start hubs of one's own: `serve(TIDINGS_HEARTBEAT="1")`; all end with the file's tests."""
    with _servers(tmp_path_factory) as serve:
        yield serve


@pytest.fixture(name="server", scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An open hub without the demo, shared by tests that each use topics of their own."""
    with _servers(tmp_path_factory) as serve:
        yield serve(TIDINGS_DEMO="0")


@pytest.fixture(name="topic")
def _topic(request: pytest.FixtureRequest) -> str:
    """A topic of this test's own."""
    return f"{request.node.name}-{time.monotonic_ns()}"


@pytest.fixture(name="hub")
def _hub() -> Iterator[Hub]:
    """A hub in this process, without a server."""
    hub = make_hub()
    hub.start()
    yield hub
    hub.stop()
