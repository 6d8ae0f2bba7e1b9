"""The numbers of the hub for the console, over all workers."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from support.metrics import OPERATOR, kept, post, read
from support.tokens import KEY
from support.waiting import until
from webapp.core.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server

pytestmark = pytest.mark.slow


def points(server: Server, since: float = 0) -> dict[str, Any]:
    """The newer points, from whichever worker is there to answer."""
    params = {"since": since}
    while True:
        with suppress(httpx.TransportError):
            answer = server.http.get("/console/state", params=params, headers=OPERATOR)
            found: dict[str, Any] = answer.json()["series"]
            return found
        time.sleep(0.01)


def test_it_says_what_the_hub_is(hub: Server) -> None:
    state = read(hub)
    assert (state["version"], state["key"], state["open"]) == (__version__, ["secret"], False)
    assert state["started"] <= state["now"]
    assert state["limits"]["subscribers"] > 0
    assert state["skipped"] == {}


def test_it_says_how_each_worker_does(hub: Server) -> None:
    workers = until(
        lambda: (w := read(hub)["workers"]) and all(it["memory"] for it in w) and w, "both said it"
    )
    assert len(workers) == 2
    for worker in workers:
        assert worker["version"] == __version__
        assert worker["memory"] > 10 << 20
        assert worker["cpu"] >= 0
        assert worker["started"] <= time.time()


def test_it_says_how_much_the_log_keeps(hub: Server, topic: str) -> None:
    before = read(hub)["log"]
    post(hub, 3, topic=topic)
    after = read(hub)["log"]
    assert after["events"] - before["events"] == 3
    assert after["bytes"] > before["bytes"]


def test_the_series_outlives_the_workers_and_damage(
    serve: Callable[..., Server], topic: str
) -> None:
    server = serve("-w", "2", TIDINGS_JWT_KEY=KEY)
    first = until(lambda: points(server)["from"], "a sample is taken")
    folder = kept(server.worker)
    started = read(server)["started"]
    with server.listen(topic=topic, headers=OPERATOR) as stream:
        assert stream.next().type == "hub.open"
        post(server, 5, topic=topic)
        until(lambda: 1 in points(server)["subscribers"], "it is counted")
    for worker in read(server)["workers"]:
        os.kill(worker["pid"], signal.SIGKILL)
    server.process.send_signal(signal.SIGHUP)
    last = points(server)["to"]
    until(lambda: points(server, last)["from"], "a worker of the next generation goes on")
    found = points(server)
    assert found["from"] == first
    assert any(found["published"])
    assert any(found["delivered"])
    until(lambda: points(server)["log_events"][-1] == 5, "the log has them")
    assert read(server)["started"] == started

    def damaged() -> bool:
        (folder / "samples").write_bytes(b"x" * 100_000)
        return (
            points(server)["from"] is None
        )  # a worker that has just written a sample has mended it

    until(damaged, "what is damaged is not shown")
    assert until(lambda: points(server)["from"], "the next sample is taken")


@pytest.mark.parametrize("since", ["x", "-1", "1e9", "nan", "", "1" * 13])
def test_what_is_no_time_is_refused(hub: Server, since: str) -> None:
    answer = hub.http.get("/console/state", params={"since": since}, headers=OPERATOR)
    assert (answer.status_code, "since" in answer.json()["detail"]) == (400, True)
