"""Limits: each one refuses in words who goes over it, counts him, and lets all others go on."""

from __future__ import annotations

import json
import re
import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import jwt
import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from support.hub import make_hub
from support.processes import cpu
from support.project import ROOT
from support.server import serving
from support.tokens import KEY
from support.waiting import PATIENCE, one_of_three, until
from webapp.auth.authorizer import Authorizer
from webapp.config.settings import Settings
from webapp.errors import BadRequest, ContentTooLarge, ServiceUnavailable, TooManyRequests
from webapp.hub.quota import StreamQuota
from webapp.views import error_handlers, forms, json_values, publish
from webapp.views.client_address import behind, client
from webapp.views.rate_limit import Rate
from webapp.views.services import Services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.server import Server

RATE = 5
FILES = 256
STREAM = {"Accept": "text/event-stream"}


def by(address: str) -> dict[str, str]:
    """A proxy of ours saw this address, whatever the client says."""
    return {"X-Forwarded-For": f"203.0.113.9, unknown, {address}"}


# Whose request it is


@pytest.mark.parametrize(
    ("proxies", "header", "address"),
    [
        (1, None, "10.0.0.1"),
        (1, "", "10.0.0.1"),
        (1, "192.0.2.7", "192.0.2.7"),
        (1, "198.51.100.1, 192.0.2.7", "192.0.2.7"),
        (1, "198.51.100.1,\t192.0.2.7 ", "192.0.2.7"),
        (2, "198.51.100.1, 192.0.2.7, 10.0.0.2", "192.0.2.7"),
        (2, "192.0.2.7", "10.0.0.1"),  # it came past a proxy
        (1, "192.0.2.7:4711", "192.0.2.7"),
        (1, "[2001:db8::7]:4711", "2001:db8::7"),
        (1, "2001:DB8:0::7", "2001:db8::7"),
        (1, "unknown", "10.0.0.1"),
        (1, "192.0.2.7, \x1b[31m", "10.0.0.1"),
    ],
)
def test_a_clients_address_is_counted_from_the_right(
    proxies: int, header: str | None, address: str
) -> None:
    environ = {"REMOTE_ADDR": "10.0.0.1"}
    if header is not None:
        environ["HTTP_X_FORWARDED_FOR"] = header
    behind(lambda environ, _: environ, proxies)(environ, None)
    assert environ["REMOTE_ADDR"] == address


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.7", "192.0.2.8", False),
        ("2001:db8:0:1::7", "2001:db8:0:1:ffff::8", True),
        ("2001:db8:0:1::7", "2001:db8:0:2::7", False),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.8", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("", None, True),
    ],
)
def test_an_ipv6_network_is_one_client(one: str, other: str | None, *, same: bool) -> None:
    assert (client(one) == client(other)) is same


@pytest.mark.parametrize(("env", "proxies"), [({}, 0), ({"PORT": "5000"}, 1)])
def test_on_a_platform_there_is_one_proxy(env: dict[str, str], proxies: int) -> None:
    assert Settings.from_env(env).trusted_proxies == proxies
    assert Settings.from_env({**env, "TIDINGS_TRUSTED_PROXIES": "2"}).trusted_proxies == 2


# Counting


def test_room_is_refused_when_it_is_taken_and_forgets_who_left() -> None:
    room = StreamQuota(limit=3, limit_per_client=2)
    for name in "aab":
        room.check(name)
        room.acquire(name)
    with pytest.raises(ServiceUnavailable):
        room.check("c")
    room.release("b")
    with pytest.raises(TooManyRequests):
        room.check("a")
    room.check("c")
    room.release("a")
    room.check("a")
    room.release("a")
    assert not room._open_by_client


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("rate", "burst"), [(0.5, 1), (1.0, 1), (2.5, 2), (100.0, 100)])
def test_a_bucket_holds_a_second_and_says_when_there_is_more(rate: float, burst: int) -> None:
    clock = Clock()
    bucket = Rate(rate, clock)
    assert [bucket.take("a", 1) for _ in range(burst)] == [0.0] * burst
    for _ in range(50):
        wait = bucket.take("a", 1)
        assert wait > 0
        assert bucket.take("other", 0) == 0
        clock.now += wait * 0.99
        assert bucket.take("a", 1) > 0
        clock.now += wait * 0.0101
        assert bucket.take("a", 1) == 0


def test_more_than_a_bucket_holds_is_taken_on_credit() -> None:
    clock = Clock()
    bucket = Rate(10, clock)
    assert bucket.take("a", 100) == 0
    assert bucket.take("a", 0) == pytest.approx(9.1)
    assert bucket.take("a", 10) == pytest.approx(10)
    assert bucket.take("a", 100) == pytest.approx(10)


def test_the_buckets_are_bounded_and_the_least_used_is_forgotten() -> None:
    bucket = Rate(1, Clock())
    for number in range(10_000):
        bucket.take(str(number), 1)
    bucket.take("0", 5)  # refused: it took nothing
    clock_start = len(bucket._full_at)
    bucket.take("new", 1)
    assert clock_start == len(bucket._full_at) == 10_000
    assert "0" not in bucket._full_at


# Refusals, and others who go on


@pytest.fixture(name="limited", scope="module")
def _limited(serve: Callable[..., Server]) -> Server:
    return serve(
        "--access-logfile",
        "-",
        TIDINGS_DEMO="0",
        TIDINGS_TRUSTED_PROXIES="1",
        TIDINGS_MAX_SUBSCRIBERS_PER_IP="2",
        TIDINGS_PUBLISH_RATE=str(RATE),
        TIDINGS_PIPE_IDLE="0.5",
    )


def test_an_address_has_its_share_of_the_streams_and_others_have_theirs(
    limited: Server, topic: str
) -> None:
    url, mine = f"/events?topic={topic}", by("192.0.2.1")
    with limited.listen(topic=topic, headers=by("192.0.2.2")) as other, ExitStack() as mess:
        for _ in range(2):
            mess.enter_context(limited.listen(topic=topic, headers=mine)).next()
        for _ in range(3):
            assert limited.http.head(url, headers=mine).status_code == 200  # takes no room
        refused = limited.http.get(url, headers=mine)
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "1"
        assert refused.json()["reason"] == "too_many"
        told = limited.http.get(url, headers=mine | STREAM)
        assert told.status_code == 200
        assert re.fullmatch(
            r'event: hub.bye\nretry: \d+\ndata: {"reason": "too_many"}\n\n', told.text
        )
        limited.http.post(url, content="to all", headers=by("192.0.2.3"))
        assert other.take(1) == ["to all"]

    def back() -> bool:
        with suppress(AssertionError), limited.listen(topic=topic, headers=mine) as stream:
            return stream.next().type == "hub.open"
        return False

    until(back, "those that left made room")


def test_the_access_log_names_the_clients_own_address(limited: Server) -> None:
    assert limited.http.get("/nowhere", headers=by("192.0.2.77")).status_code == 404
    until(lambda: '192.0.2.77 "GET /nowhere" 404' in limited.log, "the line is written")


def test_who_publishes_too_fast_is_told_when_to_go_on_and_others_go_on(
    limited: Server, topic: str
) -> None:
    def publish(address: str, count: int = 1) -> Any:
        batch = [{"topic": topic}] * count
        return limited.http.post("/events", json=batch, headers=by(address))

    began = time.monotonic()
    taken = 0
    while (refused := publish("192.0.2.10", RATE)).status_code == 200:
        taken += RATE
        assert taken <= RATE * (1 + time.monotonic() - began)
    assert taken
    assert (refused.status_code, refused.json()["reason"]) == (429, "rate")
    assert refused.headers["Retry-After"] == "1"
    assert publish("192.0.2.11", RATE).status_code == 200
    time.sleep(1)  # as it was told
    assert publish("192.0.2.10", 1).status_code == 200


def test_a_pipe_that_is_too_fast_is_slowed_down(limited: Server, topic: str) -> None:
    lines, others = f'{{"topic":"{topic}"}}\n' * 2 * RATE, by("192.0.2.21")
    began = time.monotonic()
    assert piped(limited, lines, "0\r\n\r\n", address="192.0.2.20")["published"] == 2 * RATE
    assert time.monotonic() - began > 0.9  # a second's worth at once, then one by one
    assert limited.http.post("/events", content="x", headers=others).status_code == 200


def piped(server: Server, lines: str, end: str = "", *, address: str) -> Any:
    """Send a pipe, in one piece that no pause can part, and return the answer."""
    head = "POST /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    head += "Content-Type: application/x-ndjson\r\nConnection: close\r\n"
    head += f"X-Forwarded-For: {address}\r\n"
    with socket.create_connection((server.host, server.port), PATIENCE) as pipe:
        pipe.sendall(f"{head}\r\n{len(lines):x}\r\n{lines}\r\n{end}".encode())
        said = b""
        while piece := pipe.recv(1 << 16):
            said += piece
    assert said.startswith(b"HTTP/1.1 200 ")
    return json.loads(said.partition(b"\r\n\r\n")[2])


def test_a_pipe_that_is_quiet_for_too_long_gets_its_answer(limited: Server, topic: str) -> None:
    found = piped(limited, f'{{"topic":"{topic}"}}\n', address="192.0.2.22")
    assert found["published"] == 1


def test_no_refusal_is_a_traceback(limited: Server) -> None:
    assert "Traceback" not in limited.log


# Rates of tokens


@pytest.fixture(name="app")
def _app() -> Iterator[Flask]:
    hub = make_hub(jwt_key=(KEY,), publish_rate=0.001)
    app = Flask("one rate")
    app.extensions["tidings"] = Services.of(hub, Authorizer(hub.settings))
    error_handlers.init_app(app)
    app.register_blueprint(publish.bp)
    yield app
    hub.stop()


def test_the_rate_is_the_tokens_however_it_is_written(app: Flask) -> None:
    def publish(token: str, address: str) -> int:
        return (
            app.test_client()
            .post(
                "/events",
                data={"data": "x"},
                headers={"Authorization": f"Bearer {token}"},
                environ_base={"REMOTE_ADDR": address},
            )
            .status_code
        )

    first, second = (
        jwt.encode({"mercure": {"publish": ["*"]}, "sub": name}, KEY) for name in ("a", "b")
    )
    end = {"B": "A", "A": "B"}.get(first[-1], chr(ord(first[-1]) + 1))  # bits that say nothing
    spellings = [first, first, f"{first}=", f"{first}!", first[:-1] + end]
    statuses = [publish(it, f"192.0.2.{n}") for n, it in enumerate(spellings)]
    assert statuses[:2] == [200, 429]
    assert set(statuses[2:]) <= {401, 429}
    assert publish(second, "192.0.2.9") == 200
    hub = app.extensions["tidings"].hub
    hub.measure()
    assert hub.metrics.totals()["refused"]["rate"] == statuses.count(429)


# Connections


def half_requests(server: Server, count: int, said: bytes) -> Iterator[socket.socket]:
    for _ in range(count):
        connection = socket.socket()
        connection.setblocking(False)  # noqa: FBT003 - the socket's own way
        connection.connect_ex((server.host, server.port))
        yield connection
        with suppress(OSError):
            connection.send(said)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it asks Linux")
def test_with_no_files_left_those_who_say_nothing_make_room(tmp_path: Path) -> None:
    limit = ["sh", "-c", f'ulimit -n {FILES} && exec "$0" "$@"']
    env = {"TIDINGS_DEMO": "0", "TIDINGS_HEADER_TIMEOUT": "60", "TIDINGS_BODY_TIMEOUT": "60"}
    with (
        serving(["-b", "127.0.0.1:0"], env, tmp_path / "log", limit) as server,
        server.listen(topic="t") as reader,
        ExitStack() as stack,
    ):
        worker = server.worker
        body = b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"
        for said in (b"", b"GET /eve", body):
            for idle in half_requests(server, FILES, said):
                stack.enter_context(idle)
            server.publish("on", topic="t")
            assert reader.take(1) == ["on"]
            for path in ("/healthz", "/readyz", "/metrics"):
                answer = server.http.get(path, headers={"Connection": "close"})
                assert answer.status_code == 200
        assert server.worker == worker
        assert "Traceback" not in server.log
        before = cpu(worker)
        time.sleep(0.5)
        assert cpu(worker) - before < 0.25  # it does not spin


# Bodies


@pytest.mark.parametrize(
    "text",
    [
        "[" + "[],[]," * 50_001 + "1]",
        "[" + "[[]]," * 50_001 + "1]",
        "[" + '"",' * 100_002 + "1]",
        '["' + '\\"' * 9 + "\\\\" * 9 + '"' + ",1" * 100_002 + "]",
        "{" + '"":{},' * 50_001 + '"":0}',
    ],
)
def test_json_that_would_take_long_is_refused(text: str) -> None:
    with pytest.raises(ContentTooLarge):
        json_values.one(text.encode())


@pytest.mark.parametrize(
    "value",
    [",[{" * 100_000, '",\\' * 100_000, ["x,y"] * 99_000, {str(n): n for n in range(99_000)}],
    ids=["punctuation", "escapes", "strings", "members"],
)
def test_json_that_is_quickly_read_may_look_like_much(value: object) -> None:
    assert json_values.one(json.dumps(value).encode())[0] == value


@pytest.mark.parametrize(
    "number", ["1" * 1001, "-1" + "0" * 1000, "0." + "1" * 999, "[1e" + "0" * 999 + "1]"]
)
def test_numbers_have_an_end(number: str) -> None:
    with pytest.raises(BadRequest):
        json_values.one(number.encode())


@given(st.binary(max_size=40) | st.text(alphabet="a%4=&+1c3é", max_size=40).map(str.encode))
def test_forms_are_read_as_python_reads_them(text: bytes) -> None:
    size, forms._STEP_BYTES = forms._STEP_BYTES, 4
    try:
        mine = forms._parse_pairs(text, "form")
    except BadRequest:
        return
    finally:
        forms._STEP_BYTES = size
    try:
        theirs = parse_qsl(text.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        return  # %XX beside bytes that only together are a character
    assert sorted(mine.items(multi=True)) == sorted(theirs)


LARGE = {
    "a form": ("application/x-www-form-urlencoded", b"data=" + b"%ff" * 1_000_000),
    "a form of many fields": (
        "application/x-www-form-urlencoded",
        b"&".join([b"data=" + b"%ff" * 1000] * 1000),
    ),
    "JSON": ("application/json", b"[" + b"[[]]," * 1_600_000 + b"1]"),
    "multipart": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n' + b"\r\n-" * 2_700_000,
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_while_a_large_body_is_read_others_are_answered(
    server: Server, topic: str, name: str
) -> None:
    kind, body = LARGE[name]

    def attack() -> int:
        answer = server.http.post("/events", content=body, headers={"Content-Type": kind})
        return answer.status_code

    def longest() -> float:
        waits = [0.0]
        with server.listen(topic=topic) as reader, ThreadPoolExecutor() as pool:
            reader.next()
            attacked = pool.submit(attack)
            while not attacked.done():
                began = time.monotonic()
                server.publish("x", topic=topic)
                assert reader.take(1) == ["x"]
                waits.append(time.monotonic() - began)
        assert attacked.result() in {400, 413}
        return max(waits)

    assert one_of_three(longest, lambda wait: wait < 1) < 1  # in one go they are 1.3 to 3.7


def test_a_body_that_drips_for_ever_is_given_up(serve: Callable[..., Server]) -> None:
    patience = {"TIDINGS_BODY_TIMEOUT": "1", "PYTHONPATH": str(ROOT / "tests")}
    hub = serve("-k", "support.short_timeouts.Worker", TIDINGS_DEMO="0", **patience)
    head = b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", hub.port), timeout=PATIENCE) as client:
        began, answered = time.monotonic(), False
        client.sendall(head)
        while not answered:
            client.sendall(b"x")
            answered = bool(select.select([client], [], [], 0.03)[0])
            assert time.monotonic() - began < PATIENCE
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began >= 0.9


def test_of_many_large_bodies_that_arrive_at_once_some_are_refused_and_small_ones_never(
    serve: Callable[..., Server],
) -> None:
    bounds = {"TIDINGS_MAX_BODY_BYTES": "256K", "TIDINGS_MAX_EVENT_BYTES": "256K"}
    hub = serve(TIDINGS_DEMO="0", **bounds)
    head = b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 262144\r\n\r\n"
    with ExitStack() as stack:
        clients = []
        for _ in range(90):
            client = socket.create_connection(("127.0.0.1", hub.port), timeout=PATIENCE)
            clients.append(stack.enter_context(client))
            with suppress(OSError):  # it may be refused, and hung up on, before all is sent
                client.sendall(head + b"x" * 261_000)
        refused, _, _ = select.select(clients, [], [], PATIENCE)
        assert refused[0].recv(1000).startswith(b"HTTP/1.1 503 ")
        assert hub.publish("small")
    until(lambda: hub.http.post("/events", content=b"x" * 260_000).status_code == 200, "room")
