"""`tidings tail`: it survives lost connections; what it prints."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from support.cli import COMMAND, background, tidings, within_test
from support.event_stream import event_stream
from support.faulty_network import http_network
from support.plain_server import plain_server
from support.ports import free_port
from support.project import ROOT, environment
from support.server import serving
from support.tokens import KEY, authorization, token
from support.waiting import PATIENCE, until
from webapp.cli.client import HubClient
from webapp.cli.output import Progress
from webapp.cli.remote_hub import RemoteHub
from webapp.cli.tail import ReconnectingSubscriber
from webapp.core.sse import ServerSentEvent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.cli import Running
    from support.server import Server

pytestmark = pytest.mark.slow


def ready(server: Server, command: Running, topic: str) -> None:
    """Await that it is subscribed."""

    def printed() -> bool:
        server.publish("ready?", topic=topic)
        return "ready?" in command.out

    until(printed, "it is subscribed")


def fresh(command: Running) -> list[str]:
    return [line for line in command.lines if "ready?" not in line]


def test_it_begins_with_the_newest_event_of_each_topic(server: Server, topic: str) -> None:
    for data, name in (("old", "a"), ("1", "b"), ("2", "a")):
        server.publish(data, topic=f"{topic}/{name}")
    printed = tidings("tail", f"{topic}/{{x}}", "--latest", "-n", "2", TIDINGS_URL=server.url)
    assert printed.stdout == "1\n2\n"
    server.publish("3", topic=f"{topic}/c", id=f"{topic} own")
    printed = tidings("tail", f"{topic}/{{x}}", "--latest", "--json", "-n3", TIDINGS_URL=server.url)
    envelopes = [json.loads(line) for line in printed.stdout.splitlines()]
    assert [it["data"] for it in envelopes] == ["1", "2", "3"]
    assert envelopes[2]["id"] == f"{topic} own"
    lost = ["--from", "lost", "--last", "9"]
    printed = tidings("tail", f"{topic}/a", "--latest", "-n", "1", *lost, TIDINGS_URL=server.url)
    assert printed.stdout == "2\n"
    assert printed.stderr == (
        "the hub does not know the cursor: it begins with the newest events again\n"
    )


@pytest.mark.parametrize("count", [0, 1, 10_000])
def test_once_it_prints_what_there_is_and_stops(server: Server, topic: str, count: int) -> None:
    events = [{"topic": topic, "data": str(number)} for number in range(count)]
    if events:
        lines, headers = map(json.dumps, events), {"Content-Type": "application/x-ndjson"}
        body = "\n".join(lines)
        server.http.post("/events", content=body, headers=headers).raise_for_status()
    printed = tidings("tail", topic, "--once", TIDINGS_URL=server.url)
    assert printed.stdout == "".join(f"{number}\n" for number in range(count))
    assert (printed.returncode, "nothing yet" in printed.stderr) == (0, False)


def test_once_it_takes_every_start_and_form(server: Server, topic: str) -> None:
    ids = [server.publish(str(number), topic=topic) for number in range(3)]
    for options, expected in (
        (["--last", "1"], "2\n"),
        (["--last", "0"], ""),
        (["--latest"], "2\n"),
        (["--from", ids[0]], "1\n2\n"),
        (["--since", "1h", "-n", "2"], "0\n1\n"),
    ):
        printed = within_test("tail", topic, "--once", *options, TIDINGS_URL=server.url)
        assert (printed.stdout, printed.exit_code) == (expected, 0)
    printed = within_test("tail", topic, "--once", "--json", TIDINGS_URL=server.url)
    assert [json.loads(it)["id"] for it in printed.stdout.splitlines()] == ids


def test_once_it_stops_only_after_a_stream_that_is_complete() -> None:
    mark = "event: hub.mark\nid: 2\ndata: {}"
    with event_stream("id: 1\ndata: x", mark) as (url, cursors):
        assert within_test("tail", "--once", TIDINGS_URL=url).output == "x\n"
        assert cursors == ["earliest"]
    cut_short = ("retry: 0", mark, "id: 1\ndata: x", "event: hub.bye\ndata: {}")
    with event_stream(*cut_short) as (url, cursors):
        printed = within_test("tail", "--once", "--last", "9", "-n", "2", TIDINGS_URL=url)
        assert (printed.stdout, cursors) == ("x\nx\n", ["", "1"])


def test_it_stops_when_all_its_topics_have_ended(server: Server, topic: str) -> None:
    topics, url = [topic, f"{topic}/other"], ("--url", server.url)
    with background("tail", *topics, *url) as command:
        ready(server, command, topic)
        server.publish("one", topic=topics[1], end="1")
        server.publish("last", topic=topic, end="1")
        assert command.wait() == 0
        assert fresh(command) == ["one", "last"]
    again = within_test("tail", topic, *url)
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "All topics have ended.\n")
    again = within_test("tail", topic, "--last", "1", *url)
    assert (again.exit_code, again.stdout) == (0, "last\n")
    assert again.stderr.endswith("All topics have ended.\n")
    once = within_test("tail", topic, "--once", *url)
    assert (once.exit_code, once.stdout.splitlines()[-1]) == (0, "last")


def test_it_prints_data_as_events_are_published(server: Server, topic: str) -> None:
    with background("tail", topic, f"{topic}/{{n}}", TIDINGS_URL=server.url) as command:
        ready(server, command, topic)
        for data, name in (("one", topic), ("zwei ü\n2", f"{topic}/2"), ("", topic)):
            server.publish(data, topic=name, type="tick")
        until(lambda: fresh(command) == ["one", "zwei ü", "2", ""], "they come")
        assert command.end(signal.SIGINT) == 130
        assert command.err == ""


def test_it_prints_each_event_as_a_line_of_json(server: Server, topic: str) -> None:
    first = server.publish("a\nb", topic=topic, type="tick")
    other = server.publish('{"id": 1}', topic=[f"{topic}/2", "also"])
    options = ("tail", topic, f"{topic}/{{n}}", "--json", "--from", "earliest", "-n", "2")
    done = tidings(*options, "--url", server.url)
    assert done.returncode == 0
    one, two = (json.loads(line) for line in done.stdout.splitlines())
    assert one.items() >= {"id": first, "topic": topic, "type": "tick", "data": "a\nb"}.items()
    assert (two["id"], two["topics"]) == (other, [f"{topic}/2", "also"])
    assert (two["type"], two["data"], two["private"]) == (None, '{"id": 1}', False)


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        (["--last", "2"], ["1", "2"]),
        (["--from", "earliest"], ["0", "1", "2"]),
        (["--from", "{0}"], ["1", "2"]),
        (["--since", "1h"], ["0", "1", "2"]),
    ],
    ids=["last", "earliest", "from", "since"],
)
def test_it_starts_where_its_options_say(
    server: Server, topic: str, options: list[str], seen: list[str]
) -> None:
    ids = [server.publish(str(n), topic=topic) for n in range(3)]
    where = [option.format(*ids) for option in options]
    done = tidings("tail", topic, *where, "-n", str(len(seen)), TIDINGS_URL=server.url)
    assert done.stdout.split() == seen


def test_it_resumes_after_cuts_and_restarts(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "server" / "log"
    env = {"TIDINGS_RETRY": "0.05", "TIDINGS_DRAIN": "0.2", "TIDINGS_DEMO": "0"}
    arguments = ["-b", f"127.0.0.1:{port}"]
    with http_network(port) as road:
        options = ("tail", "--last", "2", "-n", "8", "--json")
        with serving(arguments, env, log) as server:
            for n in range(3):
                server.publish(str(n))
            command = background(*options, TIDINGS_URL=road.url)
            with command as running:
                until(lambda: len(running.lines) == 2, "it has begun")
                road.cut()
                for n in range(3, 6):
                    server.publish(str(n))
                until(lambda: len(running.lines) == 5, "it has come back")
                server.stop()
                until(lambda: "trying again" in running.err, "it waits")
                with serving(arguments, env, log) as again:
                    for n in range(6, 9):
                        again.publish(str(n))
                    assert running.wait() == 0
        assert [json.loads(line)["data"] for line in running.lines] == list("12345678")
        assert "connected again" in running.err


def test_it_reads_mercures_path(serve: Callable[..., Server], topic: str) -> None:
    """Control events are off there by default, and it asks for them."""
    hub = serve(TIDINGS_HEARTBEAT="1", TIDINGS_RETRY="0.1", TIDINGS_DEMO="0", TIDINGS_MAX_AGE="2")
    url = f"{hub.url}/.well-known/mercure"
    for data in "abc":
        hub.publish(data, topic=topic)
    with background("tail", topic, "--last", "2", "-n", "4", TIDINGS_URL=url) as command:
        until(lambda: command.lines == ["b", "c"], "it has begun")
        until(lambda: hub.ended("max_age"), "its stream ends")
        hub.publish("d", topic=topic)
        hub.publish("e", topic=topic)
        assert command.wait() == 0
    assert command.lines == ["b", "c", "d", "e"]
    with background("tail", topic, "--from", "unknown", TIDINGS_URL=url) as command:
        until(lambda: "the hub does not know the cursor" in command.err, "it is told")


def test_it_reconnects_after_a_silence(serve: Callable[..., Server], topic: str) -> None:
    server = serve(TIDINGS_HEARTBEAT="0.1", TIDINGS_RETRY="0.05", TIDINGS_DEMO="0")
    with http_network(server.port) as road:
        options = ("tail", topic, "--silence", "0.5s", "--last", "9")
        with background(*options, TIDINGS_URL=road.url) as command:
            server.publish("one", topic=topic)
            until(lambda: command.lines == ["one"], "it comes")
            road.hang()
            server.publish("two", topic=topic)
            until(lambda: "no byte for 0.5 s" in command.err, "it is noticed")
            road.resume()
            until(lambda: command.lines == ["one", "two"], "it comes once")


def opening(**fields: object) -> str:
    return f"retry: 100\nevent: hub.open\ndata: {json.dumps(fields)}"


@pytest.mark.parametrize(
    ("heartbeat", "silence_s"),
    [(15, 45), (60, 180), (1, 5), (1e9, 86400), (0, 45), (None, 45), ("x", 45)],
)
def test_it_waits_for_three_heartbeats_of_the_hub(
    monkeypatch: pytest.MonkeyPatch, heartbeat: object, silence_s: float
) -> None:
    allowed = list[float]()
    monkeypatch.setattr(HubClient, "allow_silence", lambda _, seconds: allowed.append(seconds))
    with event_stream(opening(heartbeat=heartbeat), "data: x") as (url, _):
        assert within_test("tail", "-n", "1", TIDINGS_URL=url).stdout == "x\n"
        assert within_test("tail", "-n", "1", "--silence", "9", TIDINGS_URL=url).stdout == "x\n"
    assert allowed == [silence_s]


def test_it_reconnects_when_the_heartbeats_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["webapp.cli.tail"], "_SHORTEST_SILENCE_S", 0.2)
    with plain_server() as (url, server):
        server.parts[:] = [f"{opening(heartbeat=0.01)}\n\n".encode()]
        hub = RemoteHub(urlsplit(f"{url}/stream"))
        events = ReconnectingSubscriber(hub, [], None, None).events()
        assert [next(events).type for _ in range(2)] == ["hub.open"] * 2
        assert server.asked == [("/stream?control=1", None)] * 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--last", "5"], "nothing yet; waiting for events\n"),
        (["--since", "1h"], "nothing yet; waiting for events\n"),
        (["--from", "earliest"], "nothing yet; waiting for events\n"),
        (["--last", "0"], ""),
        ([], ""),
    ],
)
def test_it_reports_that_there_is_nothing_yet(options: list[str], said: str) -> None:
    with event_stream(opening(replay=0), "data: x") as (url, _):
        done = within_test("tail", "-n", "2", *options, TIDINGS_URL=url)
    assert (done.stdout, done.stderr) == ("x\nx\n", said)


def test_events_that_cannot_be_counted_may_be_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("webapp.cli.output._QUIET_S", 0.01)
    progress = Progress(expects_events=True)
    progress.begin(None)
    until(lambda: "nothing yet" in capsys.readouterr().err, "it says so")
    progress.step(ServerSentEvent("new", id=f"{time.time() * 1000 + 1000:.0f}-0"))
    assert capsys.readouterr().err == ""


def test_it_ends_quietly_when_its_pipe_is_closed(server: Server, topic: str) -> None:
    for n in range(3):
        server.publish(str(n), topic=topic)
    command = f"{' '.join(COMMAND)} tail {topic!r} --from earliest | head -1"
    env = environment({"TIDINGS_URL": server.url})
    with subprocess.Popen(
        ["sh", "-c", command], cwd=ROOT, env=env, stdout=-1, stderr=-1, text=True
    ) as pipe:
        assert pipe.stdout is not None
        assert pipe.stdout.readline() == "0\n"
        until(lambda: server.publish("more", topic=topic) and pipe.poll() is not None, "it ends")
        assert pipe.stderr is not None
        # Only how far it is, which a long history may bring.
        assert re.fullmatch(r"(replay.*\n)*", pipe.stderr.read())


def test_it_reports_missing_events(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_HISTORY_EVENTS="5", TIDINGS_WINDOW_EVENTS="5", TIDINGS_DEMO="0")
    first = server.publish("first")
    server.http.post("/events", json=[{"data": n} for n in range(1500)])
    server.publish("last")

    def trimmed() -> bool:
        with server.listen(last_event_id=first) as stream:
            return stream.headers["Last-Event-ID"] != first

    until(trimmed, "the first is no longer kept")
    aged = tidings("tail", "--from", first, "-n", "1", TIDINGS_URL=server.url)
    assert "some are missing" in aged.stderr
    with background("tail", "--from", "nonsense", TIDINGS_URL=server.url) as command:
        until(lambda: "does not know the cursor" in command.err, "it says so")


def test_it_reports_missed_presence_and_ignores_unknown_control_events() -> None:
    events = ['event: hub.reset\ndata: {"reason": "presence"}', f"retry: {'9' * 400}"]
    events += ["event: hub.odd\ndata: []", f"event: hub.odd\ndata: {'[' * 100_000}"]
    events += ['event: hub.bye\ndata: {"reason": "drain"}', "data: ok"]
    with event_stream(*events) as (url, _):
        done = tidings("tail", "-n", "1", TIDINGS_URL=url)
    assert done.stdout == "ok\n"
    assert done.stderr == "presence events were missed: fetch the list of subscribers again\n"


@pytest.mark.parametrize(
    ("count", "said"), [(400, "400 events"), (800, "events, too many to be counted at once")]
)
def test_it_reports_a_long_replay(server: Server, topic: str, count: int, said: str) -> None:
    position = server.publish("before", topic=topic)
    server.http.post("/events", json=[{"topic": topic, "data": n} for n in range(count)])
    options = ("tail", topic, "--from", position, "-n", str(count + 1))
    with background(*options, TIDINGS_URL=server.url) as command:
        until(lambda: len(command.lines) == count, "it has replayed")
        server.publish("live", topic=topic)
        assert command.wait() == 0
    assert re.fullmatch(
        rf"replaying {said}\nreplayed {count // 100}0\d events in .* s\n", command.err
    )
    assert command.lines == [*map(str, range(count)), "live"]


def test_it_reports_why_the_hub_ends_a_stream() -> None:
    events = ['event: hub.bye\ndata: {"reason": "too_slow"}']
    events += ['event: hub.bye\ndata: {"reason": ["odd"]}', "data: ok"]
    with event_stream(*events) as (url, _):
        done = tidings("tail", "-n", "1", TIDINGS_URL=url)
    assert done.stderr == (
        "the hub ends the stream: too_slow; reconnecting\n"
        "the hub ends the stream: ['odd']; reconnecting\n"
    )


def on_a_terminal(*arguments: str, **env: str) -> str:
    """Return what it shows."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *arguments], cwd=ROOT, env=environment(env), stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # Linux: a terminal that nobody has open any more
            while piece := os.read(ours, 1 << 16):
                shown += piece
        os.close(ours)
        process.wait(PATIENCE)
    return shown.decode()


def test_on_a_terminal_it_prints_colors_and_escapes_control_characters(
    server: Server, topic: str
) -> None:
    server.publish("a\x1b[2J\tb\nc", topic=topic, type="alarm")
    options = ("tail", topic, "--last", "1", "-n", "1", "--url", server.url)
    shown = on_a_terminal(*options, TERM="xterm", NO_COLOR="")
    assert re.match(r"\x1b\[2m\d\d:\d\d:\d\d\x1b\[0m ", shown)
    assert "\x1b[33malarm\x1b[0m a\\x1b[2J\tb\r\n  c" in shown
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plain = on_a_terminal(*options, **{"TERM": "xterm", "NO_COLOR": "", **env})
        assert "\x1b" not in plain
        assert "alarm a\\x1b[2J" in plain
    server.publish("\x9b2J ü", topic=topic)
    [line] = on_a_terminal(*options, "--json").splitlines()
    assert line.isascii()
    assert json.loads(line)["data"] == "\x9b2J ü"


def test_it_stops_when_the_hub_refuses(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_ANONYMOUS="0")
    none = tidings("tail", TIDINGS_URL=server.url)
    assert none.returncode == 1
    assert "--token" in none.stderr
    assert "--help" in tidings("tail", "--last", "x", TIDINGS_URL=server.url).stderr
    bad = tidings("tail", "--since", "x", TIDINGS_URL=server.url, TIDINGS_TOKEN=token())
    assert "ISO 8601" in bad.stderr
    page = tidings("tail", TIDINGS_URL=f"{server.url}/elsewhere")
    assert "There is nothing at this path." in page.stderr
    with background("tail", TIDINGS_URL=server.url, TIDINGS_TOKEN=token()) as command:
        publisher = authorization(token(publish=["*"]))

        def printed() -> bool:
            server.http.post("/events", data={"data": "x"}, headers=publisher)
            return command.lines != []

        until(printed, "a token lets it subscribe")


def test_a_cursor_may_have_any_characters() -> None:
    with event_stream("id: naïve→é\ndata: x") as (url, cursors):
        assert tidings("tail", "--from", "é", "-n", "2", TIDINGS_URL=url).returncode == 0
        assert cursors == ["é", "naïve→é"]


def test_a_hub_cannot_make_it_reconnect_without_a_pause() -> None:
    with event_stream("retry: 0", "data: x") as (url, cursors):
        began = time.monotonic()
        done = tidings("tail", "-n", "5", TIDINGS_URL=url)
        assert done.stdout == "x\n" * 5
        assert len(cursors) == 5
        assert time.monotonic() - began > 0.4


def test_an_event_that_is_too_large_ends_it_with_the_reason() -> None:
    with event_stream("data: x", f"data: {'x' * (17 << 20)}") as (url, _):
        done = tidings("tail", TIDINGS_URL=url)
    assert (done.returncode, done.stdout) == (1, "x\n")
    assert "an event of more than 16,777,216 bytes, which tidings tail does not read" in done.stderr


def test_a_long_silence_is_allowed() -> None:
    for silence in ("999999999d", "never", "0"):
        with event_stream("data: x") as (url, _):
            done = tidings("tail", "-n", "1", "--silence", silence, TIDINGS_URL=url)
            assert (done.returncode, done.stdout) == (0, "x\n")


def test_characters_that_the_output_cannot_encode_are_escaped() -> None:
    with event_stream("data: ü→") as (url, _):
        done = tidings("tail", "-n", "1", TIDINGS_URL=url, PYTHONIOENCODING="ascii")
        assert done.stdout == "\\xfc\\u2192\n"
