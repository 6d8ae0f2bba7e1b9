"""The settings in force, and why requests were refused."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from support.metrics import OPERATOR, bearer
from support.tokens import KEY
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server

pytestmark = pytest.mark.slow

HUB = "/console/hub"


def shown(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.http.get(HUB, headers=OPERATOR).json()
    return found


def counts(server: Server) -> dict[str, int]:
    return {it["reason"]: it["count"] for it in shown(server)["refusals"]}


def test_a_token_must_grant_it(hub: Server) -> None:
    for headers, status in (
        ({}, 401),
        (bearer(["/console/state"]), 403),
        (bearer(["/{a}/{b}"]), 403),
        (bearer([HUB]), 200),
        (bearer(["*"]), 200),
    ):
        answer = hub.http.get(HUB, headers=headers)
        assert answer.status_code == status
        assert answer.headers["Cache-Control"] == "no-store"


def test_it_shows_the_settings_without_the_key(hub: Server) -> None:
    answer = hub.http.get(HUB, headers=OPERATOR)
    settings = {it["name"]: it for it in answer.json()["settings"]}
    assert settings["TIDINGS_JWT_KEY"] == {
        "name": "TIDINGS_JWT_KEY",
        "value": "1 key",
        "default": False,
        "computed": False,
    }
    assert settings["TIDINGS_HEARTBEAT"]["value"] == "15s"
    assert KEY not in answer.text


def test_it_shows_why_a_client_was_refused(hub: Server) -> None:
    token = bearer(["/users/{id}"], sub="user-7")["Authorization"].split()[1]
    before = counts(hub).get("forbidden", 0)
    assert hub.http.get("/topics", params={"authorization": token}).status_code == 403

    def look() -> Any:  # the other worker may have refused it
        found = [it for it in shown(hub)["recent"] if it["subject"] == "user-7"]
        return found and found[0]

    found = until(look, "it is shown")
    assert counts(hub)["forbidden"] > before
    assert abs(found.pop("time") - time.time()) < 120
    assert "token" in found.pop("detail")
    assert "/topics" in found.pop("remedy")
    assert found == {
        "reason": "forbidden",
        "status": 403,
        "method": "GET",
        "path": "/topics",
        "address": "127.0.0.1",
        "subject": "user-7",
        "asked": ["/topics"],
        "granted": ["/users/{id}"],
    }
    assert token not in str(found)


def test_requests_of_the_console_are_counted_apart(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_JWT_KEY=KEY)
    assert server.http.get(HUB).status_code == 401
    assert server.http.get("/console/topics", headers=bearer([])).status_code == 403
    assert counts(server) == {"console": 2}
    assert shown(server)["recent"] == []
    # What clients may ask for is shown, whatever they add to it.
    for query in ("last=x", "console=1"):
        assert server.http.get(f"/events?{query}").status_code in {400, 401}
    assert server.http.get("/console/topics?limit=x", headers=OPERATOR).status_code == 400
    assert counts(server) == {"console": 2, "invalid": 2, "unauthorized": 1}
    found = [(it["status"], it["path"]) for it in shown(server)["recent"]]
    assert found == [(400, "/console/topics"), (401, "/events"), (400, "/events")]


def test_a_full_hub_is_among_the_reasons(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_MAX_SUBSCRIBERS="1", TIDINGS_DEMO="0", TIDINGS_OPEN="1")
    with server.listen() as stream:
        assert stream.next().type == "hub.open"
        assert server.http.get("/events").status_code == 503
    assert counts(server) == {"full": 1}
    [found] = shown(server)["recent"]
    assert (found["status"], found["path"]) == (503, "/events")
    assert found["address"] is None  # everybody may read it


def test_it_shows_the_warnings_of_the_master(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_JWT_KEY=KEY, WEB_CONCURRENCY="2")
    pid = server.http.get("/console/state", headers=OPERATOR).json()["workers"][0]["pid"]
    os.kill(pid, signal.SIGKILL)

    def look() -> Any:
        with suppress(httpx.TransportError):  # a connection to the worker that was killed
            found = server.http.get(HUB, headers=OPERATOR).json()["warnings"]
            return [it for it in found if f"(pid:{pid})" in it["text"]]
        return None

    [found] = until(look, "the master's line is shown")
    assert found["level"] == "ERROR"
    assert found["pid"] == server.process.pid
    assert abs(found["time"] - time.time()) < 120


def test_where_everybody_may_read_it_there_are_no_warnings(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_OPEN="1")
    assert server.http.get(HUB).json()["warnings"] is None
