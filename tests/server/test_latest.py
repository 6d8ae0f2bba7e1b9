"""`latest=1`: a stream that begins with the newest event of each topic."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from support.redis_server import running_redis
from support.tokens import KEY, token
from support.waiting import PATIENCE
from webapp.core import sse
from webapp.core.events import EventId
from webapp.core.topics import TopicPatterns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from support.server import Server

PATHS = ["/events", "/.well-known/mercure"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("control", ["0", "1"])
def test_a_snapshot_has_one_id_and_no_header(
    server: Server, topic: str, path: str, control: str
) -> None:
    for data, name in (("old", "a"), ("1", "b"), ("2", "a")):
        server.publish(data, topic=f"{topic}/{name}", id=f"{topic} {data}")
    query: dict[str, Any] = {"topic": f"{topic}/{{x}}", "latest": "1", "control": control}
    with server.listen(path, **query) as stream:
        assert not {"last-event-id", "mercure-last-event-id"} & {*map(str.lower, stream.headers)}
        assert stream.take(2) == ["1", "2"]
        live = server.publish("3", topic=f"{topic}/c")
        assert stream.take(1) == ["3"]
        first, last, new = stream.ids[-3:]
        assert (first, new) == ("", live)
    with server.listen(path, last_event_id=last, **query) as stream:
        assert stream.headers["Last-Event-ID"] == last
        assert stream.take(1) == ["3"]


@pytest.mark.parametrize("path", PATHS)
def test_a_lost_cursor_is_no_refusal(server: Server, topic: str, path: str) -> None:
    server.publish("newest", topic=topic)
    for control in "01":
        query: dict[str, Any] = {"topic": topic, "control": control, "last_event_id": "lost"}
        with server.listen(path, latest="1", **query) as stream:
            assert "Last-Event-ID" not in stream.headers
            assert stream.take(1) == ["newest"]
            assert (b"event: hub.reset\n" in stream.raw) is (control == "1")


class Survivor:
    """A subscriber whose connection is cut at random bytes, and that comes back: with its cursor,
    or for a snapshot.
    """

    def __init__(self, server: Server, pattern: str, seed: int) -> None:
        self.server = server
        self.query: dict[str, Any] = {"topic": pattern, "latest": "1", "control": str(seed % 2)}
        self.random = random.Random(seed)
        self.cursor = self.snapshot = ""
        self.data: list[str] = []

    def connect(self, size: int, end: str = "") -> None:
        """Read some bytes; or up to the event with some data."""
        cursor: dict[str, Any] = {"last_event_id": self.cursor} if self.cursor else {}
        if not self.cursor:
            self.data = []
        with self.server.listen(**self.query, **cursor) as stream:
            for message in sse.decode(self.chunks(stream.response, size)):
                assert message.type != "hub.reset"
                if not message.type.startswith("hub."):
                    self.data.append(message.data)
                if message.id:
                    self.snapshot = (self.cursor and self.snapshot) or message.id
                    self.cursor = message.id
                if end and message.data == end:
                    return

    def chunks(self, response: Any, size: int) -> Iterator[bytes]:
        while size > 0 and (chunk := response.read1(self.random.randrange(1, 500))):
            yield chunk[:size]
            size -= len(chunk) + 100 * (chunk == sse.HEARTBEAT)  # where nothing is published


@pytest.mark.slow
@pytest.mark.parametrize("broker", ["sqlite", "redis"])
def test_under_publishers_and_cut_anywhere_there_is_no_gap_and_no_double(
    serve: Callable[..., Server], broker: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/log.db"
        if broker == "redis":
            url = stack.enter_context(running_redis("redis-server", tmp_path)).url
        hub = serve(
            TIDINGS_BROKER_URL=url,
            TIDINGS_DEMO="0",
            TIDINGS_WINDOW_EVENTS="50",
            TIDINGS_HEARTBEAT="0.05",
        )
        published: list[tuple[EventId, str, str]] = []
        patterns = ["a/{n}", "a/1", "*", "{x}/2"]
        survivors = [Survivor(hub, pattern, seed) for seed, pattern in enumerate(patterns * 2)]
        with ThreadPoolExecutor(len(survivors) + 2) as threads:
            publishers = [threads.submit(publish_some, hub, seed, published) for seed in range(2)]
            done = [threads.submit(cut_often, it, publishers) for it in survivors]
            for future in (*publishers, *done):
                future.result(PATIENCE)
        for name in ("a/1", "a/2"):
            published += [(parsed(hub.publish("end", topic=name)), name, "end")]
        for survivor in survivors:
            survivor.connect(1 << 20, "end")
            start = survivor.snapshot
            assert survivor.data[-1] == "end"
            assert start
            expected = expect(sorted(published), survivor.query["topic"], parsed(start))
            assert survivor.data == expected[: expected.index("end") + 1]


def publish_some(server: Server, seed: int, published: list[tuple[EventId, str, str]]) -> None:
    chance = random.Random(seed)
    for step in range(60):
        names = [chance.choice("ab") + f"/{chance.randrange(5)}" for _ in range(5)]
        events = [{"topic": name, "data": f"{seed} {step} {n}"} for n, name in enumerate(names)]
        answer = server.http.post("/events", json=events, headers={"Accept": "application/json"})
        for id_, event in zip(answer.json()["ids"], events, strict=True):
            published.append((parsed(id_), event["topic"], event["data"]))


def cut_often(survivor: Survivor, publishers: list[Future[None]]) -> None:
    while not all(it.done() for it in publishers):
        survivor.connect(survivor.random.randrange(60, 1500))


def parsed(id_: str) -> EventId:
    position = EventId.parse(id_)
    assert position
    return position


def expect(published: list[tuple[EventId, str, str]], pattern: str, at: EventId) -> list[str]:
    matches = TopicPatterns(frozenset({pattern})).matches
    seen = [it for it in published if matches(it[1])]
    newest = {name: (position, data) for position, name, data in seen if position <= at}
    after = [data for position, _, data in seen if position > at]
    return [data for _, data in sorted(newest.values())] + after


@pytest.mark.parametrize("value", ["2", "yes please", ""])
def test_another_value_is_refused(server: Server, value: str) -> None:
    answer = server.http.get("/events", params={"latest": value})
    assert answer.status_code == 400
    assert "latest" in answer.json()["detail"]


def test_private_events_are_in_a_snapshot_by_grant(serve: Callable[..., Server]) -> None:
    hub = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_ANONYMOUS="1", TIDINGS_DEMO="0")
    publisher = {"Authorization": f"Bearer {token(publish=['*'])}"}
    for data, private in (("public", "0"), ("secret", "1")):
        form = {"topic": "t/1", "data": data, "private": private}
        hub.http.post("/events", data=form, headers=publisher).raise_for_status()
    for granted, seen in ((["t/{n}"], "secret"), (["u"], "public"), (None, "public")):
        bearer: dict[str, Any] = {"authorization": token(subscribe=granted)} if granted else {}
        with hub.listen(topic="t/{n}", latest="1", envelope="1", **bearer) as stream:
            assert json.loads(stream.take(1)[0])["data"] == seen
