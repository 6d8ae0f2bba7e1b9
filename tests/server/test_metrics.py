"""What operators see: /metrics and /console/state over all workers, and the lines in the log."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.doc_pages import PAGES
from support.faulty_network import Network
from support.project import ROOT, environment
from support.redis_server import running_log
from support.tokens import KEY
from support.waiting import PATIENCE, one_of_three, until
from webapp.server import metrics_dir

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server

pytestmark = pytest.mark.slow

Numbers = dict[tuple[str, str], float]
PATHS = ["/metrics", "/console/state"]


def token_id(subscribe: list[str], **claims: Any) -> dict[str, str]:
    mercure = {"publish": ["*"], "subscribe": subscribe}
    return {"Authorization": f"Bearer {jwt.encode({'mercure': mercure, **claims}, KEY)}"}


OPERATOR = token_id(["*"])


def parsed(text: str) -> Numbers:
    """Samples by name and by their label's value."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(server: Server) -> Numbers:
    answer = server.http.get("/metrics", headers=OPERATOR)
    assert answer.status_code == 200, answer.text
    return parsed(answer.text)


def read(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.http.get("/console/state", headers=OPERATOR).json()
    return found


def total(server: Server, name: str) -> float:
    return sum(value for (found, _), value in scrape(server).items() if found == f"tidings_{name}")


@pytest.fixture(name="hub", scope="module")
def _hub(serve: Callable[..., Server]) -> Server:
    """Two workers behind a key, both of which have begun."""
    server = serve("-w", "2", TIDINGS_JWT_KEY=KEY)
    until(lambda: len(read(server)["workers"]) == 2, "both have begun")
    return server


def post(server: Server, count: int = 1, **fields: Any) -> None:
    drafts = [{"data": str(number), **fields} for number in range(count)]
    answer = server.http.post("/events", json=drafts, headers=OPERATOR)
    assert answer.status_code == 200, answer.text


# Who may


@pytest.mark.parametrize("path", PATHS)
def test_with_a_key_a_token_must_cover_the_path(hub: Server, path: str) -> None:
    for granted in (["*"], [path]):
        answer = hub.http.get(path, headers=token_id(granted))
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    for headers, status in (
        ({}, 401),
        ({"Authorization": "Bearer x"}, 401),
        (token_id([]), 403),
        (token_id(["/{one}", "/{one}/{two}"]), 403),  # the hub's own paths are named, or *
        (token_id(["/metric", "events"]), 403),
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
assert state["workers"] == [{"pid": os.getpid(), "readers": 0}], state
from webapp import create_app
from webapp.config.settings import Settings
settings = Settings(broker_url="memory://", publisher_jwt_key=(sys.argv[1],))
client = create_app(settings).test_client()
assert client.get("/metrics").status_code == 401
assert client.get("/metrics", headers={"Authorization": sys.argv[2]}).status_code == 200
"""


def test_under_any_server_they_are_open_without_a_key_and_publishers_keys_are_good() -> None:
    command = [sys.executable, "-c", ELSEWHERE, KEY, OPERATOR["Authorization"]]
    env = environment({"TIDINGS_BROKER_URL": "memory://"})
    found = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=False)
    assert found.returncode == 0, found.stderr.decode()


# What they say


def test_all_workers_are_counted_together(hub: Server, topic: str) -> None:
    before, state = scrape(hub), read(hub)
    with ExitStack() as stack:
        streams = [stack.enter_context(hub.listen(topic=topic)) for _ in range(10)]
        for stream in streams:
            assert stream.next().type == "hub.open"
        until(lambda: read(hub)["readers"] == 10, "all readers are counted")
        post(hub, 3, topic=topic)
        for stream in streams:
            assert stream.take(3) == ["0", "1", "2"]
        handed = before.get(("tidings_fanout_seconds_count", ""), 0) + 2
        until(lambda: total(hub, "fanout_seconds_count") == handed, "both workers have them")
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
    assert (log["name"], log["up"]) == ("sqlite:///instance/tidings.db", True)
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
    with hub.listen(topic=topic, headers=token_id(["*"], sub="somebody")) as stream:
        assert stream.next().type == "hub.open"
        text = hub.http.get("/metrics", headers=OPERATOR).text
    families = list(text_string_to_metric_families(text))
    labels = {name for it in families for sample in it.samples for name in sample.labels}
    assert labels <= {"reason", "task", "worker", "le", "version", "python"}
    assert not any(word in text for word in (topic, "127.0.0.1", "somebody"))
    assert all(it.name.startswith("tidings_") and it.documentation for it in families)
    assert len({it.name for it in families}) == len(families)


# Workers that come and go


def kept(pid: int) -> Path:
    """The directory where a worker's numbers are."""
    pattern, maps = re.compile(r" (\S*tidings-metrics-\w+)/"), Path(f"/proc/{pid}/maps")
    return Path(until(lambda: pattern.search(maps.read_text()), "it has numbers")[1])


def test_a_killed_worker_leaves_its_counts_and_takes_its_readers(
    serve: Callable[..., Server], topic: str
) -> None:
    server = serve("-w", "2", TIDINGS_JWT_KEY=KEY, TIDINGS_HEARTBEAT="0.1")
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(server.listen(topic=topic)).next()
        until(lambda: total(server, "readers") == 6, "all are counted")
        workers = until(lambda: (w := read(server)["workers"])[1:] and w, "both workers tell")
        directory = kept(workers[0]["pid"])
        files = {path.name for path in directory.iterdir()}
        for worker in workers:
            os.kill(worker["pid"], signal.SIGKILL)
            until(partial(is_gone, server, worker["pid"]), "its readers are gone")
    until(lambda: len(state(server)) == 2, "two others are there")
    assert not {w["pid"] for w in state(server)} & {w["pid"] for w in workers}
    assert total(server, "streams_opened_total") == 6
    until(lambda: total(server, "readers") == 0, "nobody reads")
    assert {path.name for path in directory.iterdir()} == files
    server.process.send_signal(signal.SIGHUP)
    until(lambda: len(re.findall("Worker exiting", server.log)) >= 2, "they are replaced")
    until(lambda: len(state(server)) == 2, "two others are there")
    assert total(server, "streams_opened_total") == 6
    assert server.stop() == 0
    assert not directory.exists()


def is_gone(server: Server, pid: int) -> bool:
    return pid not in {worker["pid"] for worker in state(server)}


def state(server: Server) -> list[Any]:
    """The workers, from whichever is there to say."""
    while True:
        try:
            found: list[Any] = read(server)["workers"]
        except httpx.TransportError:
            time.sleep(0.01)
        else:
            return found


def test_what_a_killed_server_left_is_removed_by_the_next_and_nothing_else(
    serve: Callable[..., Server],
) -> None:
    others = serve(TIDINGS_DEMO="0"), serve(TIDINGS_DEMO="0")
    dead, alive = (kept(other.worker) for other in others)
    os.killpg(others[0].process.pid, signal.SIGKILL)
    others[0].process.wait(PATIENCE)
    until(lambda: not held(dead), "its worker is gone, too")
    last = serve(TIDINGS_DEMO="0")
    assert not dead.exists()
    assert alive.exists()
    assert kept(last.worker) not in {dead, alive}
    assert parsed(others[1].http.get("/metrics").text)["tidings_streams_opened_total", ""] == 0


def held(directory: Path) -> bool:
    try:
        os.close(metrics_dir._lock(directory))
    except BlockingIOError:
        return True
    return False


def test_two_that_begin_at_once_do_not_take_each_others_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(metrics_dir.DIRECTORY, "")
    monkeypatch.setattr(metrics_dir, "_MEMORY", tmp_path)
    made, make = list[str](), tempfile.mkdtemp

    def begin_another_first(**how: Any) -> str:
        mine: str = make(**how)
        made.append(mine)
        if len(made) == 1:
            metrics_dir.create()
        return mine

    monkeypatch.setattr(tempfile, "mkdtemp", begin_another_first)
    metrics_dir.create()
    assert [Path(it).is_dir() for it in made] == [False, True, True]
    assert os.environ[metrics_dir.DIRECTORY] == made[2]


def test_numbers_that_somebody_removed_hold_nothing_else_up(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_DEMO="0")
    assert answers(server)  # it has begun
    worker = server.worker
    shutil.rmtree(kept(worker))
    answer = server.http.get("/metrics", headers={"Connection": "close"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    server.publish("x")
    os.kill(worker, signal.SIGKILL)
    until(lambda: server.worker != worker and answers(server), "another has taken its place")
    assert len(read(server)["workers"]) == 1
    serve(TIDINGS_DEMO="0")  # tidies up at its start
    assert answers(server)


def test_a_worker_that_has_only_just_a_file_holds_nothing_up(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_DEMO="0")
    assert answers(server)
    for name in ("gauge_liveall_1.db", "counter_1.db"):
        (kept(server.worker) / name).touch()  # it has its size a moment later
    assert answers(server)


def answers(server: Server) -> bool:
    with suppress(httpx.TransportError):
        return server.http.get("/metrics").status_code == 200
    return False


# When things are bad


def readiness(server: Server, status: int) -> str:
    answer = server.http.get("/readyz")
    assert answer.status_code == status
    assert status == 200 or answer.headers["Content-Type"] == "application/problem+json"
    return answer.text


def test_a_log_that_is_away_or_hangs_holds_nothing_up(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    with running_log("redis-server", tmp_path) as log:
        network = Network(log.port)
        server = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_BROKER_URL=network.url)
        assert total(server, "log_up") == 1
        network.hang()

        def looks() -> float:
            began = time.monotonic()
            assert "did not answer within" in readiness(server, 503)
            assert scrape(server)["tidings_log_up", ""] == 0
            return time.monotonic() - began

        assert one_of_three(looks, lambda seconds: seconds < 3) < 3
        network.mend()
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
        }


def test_a_full_house_is_still_asked_how_it_is(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_MAX_SUBSCRIBERS="50", TIDINGS_DEMO="0")
    with ExitStack() as stack:
        for _ in range(50):
            assert stack.enter_context(server.listen()).next().type == "hub.open"
        assert server.http.get("/events").status_code == 503
        for path in ("/healthz", "/readyz", *PATHS):
            assert server.http.get(path).status_code == 200
        numbers = parsed(server.http.get("/metrics").text)
    assert numbers["tidings_readers", "0"] == 50
    assert numbers["tidings_refused_total", "full"] == 1


# The log


def lines(server: Server, what: str, topic: str) -> list[str]:
    return re.findall(rf"\[INFO\] (stream {what}: .*topics={re.escape(topic)}.*)\n", server.log)


def test_a_stream_has_a_line_when_it_opens_and_one_when_it_ends(hub: Server, topic: str) -> None:
    headers = token_id(["*"], sub="Ann Other\n[2026] x=1")
    with hub.listen(topic=topic, headers=headers) as stream:
        position = stream.next().id
        post(hub, 2, topic=topic)
        stream.take(2)
    [opened] = until(lambda: lines(hub, "opened", topic), "the opening is told")
    [ended] = until(lambda: lines(hub, "ended", topic), "the end is told")
    who = "client=127.0.0.1 sub=Ann%20Other%0A[2026]%20x%3D1"
    assert opened == f"stream opened: {who} topics={topic} from={position}"
    assert re.fullmatch(
        rf"stream ended: reason=client_left seconds=\d+\.\d events=2 {re.escape(who)}"
        rf" topics={re.escape(topic)}",
        ended,
    )
    assert headers["Authorization"].split(".")[1] not in hub.log


def test_names_that_clients_make_up_are_bounded_and_cannot_forge_a_line(
    hub: Server,
) -> None:
    topic = f"t-{time.monotonic_ns()}"
    names = [topic, f'{topic}-a b,"c" reason=drain', *(f"{topic}-{'x' * 500}{n}" for n in range(8))]
    with hub.listen(topic=names) as stream:
        assert json.loads(stream.next().data)["topics"] == sorted(names)
    [ended] = until(lambda: lines(hub, "ended", topic), "the end is told")
    assert f",{topic}-a%20b%2C%22c%22%20reason%3Ddrain," in ended
    assert ended.endswith(" more_topics=5")
    assert ended.count("reason=") == 1
    assert len(ended) < 900


# What is made of them


DASHBOARD = json.loads((ROOT / "webapp/static/grafana.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
NAME = re.compile(r"\btidings_\w+")


def test_the_dashboard_shows_every_metric_and_no_other(hub: Server) -> None:
    text = hub.http.get("/metrics", headers=OPERATOR).text
    families = list(text_string_to_metric_families(text))
    samples = {sample.name for it in families for sample in it.samples}
    queries = [variable["query"] for variable in DASHBOARD["templating"]["list"][1:]]
    expressions = [target["expr"] for panel in PANELS for target in panel["targets"]]
    shown = set(NAME.findall(" ".join([*expressions, *(query["query"] for query in queries)])))
    assert shown <= samples
    missing = {it.name for it in families if not any(name.startswith(it.name) for name in shown)}
    assert missing == {"tidings_worker_pid"}
    assert all(text.count("(") == text.count(")") for text in expressions)


def test_the_dashboard_can_be_imported_anywhere() -> None:
    source = {"type": "prometheus", "uid": "${datasource}"}
    first, *variables = DASHBOARD["templating"]["list"]
    assert (first["type"], first["name"], first["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    for item in [*variables, *PANELS, *(target for panel in PANELS for target in panel["targets"])]:
        assert item["datasource"] == source
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    fields = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(fields)) == len(fields), "panels overlap"
    assert max(x for x, _ in fields) < 24
    assert all(panel["title"] and panel["description"] for panel in PANELS)
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS)


def test_the_docs_list_every_metric_and_no_other(hub: Server) -> None:
    text = hub.http.get("/metrics", headers=OPERATOR).text
    families = list(text_string_to_metric_families(text))
    names = {it.name + ("_total" if it.type == "counter" else "") for it in families}
    page = PAGES["docs/operate/metrics.md"]
    rows = re.findall(r"^\| (`tidings_.*?) \|", page, re.MULTILINE)
    assert set(NAME.findall(" ".join(rows))) == names
    samples = {sample.name for it in families for sample in it.samples}
    assert set(NAME.findall(page)) <= names | samples
