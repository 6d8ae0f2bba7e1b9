"""`tidings publish`: one event, and pipes whose hub restarts."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from support.cli import background, tidings
from support.faulty_network import canned_server, http_network
from support.ports import free_port
from support.server import serving
from support.tokens import KEY, token
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.cli import Running
    from support.server import Server

pytestmark = pytest.mark.slow


@pytest.fixture(name="keyed", scope="module")
def _keyed(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY)


def test_it_publishes_what_its_options_say_and_prints_the_id(server: Server, topic: str) -> None:
    with server.listen(topic=topic) as stream:
        options = ("-t", f"{topic}-1", "--topic", topic, "--type", "tick", "--retry", "5000")
        plain = tidings("publish", *options, "Grüße\r\nzwei", TIDINGS_URL=server.url)
        assert re.fullmatch(r"\d+-\d+\n", plain.stdout)
        [message] = stream.messages(1)
        assert message == ("Grüße\nzwei", "tick", plain.stdout.strip(), 5000)
        own = f"own-{time.monotonic_ns()}"
        for _ in range(2):
            again = ("--url", server.url, "publish", "-t", topic, "--id", own, "--json", "x")
            assert json.loads(tidings(*again).stdout)["id"] == own
        tidings("publish", "-t", topic, "end", "--url", f"{server.url}/events")
        assert stream.take(2) == ["x", "end"]


def test_it_ends_a_topic(server: Server, topic: str) -> None:
    with server.listen(topic=topic) as stream:
        done = tidings("publish", "-t", topic, "--end", "last", TIDINGS_URL=server.url)
        assert done.returncode == 0
        assert [it.data for it in stream.rest()][1:] == ["last", '{"reason": "ended"}']
    late = tidings("publish", "-t", topic, "late", TIDINGS_URL=server.url)
    assert late.returncode == 1
    assert "409: The event names a topic that has ended." in late.stderr
    other = json.dumps({"topic": f"{topic}-2", "end": True})
    lines = f"{other}\n{other}\n" + json.dumps({"topic": f"{topic}-3"})
    piped = tidings("publish", "-f", "--ndjson", stdin=lines, TIDINGS_URL=server.url)
    assert "line 2 was not published" in piped.stderr
    assert "published 2 events, refused 1" in piped.stderr
    wrong = tidings("publish", "-f", "--end", TIDINGS_URL=server.url)
    assert wrong.returncode == 2
    assert "--end is for one event." in wrong.stderr


def test_it_publishes_stdin(server: Server, topic: str) -> None:
    with server.listen(topic=topic) as stream:
        for stdin in ("one\n", "two", "three\n\nlines\n\n", ""):
            done = tidings("publish", "-t", topic, stdin=stdin, TIDINGS_URL=server.url)
            assert done.returncode == 0
        assert stream.take(4) == ["one", "two", "three\n\nlines\n", ""]
        for options, data in (
            ([], b"\xef\xbb\xbfa mark"),
            (["--follow"], b"\xef\xbb\xbfline 1\nline 2\n"),
            (["--follow", "--ndjson"], b'\xef\xbb\xbf{"data": "json"}\n'),
        ):
            tidings("publish", "-t", topic, *options, stdin=data, TIDINGS_URL=server.url)
        assert stream.take(4) == ["a mark", "line 1", "line 2", "json"]
    wide = "x\n".encode("utf-16")
    done = tidings("publish", "--follow", stdin=wide, TIDINGS_URL=server.url)
    assert done.returncode == 1
    assert "The input is UTF-16." in done.stderr
    done = tidings("publish", "-t", topic, stdin=b"\xff", TIDINGS_URL=server.url)
    assert done.returncode == 1
    assert "iconv" in done.stderr


REFUSED = {
    "none": (None, (), "401: A token is needed"),
    "nonsense": ("nonsense", (), "401"),
    "other topic": (token(publish=["a"]), ("--topic", "b"), "403"),
    "blank": ("with a blank", (), "not allowed in a token"),
    "reserved id": (token(publish=["*"]), ("--id", "1-1"), "400: This id is reserved"),
    "reserved type": (token(publish=["*"]), ("--type", "hub.bye"), "Choose another type"),
    "none, pipe": (None, ("--follow",), "401: A token is needed"),
    "other topic, pipe": (token(publish=["a"]), ("--topic", "b", "--follow"), "403"),
    "blank, pipe": ("with a blank", ("--follow",), "not allowed in a token"),
    "reserved type, pipe": (token(publish=["*"]), ("--type", "hub.x", "-f"), "another type"),
}


@pytest.mark.parametrize(("with_", "arguments", "said"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_says_why_and_never_the_token(
    keyed: Server, with_: str | None, arguments: tuple[str, ...], said: str
) -> None:
    env = {"TIDINGS_URL": keyed.url} | ({"TIDINGS_TOKEN": with_} if with_ else {})
    done = tidings("publish", *arguments, stdin="x\n", **env)
    assert done.returncode in {1, 2}
    assert said in done.stderr
    assert with_ is None or with_ not in done.stderr


def test_a_private_event_reaches_only_subscribers_with_a_grant(keyed: Server, topic: str) -> None:
    both = {"TIDINGS_TOKEN": token(publish=["*"], subscribe=["*"]), "TIDINGS_URL": keyed.url}
    with (
        keyed.listen(topic=topic, authorization=both["TIDINGS_TOKEN"]) as mine,
        keyed.listen(topic=topic) as other,
    ):
        tidings("publish", "--private", "-t", topic, "secret", **both)
        tidings("publish", "--private", "-t", topic, "-f", stdin="line\n", **both)
        tidings("publish", "-t", topic, "public", **both)
        assert mine.take(3) == ["secret", "line", "public"]
        assert other.take(1) == ["public"]


def test_it_waits_for_a_hub_that_starts(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    late = tidings("publish", "x", "--patience", "0", TIDINGS_URL=url)
    assert late.returncode == 1
    assert "Connection refused" in late.stderr
    with background("publish", "x", TIDINGS_URL=url) as command:
        until(lambda: "trying again" in command.err, "it says so")
        with serving(["-b", f"127.0.0.1:{port}"], {"TIDINGS_DEMO": "0"}, tmp_path / "log"):
            assert command.wait() == 0


def test_after_a_lost_answer_it_tries_again_only_with_an_id(server: Server, topic: str) -> None:
    with http_network(server.port) as lossy, server.listen(topic=topic) as stream:
        lossy.loses_answers = True
        url = {"TIDINGS_URL": lossy.url}
        with background("publish", "-t", topic, "without", **url) as command:
            assert stream.take(1) == ["without"]
            lossy.cut()
            assert command.wait() == 1
            assert "--id" in command.err
        with background("publish", "-t", topic, "with", "--id", topic[-99:], **url) as command:
            assert stream.take(1) == ["with"]
            lossy.loses_answers = False
            lossy.cut()
            assert command.wait() == 0
        server.publish("end", topic=topic)
        assert stream.take(1) == ["end"]


def test_each_line_of_a_pipe_is_published_as_it_comes(server: Server, topic: str) -> None:
    options = ("publish", "-t", topic, "--type", "log", "--follow")
    with server.listen(topic=topic) as stream, background(*options, TIDINGS_URL=server.url) as pipe:
        for line in ("one", "zwei ü", "", "four"):
            pipe.write(f"{line}\n")
            [message] = stream.messages(1)  # before the next is written
            assert (message.data, message.type) == (line, "log")
        pipe.write("no end of line")
        assert pipe.end() == 0
        assert stream.take(1) == ["no end of line"]
    assert pipe.err == "published 5 events\n"


def test_lines_of_json_have_their_own_topics_and_ids(server: Server, topic: str) -> None:
    own = f"{topic[-90:]}-id"
    lines = [
        {"data": {"a": [1, 2.5]}, "id": own},
        {"data": "other", "topic": [f"{topic}-2", "more"], "type": "b"},
        {"data": "default"},
    ]
    text = "\n\n".join(map(json.dumps, lines))
    options = ("publish", "-f", "--ndjson", "--json", "-t", topic, "--type", "a")
    with server.listen(topic=[topic, f"{topic}-2"]) as stream:
        done = tidings(*options, stdin=text, TIDINGS_URL=server.url)
        messages = stream.messages(3)
    summary = json.loads(done.stdout)
    assert (summary["published"], summary["refused"]) == (3, 0)
    assert [(m.data, m.type) for m in messages] == [
        ('{"a":[1,2.5]}', "a"),
        ("other", "b"),
        ("default", "a"),
    ]
    assert messages[0].id == own
    assert summary["last_id"] == messages[2].id


def test_a_refused_line_is_reported_and_the_others_are_published(
    serve: Callable[..., Server],
) -> None:
    server = serve(TIDINGS_MAX_EVENT_BYTES="100", TIDINGS_DEMO="0")
    lines = ['{"data": "one"}', "nonsense", '{"data": "%s"}' % ("x" * 200), '{"topic": ""}', "[]"]
    lines += ['{"data": "six"}', "\ud800", '{"data": "eight"}', '{"data": "x", "id": "1-1"}']
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    with server.listen() as stream:
        done = tidings("publish", "--follow", "--ndjson", stdin=text, TIDINGS_URL=server.url)
        assert stream.take(3) == ["one", "six", "eight"]
    assert done.returncode == 1
    assert re.findall(r"line (\d+) was", done.stderr) == ["2", "5", "7", "3", "4", "9"]
    assert "TIDINGS_MAX_EVENT_BYTES" in done.stderr
    assert done.stderr.endswith("published 3 events, refused 6\n")
    long = "x" * 9_000_000 + "\nshort\n" + "x" * ((8 << 20) + 9)
    done = tidings("publish", "-f", stdin=long, TIDINGS_URL=server.url)
    assert re.findall(r"line (\d+) was .*bytes", done.stderr) == ["1", "3"]
    assert done.stderr.endswith("published 1 event, refused 2\n")


def test_a_line_that_has_a_field_twice_is_refused(server: Server, topic: str) -> None:
    line = '{"data": {"a": 1, "a": 2}}\n{"data": "secret", "private": true, "private": false}'
    options = ("publish", "--follow", "--ndjson", "--topic", topic)
    with server.listen(topic=topic) as stream:
        done = tidings(*options, stdin=line, TIDINGS_URL=server.url)
        assert stream.take(1) == ['{"a":2}']
    assert done.returncode == 1
    assert 'line 2 was not published: it has "private" more than once' in done.stderr


def test_a_pipe_survives_restarts_kills_and_lost_answers(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "server" / "log"
    env = {"TIDINGS_DEMO": "0", "TIDINGS_DRAIN": "1", "TIDINGS_PIPE_IDLE": "0.2"}
    arguments = ["-b", f"127.0.0.1:{port}"]
    lines = iter(range(5000))

    def write(pipe: Running) -> None:
        pipe.write("".join(f"{n}\n" for n in islice(lines, 1000)))

    with http_network(port) as lossy, background("publish", "-f", TIDINGS_URL=lossy.url) as pipe:
        with serving(arguments, env, log) as server, server.listen() as stream:
            lossy.loses_answers = True
            write(pipe)
            assert stream.take(1000)[-1] == "999"
            lossy.loses_answers = False
            lossy.cut()
            write(pipe)
            os.kill(server.worker, signal.SIGKILL)
            write(pipe)
        write(pipe)
        until(lambda: "trying again" in pipe.err, "it waits")
        with serving(arguments, env, log) as server:
            write(pipe)
            assert pipe.end() == 0
            with server.listen(last_event_id="earliest") as stream:
                assert stream.take(5000) == [str(n) for n in range(5000)]
                server.publish("end")
                assert stream.take(1) == ["end"]
    assert pipe.err.endswith("published 5000 events\n")


def test_stdin_is_not_read_while_the_hub_is_down() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with background("publish", "--follow", TIDINGS_URL=url) as pipe:
        assert pipe.process.stdin is not None
        pipe.write("x\n")
        until(lambda: "trying again" in pipe.err, "it has begun")
        os.set_blocking(pipe.process.stdin.fileno(), False)
        written, stuck_since = 0, time.monotonic()
        while time.monotonic() - stuck_since < 0.3:
            with suppress(BlockingIOError):
                written += os.write(pipe.process.stdin.fileno(), b"x" * 1023 + b"\n")
                stuck_since = time.monotonic()
        assert written < 1 << 20
        tries = pipe.err.count("trying again")
        pipe.process.send_signal(signal.SIGTERM)
        until(lambda: pipe.err.count("trying again") > tries, "it tries a last time")
        assert pipe.end(signal.SIGTERM) == 130
        assert re.search(r"published 0 events, not published \d+\n$", pipe.err)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_signal_ends_a_pipe_after_its_lines_are_published(
    server: Server, topic: str, sig: int
) -> None:
    with http_network(server.port) as lossy, server.listen(topic=topic) as stream:
        lossy.loses_answers = True
        with background("publish", "-f", "-t", topic, TIDINGS_URL=lossy.url) as pipe:
            pipe.write("one\n")
            assert stream.take(1) == ["one"]
            lossy.loses_answers = False
            assert pipe.end(sig) == 130
        assert pipe.err == "published 1 event\n"
        server.publish("end", topic=topic)
        assert stream.take(1) == ["end"]


def test_it_tries_again_when_it_publishes_too_fast() -> None:
    answers = (("429 Too Many Requests", "Slower."), ("200 OK", "1-1"))
    heads = "HTTP/1.1 {}\r\nContent-Length: {}\r\n\r\n{}"
    texts = [heads.format(status, len(body), body) for status, body in answers]
    with canned_server(*map(str.encode, texts)) as url:
        done = tidings("publish", "x", "--patience", "1m", TIDINGS_URL=url)
    assert (done.returncode, done.stdout) == (0, "1-1\n")
    assert "answers 429: Too Many Requests; trying again" in done.stderr


def test_a_pipe_sends_every_option(server: Server, topic: str) -> None:
    options = ("-t", topic, "--type", "tick", "--retry", "0")
    with server.listen(topic=topic) as stream:
        for extra, stdin in (((), "one"), (("--follow",), "two\n")):
            tidings("publish", *options, *extra, stdin=stdin, TIDINGS_URL=server.url)
        messages = stream.messages(2)
    assert [(m.data, m.type, m.retry) for m in messages] == [
        ("one", "tick", 100),
        ("two", "tick", 100),
    ]


def test_a_pipe_sends_only_the_rest_after_the_hub_has_stopped() -> None:
    answers = [("503 Service Unavailable", 2), ("200 OK", 1)]
    texts = []
    for status, published in answers:
        body = json.dumps({"published": published, "last_id": "1-1", "detail": "The hub stops."})
        texts.append(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}")
    with canned_server(*map(str.encode, texts)) as url:
        done = tidings("publish", "--follow", stdin="one\ntwo\nthree\n", TIDINGS_URL=url)
    assert done.returncode == 0
    assert "The hub stops; trying again\n" in done.stderr
    assert done.stderr.endswith("published 3 events\n")


@pytest.mark.parametrize(
    ("status", "published"), [("200 OK", 2), ("200 OK", -1), ("200 OK", 1.0), ("503 No", -1)]
)
def test_a_pipe_loses_no_line_by_a_wrong_answer(status: str, published: object) -> None:
    body = json.dumps({"published": published, "last_id": "1-1", "detail": "No."})
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
    with canned_server((head + body).encode()) as url:
        options = ("publish", "--follow", "--patience", "0")
        done = tidings(*options, stdin="one\n", TIDINGS_URL=url)
    assert done.returncode == 1
    assert "published 0 events, not published 1\n" in done.stderr
