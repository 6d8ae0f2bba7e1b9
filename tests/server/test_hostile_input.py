"""Hubs that share an event log survive whatever others send, write or damage."""

from __future__ import annotations

import json
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from support import hostile_input
from support.hostile_input import LONG, WATCHED
from support.redis_server import running_redis
from support.tokens import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.server import Server
    from support.stream import Stream

pytestmark = pytest.mark.slow

AUTH = {"Authorization": f"Bearer {hostile_input.ALL}"}
EXAMPLES = settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
HALF = {
    "mercure": {"subscribe": ["x"], "payload": {"a": "\ud83d", "b": float("nan")}},
    "sub": "\ud83d",
}
numbers = count()


class Pair:
    """Two hubs that share a log, with a subscriber and a watcher of presence on each."""

    def __init__(self, hubs: list[Server], write: Callable[[Any], None], stack: ExitStack) -> None:
        self.hubs, self._write = hubs, write
        self._good = [stack.enter_context(hub.listen(topic="good")) for hub in hubs]
        self._watchers = [
            stack.enter_context(hub.listen(headers=AUTH, topic=WATCHED)) for hub in hubs
        ]
        for stream in (*self._good, *self._watchers):
            assert stream.next().type == "hub.open"

    def survives(self, items: list[Any]) -> None:
        """Let items come; then all is as it was."""
        for item in items:
            hostile_input.strike(self.hubs, self._write, item)
        sent = [f"sent {next(numbers)}" for _ in self.hubs]
        for hub, text in zip(self.hubs, sent, strict=True):
            answer = hub.http.post("/events", data={"topic": "good", "data": text}, headers=AUTH)
            assert answer.status_code == 200, answer.text
        for stream in self._good:
            assert [_next(stream, "sent ") for _ in sent] == sent
        topic = f"here {next(numbers)}"
        with self.hubs[0].listen(topic=topic):
            for stream in self._watchers:
                self._await(stream, topic, active=True)
            assert self._lists(topic)
            assert self.hubs[1].http.get(hostile_input.path_of("")[:-1], headers=AUTH).json()
        for stream in self._watchers:
            self._await(stream, topic, active=False)
        for hub in self.hubs:
            assert hub.log.count("Booting worker") == 1, hub.log

    def _lists(self, topic: str) -> bool:
        listing = self.hubs[1].http.get(hostile_input.path_of(topic), headers=AUTH).json()
        return [it["topic"] for it in listing["subscriptions"]] == [topic]

    def _await(self, stream: Stream, topic: str, *, active: bool) -> None:
        """Await a topic: the watcher gets an event about it, or missed some and finds it listed."""
        while True:
            message = stream.next()
            if message.type == "hub.reset":
                if self._lists(topic) is active:
                    return
            elif message.type == "message":
                about = json.loads(message.data)
                if (about["topic"], about["active"]) == (topic, active):
                    return


def _next(stream: Stream, beginning: str) -> str:
    while not (text := stream.take(1)[0]).startswith(beginning):
        pass
    return text


@pytest.fixture(name="pair", scope="module", params=["sqlite", "redis"])
def _pair(
    request: pytest.FixtureRequest,
    serve: Callable[..., Server],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    folder: Path = tmp_path_factory.mktemp("log")
    with ExitStack() as stack:
        if request.param == "redis":
            server = stack.enter_context(running_redis("redis-server", folder))
            url, write = server.url, hostile_input.InServer(server).write
        else:
            url, write = f"sqlite:///{folder}/log.db", hostile_input.InFile(folder / "log.db").write
        hubs = [serve(TIDINGS_JWT_KEY=KEY, TIDINGS_BROKER_URL=url) for _ in range(2)]
        yield Pair(hubs, write, stack)


@EXAMPLES
@given(st.lists(hostile_input.items, min_size=1, max_size=6))
@example([hostile_input.Subscribe([LONG, "%" * 990], HALF)])
@example(
    [
        hostile_input.Notice("", 0),
        hostile_input.Notice("#inf [", "x"),
        hostile_input.Notice("!5", 2**62),
    ]
)
@example(
    [
        hostile_input.Row("\n5 []", 0),
        hostile_input.Row("[" * 5000, "x"),
        hostile_input.Row("\ud83d", -1),
    ]
)
@example([hostile_input.Row("", it) for it in (2**63 - 1, float("inf"), 2**63 - 1, "x", -1)])
@example(
    [
        hostile_input.Listed("\ud83d", '{"topics": [5], "payload": NaN}'),
        hostile_input.Listed("", "{"),
    ]
)
@example([hostile_input.Revoked('["token", {}, "x"]', 2**62), hostile_input.Revoked("[", 2**62)])
def test_two_hubs_that_share_a_log_survive_whatever_comes(pair: Pair, items: list[Any]) -> None:
    pair.survives(items)


@pytest.mark.parametrize("position", ["9999999999999999999-7", "18446744073709551615-5"])
def test_an_entry_at_a_place_far_ahead_ends_no_follower(
    serve: Callable[..., Server], tmp_path: Path, position: str
) -> None:
    with running_redis("redis-server", tmp_path) as log:
        hub = serve(TIDINGS_OPEN="1", TIDINGS_BROKER_URL=log.url)
        with hub.listen(topic="t") as stream:
            assert stream.next().type == "hub.open"
            hub.publish("before", topic="t")
            log.ask("XADD", "{tidings}:log", position, "draft", '["no event"]')
            hub.publish("after", topic="t")
            assert stream.take(2) == ["before", "after"]
        with hub.listen(topic="t", last_event_id="earliest") as stream:
            assert stream.take(2) == ["before", "after"]
        with hub.listen(topic="t", last="2") as stream:
            assert stream.take(2) == ["before", "after"]
        assert hub.log.count("Booting worker") == 1
        hub.stop()
