"""What one client asks for costs that client: its turns, its memory, its matching."""

from __future__ import annotations

import json
import re
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from support.processes import memory, settle
from support.redis_server import running_redis
from support.tokens import KEY
from support.waiting import PATIENCE, one_of_three, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.server import Server

pytestmark = pytest.mark.slow

EVENTS = 6000
SMALL = 4096  # bytes of a receive buffer that is soon full
AT_ALL = {"mercure": {"publish": ["*"], "subscribe": ["*"]}}
TOKEN = {"Authorization": f"Bearer {jwt.encode(AT_ALL, KEY)}"}


def test_the_variables_of_a_stream_are_bounded_over_all_its_templates(server: Server) -> None:
    def ask(count: int, each: str) -> Any:
        topic = [f"/{number}/{each}" for number in range(count)]
        return server.http.get("/events", params={"topic": topic})

    with server.listen(topic=["/{a}/" + "{b}" * 49]) as stream:
        assert stream.next().type == "hub.open"
    for refused in (ask(51, "{a}"), ask(1, "{" + "a," * 50 + "a}"), ask(26, "{a}{b*}")):
        assert refused.status_code == 400
        assert refused.json()["reason"] == "variables"
        assert "TIDINGS_MAX_VARIABLES" in refused.json()["remedy"]


def test_the_topics_of_an_event_are_bounded_in_bytes(server: Server) -> None:
    def post(count: int, size: int, letter: str = "x") -> Any:
        named = [letter * size + str(number).rjust(4, "0") for number in range(count)]
        return server.http.post("/events", json={"topic": named})

    assert post(1000, 60).status_code == 200
    for refused in (post(1000, 62), post(100, 1000), post(1000, 31, "ü")):
        assert refused.status_code == 413
        assert refused.json()["reason"] == "topic_bytes"


@pytest.fixture(name="url", params=["sqlite", "redis"], scope="module")
def _url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        yield f"sqlite:///{folder}/log.db"
        return
    with running_redis("redis-server", folder) as server:
        yield server.url


@pytest.fixture(name="long", scope="module")
def _long(url: str, serve: Callable[..., Server]) -> Server:
    """A hub with some thousand events, nearly all of them not at hand."""
    hub = serve(TIDINGS_BROKER_URL=url, TIDINGS_JWT_KEY=KEY, TIDINGS_WINDOW_EVENTS="10")
    for start in range(0, EVENTS, 1000):
        batch = [{"topic": "t", "data": str(n)} for n in range(start, start + 1000)]
        hub.http.post("/events", json=batch, headers=TOKEN).raise_for_status()
    with hub.listen(topic="t", last=1) as subscriber:
        while subscriber.take(1) != [str(EVENTS - 1)]:
            pass  # it has not followed all of them yet
    return hub


def ask(stack: ExitStack, server: Server, query: str, buffer: int | None = None) -> socket.socket:
    """Ask for a stream, and read nothing of it."""
    sock = stack.enter_context(socket.socket())
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.settimeout(PATIENCE)
    sock.connect((server.host, server.port))
    sock.sendall(f"GET /events?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return sock


def test_one_replay_finishes_beside_many_that_match_nothing(long: Server) -> None:
    def catch_up() -> float:
        began = time.monotonic()
        with long.listen(topic="t", last=EVENTS // 2) as subscriber:
            assert subscriber.take(EVENTS // 2)[-1] == str(EVENTS - 1)
        return time.monotonic() - began

    alone = min(catch_up() for _ in range(3))
    with ExitStack() as stack:
        for number in range(200):
            ask(stack, long, f"topic=none{number}&last_event_id=earliest")
        # One after the other would take 200 times as long.
        limit = 20 * alone + 1
        assert one_of_three(catch_up, lambda seconds: seconds < limit) < limit
        until(lambda: long.log.count("topics=none") >= 200, "the others are there")
    until(lambda: len(re.findall("stream ended: .* topics=none", long.log)) == 200, "they left")


@pytest.mark.parametrize("query", [f"topic=*&last={EVENTS - 1}", "topic=x&last_event_id=earliest"])
def test_who_left_is_not_read_for(long: Server, query: str) -> None:
    def spent(query: str) -> float:
        before = settle(long.worker)
        with ExitStack() as stack:
            for _ in range(300):
                ask(stack, long, query)
        return settle(long.worker) - before

    # To read for all of them would take fifty times as much.
    assert spent(query) < 5 * spent("topic=x") + 0.5


def test_the_id_of_an_event_that_one_may_not_see_is_unknown_to_one(long: Server) -> None:
    for name, private in (("secret", True), ("open", False)):
        event = {"topic": "p", "id": name, "data": "x", "private": private}
        long.http.post("/events", json=event, headers=TOKEN).raise_for_status()

    def answer(cursor: str, headers: dict[str, str]) -> tuple[Any, ...]:
        with long.listen(topic="p", headers={"Last-Event-ID": cursor, **headers}) as stream:
            opening, second = stream.next(), stream.next() if cursor != "open" else None
            about = json.loads(opening.data)
            del about["subscriber"], about["now"]
            known = stream.headers["Last-Event-ID"]
            said = (second.type, second.id, second.data) if second else ()
            return known, opening.id, about, said

    assert answer("secret", {}) == answer("nobody's", {})
    assert answer("secret", {})[3][0::2] == ("hub.reset", '{"reason": "unknown"}')
    assert answer("open", {})[0] == "open"
    assert answer("secret", TOKEN)[0] == "secret"
    # Also where it is not at hand any more.
    batch = [{"topic": "t"}] * 50
    long.http.post("/events", json=batch, headers=TOKEN).raise_for_status()
    assert answer("secret", {}) == answer("nobody's", {})
    assert answer("secret", TOKEN)[0] == "secret"


def test_slow_replays_of_large_events_share_their_memory(serve: Callable[..., Server]) -> None:
    hub = serve(TIDINGS_DEMO="0", TIDINGS_WINDOW_EVENTS="1", TIDINGS_MAX_REPLAY_BYTES="8M")
    size, subscribers = 1_000_000, 60
    for letter in "abcdefgh":
        hub.publish(letter * size, topic="big")
    hub.publish("end", topic="big")
    before = memory(hub.worker)
    with ExitStack() as stack:
        socks = [
            ask(stack, hub, "topic=big&last_event_id=earliest", SMALL) for _ in range(subscribers)
        ]
        for sock in socks:
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
        until(lambda: hub.log.count("stream opened") >= subscribers, "all are there")
        with hub.listen(topic="big", last_event_id="earliest") as fast:
            assert [len(data) for data in fast.take(9)] == [size] * 8 + [3]
        assert memory(hub.worker) - before < 40 << 20  # a copy for each would be 60 MB and more


def test_live_events_that_slow_clients_hold_are_bounded(serve: Callable[..., Server]) -> None:
    limits = {"TIDINGS_WINDOW_BYTES": "2M", "TIDINGS_MAX_REPLAY_BYTES": "8M"}
    hub = serve(TIDINGS_DEMO="0", **limits)
    hub.publish("x" * 1_000_000, topic="big")
    before = memory(hub.worker)
    with ExitStack() as stack:
        for number in range(60):
            assert ask(stack, hub, "topic=big", SMALL).recv(100).startswith(b"HTTP/1.1 200")
            hub.publish(str(number % 10) * 1_000_000, topic="big")
        until(lambda: hub.ended("too_slow") > 40, "most are cut off")
        assert memory(hub.worker) - before < 40 << 20  # one of each event would be 60 MB


def test_a_replay_read_too_slowly_ends_and_can_be_resumed(
    serve: Callable[..., Server],
) -> None:
    limits = {"TIDINGS_WRITE_TIMEOUT": "1", "TIDINGS_MIN_SEND_RATE": "200000"}
    hub = serve(TIDINGS_DEMO="0", **limits)
    for number in range(20):
        hub.publish(str(number) * 100_000, topic="t")
    with ExitStack() as stack:
        slow = ask(stack, hub, "topic=t&last_event_id=earliest", SMALL)

        def read() -> bool:
            with_some = slow.recv(1000)
            time.sleep(0.02)
            return not with_some or hub.ended("too_slow") == 1

        until(read, "it is let go")
    with hub.listen(topic="t", last_event_id="earliest") as again:
        assert [data[0] for data in again.take(20)] == [str(number)[0] for number in range(20)]
    assert hub.ended("too_slow") == 1


def test_a_refused_stream_ends_its_watched_connection(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    with running_redis("redis-server", tmp_path) as log:
        hub = serve(TIDINGS_BROKER_URL=log.url, TIDINGS_DEMO="0")
        kept = hub.http.get("/events", params={"topic": "t", "last": "x"})
        assert (kept.status_code, kept.headers["Connection"]) == (400, "keep-alive")
        log.stop()
        refused = hub.http.get("/events", params={"topic": "t", "last_event_id": "mine"})
        # What came on the connection meanwhile was thrown away: it might have been a request.
        assert (refused.status_code, refused.headers["Connection"]) == (503, "close")
        assert hub.http.get("/healthz").status_code == 200
