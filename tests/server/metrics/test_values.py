"""What operators see in /metrics and /console/state, over all workers."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.metrics import OPERATOR, PATHS, Numbers, bearer, post, read, scrape, total
from support.project import ROOT, environment
from support.tokens import KEY
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from support.server import Server

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("path", PATHS)
def test_with_a_key_a_token_must_cover_the_path(hub: Server, path: str) -> None:
    for granted in (["*"], [path]):
        answer = hub.http.get(path, headers=bearer(granted))
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    for headers, status in (
        ({}, 401),
        ({"Authorization": "Bearer x"}, 401),
        (bearer([]), 403),
        (bearer(["/{one}", "/{one}/{two}"]), 403),  # the hub's own paths are named, or *
        (bearer(["/metric", "events"]), 403),
    ):
        answer = hub.http.get(path, headers=headers)
        assert (answer.status_code, answer.json()["status"]) == (status, status)
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert path in answer.json()["remedy"]
    assert hub.http.head(path).status_code == 401


ELSEWHERE = """
import os, sys, wsgi
client = wsgi.app.test_client()
for _ in range(2):
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain; version=0.0.4"), answer
    assert "tidings_log_up 1.0" in answer.text, answer.text
assert client.post("/events", data={"data": "x"}).status_code == 200
state = client.get("/console/state").get_json()
assert state["published"] == 1, state
[worker] = state["workers"]
assert (worker["pid"], worker["readers"]) == (os.getpid(), 0), state
from webapp import create_app
from webapp.config.settings import Settings
settings = Settings(broker_url="memory://", publisher_jwt_key=(sys.argv[1],))
client = create_app(settings).test_client()
assert client.get("/metrics").status_code == 401
assert client.get("/metrics", headers={"Authorization": sys.argv[2]}).status_code == 200
"""


def test_metrics_under_any_server_accept_publishers_keys() -> None:
    command = [sys.executable, "-c", ELSEWHERE, KEY, OPERATOR["Authorization"]]
    env = environment({"TIDINGS_BROKER_URL": "memory://"})
    found = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=False)
    assert found.returncode == 0, found.stderr.decode()


def test_all_workers_are_counted_together(hub: Server, topic: str) -> None:
    before, state = scrape(hub), read(hub)
    with ExitStack() as stack:
        streams = [stack.enter_context(hub.listen(topic=topic)) for _ in range(10)]
        for stream in streams:
            assert stream.next().type == "hub.open"
        until(lambda: read(hub)["readers"] == 10, "all subscribers are counted")
        post(hub, 3, topic=topic)
        for stream in streams:
            assert stream.take(3) == ["0", "1", "2"]
        passes = before.get(("tidings_fanout_seconds_count", ""), 0) + 2
        until(lambda: total(hub, "fanout_seconds_count") == passes, "both workers have them")
        with hub.listen(topic=topic, last=2) as late:
            assert late.take(2) == ["1", "2"]
            until(lambda: total(hub, "readers") == 11, "the one that replays is counted")
            now = read(hub)
            assert sum(worker["readers"] for worker in now["workers"]) == 11
            assert len({worker["pid"] for worker in now["workers"]}) == 2
    expected = {
        ("tidings_streams_opened_total", ""): 11,
        ("tidings_streams_ended_total", "client_left"): 11,
        ("tidings_published_events_total", ""): 3,
        ("tidings_delivered_events_total", ""): 32,
        ("tidings_publish_seconds_count", ""): 1,
        ("tidings_fanout_seconds_count", ""): 2,  # in each worker
        ("tidings_replay_events_bucket", "0.0"): 10,
        ("tidings_replay_events_bucket", "10.0"): 11,
    }

    def grown() -> Numbers:
        found = scrape(hub)
        return {key: found.get(key, 0) - before.get(key, 0) for key in expected}

    until(lambda: all(grown()[key] >= expected[key] for key in expected), "both workers tell")
    assert grown() == expected
    after, then = scrape(hub), read(hub)
    sent = after["tidings_delivered_bytes_total", ""] - state["delivered_bytes"]
    assert sent > 32 * len("data: 0\n\n")
    assert 0 < after["tidings_fanout_seconds_sum", ""] < PATIENCE
    assert (then["published"], then["opened"]) == (state["published"] + 3, state["opened"] + 11)
    assert then["delivered"] == state["delivered"] + 32
    until(lambda: total(hub, "readers") == 0, "all have left")
    assert after["tidings_streams_ended_total", "error"] == 0  # it is there before there is one
    assert "error" not in then["ended"]
    assert 0 < after["tidings_window_fill_ratio", ""] < 1
    assert after["tidings_process_cpu_seconds_total", ""] > 0
    assert after["tidings_process_resident_bytes", "1"] > 1 << 20
    assert sum(value for (name, _), value in after.items() if name == "tidings_build_info") == 1


def test_they_say_where_the_log_is(hub: Server, topic: str) -> None:
    post(hub, topic=topic)
    log, numbers = read(hub)["log"], scrape(hub)
    assert log["name"].startswith("sqlite:////")
    assert log["name"].endswith("/instance/tidings.db")
    assert log["up"]
    assert numbers["tidings_log_up", ""] == 1
    head = numbers["tidings_log_head_timestamp_seconds", ""]
    assert head == int(log["head"].split("-")[0]) / 1000
    assert abs(head - time.time()) < PATIENCE
    assert numbers["tidings_log_floor_timestamp_seconds", ""] <= head
    assert read(hub)["history"] == {"events": 1_000_000, "age": 604_800.0, "bytes": 1 << 30}


def test_what_is_refused_is_counted_by_its_reason(hub: Server) -> None:
    # Of reasons that no other test here gives: another worker tells of those a little later.
    assert hub.http.get("/events", params={"topic": ["x"] * 101}).status_code == 400
    headers = {**OPERATOR, "Content-Encoding": "gzip"}
    assert hub.http.post("/events", content="x", headers=headers).status_code == 415
    expected = {"topics": 1, "unreadable": 1}
    until(lambda: expected.items() <= read(hub)["refused"].items(), "both are counted")


def test_no_label_holds_what_a_client_sent(hub: Server, topic: str) -> None:
    with hub.listen(topic=topic, headers=bearer(["*"], sub="somebody")) as stream:
        assert stream.next().type == "hub.open"
        text = hub.http.get("/metrics", headers=OPERATOR).text
    families = list(text_string_to_metric_families(text))
    labels = {name for it in families for sample in it.samples for name in sample.labels}
    assert labels <= {"reason", "task", "worker", "le", "version", "python"}
    assert not any(word in text for word in (topic, "127.0.0.1", "somebody"))
    assert all(it.name.startswith("tidings_") and it.documentation for it in families)
    assert len({it.name for it in families}) == len(families)
