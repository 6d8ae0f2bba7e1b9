"""/readyz and /metrics answer while the event log is away or the hub is full."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from support.faulty_network import FaultyNetwork
from support.metrics import PATHS, parse, read, scrape, total
from support.redis_server import running_redis
from support.tokens import KEY
from support.waiting import one_of_three, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.server import Server

pytestmark = pytest.mark.slow


def readiness(server: Server, status: int) -> str:
    answer = server.http.get("/readyz")
    assert answer.status_code == status
    assert status == 200 or answer.headers["Content-Type"] == "application/problem+json"
    return answer.text


def test_a_log_that_is_away_or_hangs_holds_nothing_up(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    with running_redis("redis-server", tmp_path) as log:
        network = FaultyNetwork(log.port)
        server = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_BROKER_URL=network.url)
        assert total(server, "log_up") == 1
        network.hang()

        def looks() -> float:
            began = time.monotonic()
            assert "did not answer within" in readiness(server, 503)
            assert scrape(server)["tidings_log_up", ""] == 0
            return time.monotonic() - began

        assert one_of_three(looks, lambda seconds: seconds < 3) < 3
        network.resume()
        until(lambda: total(server, "log_up") == 1, "it is back")
        assert readiness(server, 200) == "ready\n"
        log.stop()
        network.close()
        until(lambda: total(server, "log_up") == 0, "it is away")
        assert "cannot be reached" in readiness(server, 503)
        assert ("tidings_log_head_timestamp_seconds", "") not in scrape(server)
        assert read(server)["log"] == {
            "name": network.url,
            "up": False,
            "floor": None,
            "head": None,
            "events": None,
            "bytes": None,
            "refused": [],
        }


def test_a_full_house_is_still_asked_how_it_is(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_MAX_SUBSCRIBERS="50", TIDINGS_DEMO="0")
    with ExitStack() as stack:
        for _ in range(50):
            assert stack.enter_context(server.listen()).next().type == "hub.open"
        assert server.http.get("/events").status_code == 503
        for path in ("/healthz", "/readyz", *PATHS):
            assert server.http.get(path).status_code == 200
        numbers = parse(server.http.get("/metrics").text)
    assert numbers["tidings_readers", "0"] == 50
    assert numbers["tidings_refused_total", "full"] == 1
