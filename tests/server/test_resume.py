"""No loss and no double across reconnects; where something is lost, the subscriber gets a reset."""

from __future__ import annotations

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from support.waiting import until
from webapp.core import sse
from webapp.core.events import EventId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.server import Server

EVENTS = 3_000
READERS = 4


class Survivor:
    """A subscriber whose connection is cut at random bytes, and that comes back with its cursor."""

    def __init__(self, server: Server, topic: str, seed: int, by: str) -> None:
        self.server = server
        self.topic = topic
        self.by = by
        self.random = random.Random(seed)
        self.cursor = ""
        self.data: list[str] = []
        self.connections = 0
        self.resets = 0

    def read_all(self) -> Survivor:
        while len(self.data) < EVENTS:
            self.connections += 1
            self.read_until_cut(self.random.randrange(100, 1_500))
        return self

    def read_until_cut(self, size: int) -> None:
        cursor: dict[str, Any] = {}
        if self.cursor:
            by_header = {"headers": {"Last-Event-ID": self.cursor}}
            cursor = by_header if self.by == "header" else {"last_event_id": self.cursor}
        with self.server.listen(topic=self.topic, **cursor) as stream:
            for message in sse.decode(self.chunks(stream.response, size)):
                self.cursor = message.id
                self.resets += message.type == "hub.reset"
                if not message.type.startswith("hub."):
                    self.data.append(message.data)
                if len(self.data) == EVENTS:
                    return

    def chunks(self, response: Any, size: int) -> Iterator[bytes]:
        while size > 0 and (chunk := response.read1(self.random.randrange(1, 500))):
            yield chunk[:size]
            size -= len(chunk)


def test_subscribers_cut_hundreds_of_times_get_every_event_once(server: Server, topic: str) -> None:
    survivors = [
        Survivor(server, topic, seed, "header" if seed % 2 else "query") for seed in range(READERS)
    ]
    for survivor in survivors:
        survivor.read_until_cut(60)  # all begin before the first event
        survivor.cursor = survivor.cursor or server_head(server)
    with ThreadPoolExecutor(READERS + 2) as threads:
        done = [threads.submit(survivor.read_all) for survivor in survivors]
        for first in range(2):
            threads.submit(publish_odd_or_even, server, topic, first)
        survivors = [future.result() for future in done]
    published = survivors[0].data
    assert sorted(map(int, published)) == list(range(EVENTS))
    assert [s.data for s in survivors] == [published] * READERS
    assert sum(s.resets for s in survivors) == 0
    assert sum(s.connections for s in survivors) > 300


def server_head(server: Server) -> str:
    with server.listen(topic="nobody") as stream:
        return stream.next().id


def publish_odd_or_even(server: Server, topic: str, first: int) -> None:
    """Publish in small steps, with an own id now and then, as concurrent publishers do."""
    numbers = list(range(first, EVENTS, 2))
    for start in range(0, len(numbers), 5):
        events = [
            {"topic": topic, "data": str(n), **({"id": f"{topic}-{n}"} if n % 7 == 0 else {})}
            for n in numbers[start : start + 5]
        ]
        server.http.post("/events", json=events).raise_for_status()


@pytest.fixture(name="small", scope="module")
def _small(serve: Callable[..., Server]) -> Server:
    """A hub that keeps 100 events and drops others at once, with 10 at hand."""
    limits = {"TIDINGS_HISTORY_EVENTS": "100", "TIDINGS_WINDOW_EVENTS": "10"}
    return serve(TIDINGS_BROKER_URL="memory://", **limits)


def fill(server: Server, topic: str, count: int) -> list[str]:
    events = [{"topic": topic, "data": str(n)} for n in range(count)]
    answer = server.http.post("/events", json=events, headers={"Accept": "application/json"})
    return list(answer.json()["ids"])


def resets(raw: bytes) -> int:
    return raw.count(b"event: hub.reset\n")


def test_a_cursor_below_the_floor_gets_a_reset_and_the_oldest(small: Server, topic: str) -> None:
    ids = fill(small, topic, 150)
    until(lambda: oldest(small) == ids[49], "the log is trimmed")
    with small.listen(topic=topic, last_event_id=ids[9]) as stream:
        opening, reset = stream.next(), stream.next()
        assert (opening.type, reset.type) == ("hub.open", "hub.reset")
        assert json.loads(reset.data) == {"reason": "aged"}
        assert reset.id == ids[49]
        assert stream.take(100) == [str(n) for n in range(50, 150)]
        assert resets(stream.raw) == 1


def test_the_oldest_cursor_that_is_kept_is_no_reason_for_a_reset(small: Server, topic: str) -> None:
    ids = fill(small, topic, 150)
    with small.listen(topic=topic, last_event_id=ids[49]) as stream:
        assert stream.take(100) == [str(n) for n in range(50, 150)]
        assert resets(stream.raw) == 0


def test_an_own_id_is_a_cursor_as_long_as_the_place_it_names(small: Server, topic: str) -> None:
    small.publish("own", topic=topic, id=f"{topic}-own")
    ids = fill(small, topic, 100)
    with small.listen(topic=topic, last_event_id=f"{topic}-own") as stream:
        assert stream.headers["Last-Event-ID"] == f"{topic}-own"
        assert stream.take(100) == [str(n) for n in range(100)]
        assert resets(stream.raw) == 0
    fill(small, topic, 1)
    until(lambda: oldest(small) == ids[0], "the log is trimmed")
    with small.listen(topic=topic, last_event_id=f"{topic}-own") as stream:
        stream.next()
        assert json.loads(stream.next().data) == {"reason": "unknown"}
        assert stream.headers["Last-Event-ID"] == stream.ids[-1]


def replay(server: Server, topic: str, cursor: str) -> int | None:
    with server.listen(topic=topic, last_event_id=cursor) as stream:
        found: int | None = json.loads(stream.next().data)["replay"]
        return found


def test_what_is_older_than_the_window_is_read_from_the_log(small: Server, topic: str) -> None:
    ids = fill(small, topic, 100)
    until(lambda: replay(small, topic, ids[20]) is None, "it is more than is at hand")
    with small.listen(topic=topic, last_event_id=ids[20]) as stream:
        assert stream.take(79) == [str(n) for n in range(21, 100)]
    with small.listen(topic=topic, last=60) as stream:
        assert stream.take(60) == [str(n) for n in range(40, 100)]


@pytest.mark.parametrize(
    "cursor", ["never-heard-of", "99999999999999-0", "ü", "1-1x", "urn:uuid:1"]
)
def test_an_unknown_cursor_gets_a_reset_and_starts_at_the_head(
    server: Server, topic: str, cursor: str
) -> None:
    head = fill(server, topic, 3)[-1]
    with server.listen(topic=topic, last_event_id=cursor) as stream:
        opening, reset = stream.next(), stream.next()
        assert (opening.type, reset.type) == ("hub.open", "hub.reset")
        assert json.loads(reset.data) == {"reason": "unknown"}
        assert reset.id == head
        server.publish("live", topic=topic)
        assert stream.take(1) == ["live"]


def test_a_place_between_two_events_is_of_another_log(server: Server, topic: str) -> None:
    milliseconds = fill(server, topic, 1)[0].split("-")[0]
    server.publish("later", topic=topic)
    with server.listen(topic=topic, last_event_id=f"{milliseconds}-9999") as stream:
        stream.next()
        assert json.loads(stream.next().data) == {"reason": "unknown"}


def test_a_cursor_from_before_a_restart_gets_a_reset(
    serve: Callable[..., Server], server: Server, topic: str
) -> None:
    old = server.publish("lost with the process", topic=topic)
    restarted = serve(TIDINGS_DEMO="0")
    restarted.publish("kept", topic=topic)
    with restarted.listen(topic=topic, last_event_id=old) as stream:
        stream.next()
        assert stream.next().type == "hub.reset"
        assert stream.take(1) == ["kept"]


def test_a_subscriber_of_a_quiet_topic_in_a_busy_log_is_not_reset(
    small: Server, topic: str
) -> None:
    with small.listen(topic=topic) as stream:
        cursor = stream.next().id
        for _ in range(20):
            fill(small, f"{topic}-busy", 50)
        small.publish("the end", topic="*end*")
        while position(cursor) < position(oldest(small)):
            message = stream.next()
            assert message.type == "hub.mark"
            cursor = message.id
    for _ in range(5):
        with small.listen(topic=topic, last_event_id=cursor) as stream:
            cursor = stream.next().id
            small.publish("seen", topic=topic)
            assert stream.take(1) == ["seen"]
            assert resets(stream.raw) == 0
            cursor = stream.ids[-1]


def position(text: str) -> EventId:
    found = EventId.parse(text)
    assert found
    return found


def oldest(server: Server) -> str:
    with server.listen(topic="*", last_event_id="earliest") as stream:
        return stream.next().id


def test_marks_are_rare(server: Server, topic: str) -> None:
    with server.listen(topic=topic) as stream:
        fill(server, f"{topic}-busy", 1_000)  # of the 10,000 that are kept
        server.publish("x", topic=topic)
        stream.take(1)
        assert stream.raw.count(b"hub.mark") == 0


def test_an_overtaken_subscriber_gets_a_reset_within_its_stream(small: Server, topic: str) -> None:
    with small.listen(topic=topic) as stream:
        stream.next()
        for start in range(0, 20_000, 250):  # it does not read meanwhile
            big = [
                {"topic": topic, "data": f"{n} " + "x" * 2000} for n in range(start, start + 250)
            ]
            small.http.post("/events", json=big).raise_for_status()
        numbers: list[int] = []
        resets = []
        while not numbers or numbers[-1] != 19_999:
            message = stream.next()
            if message.type == "hub.reset":
                resets.append(len(numbers))
            elif message.type == "message":
                numbers.append(int(message.data.split()[0]))
    gaps = [i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1] + 1]
    assert numbers[0] == 0
    assert gaps
    assert set(gaps) <= set(resets)


def test_subscribers_that_come_while_events_are_published_miss_none(
    server: Server, topic: str
) -> None:
    stop = threading.Event()
    forgotten = server.ended("client_left")

    def publish() -> None:
        number = 0
        while not stop.is_set():
            server.publish(str(number), topic=topic)
            number += 1

    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(publish)
        for _ in range(50):
            with server.listen(topic=topic, last=3) as stream:
                numbers = [int(data) for data in stream.take(6)]
                assert numbers == list(range(numbers[0], numbers[0] + 6))
        stop.set()
        done.result()
    until(lambda: server.ended("client_left") >= forgotten + 50, "they are forgotten")
