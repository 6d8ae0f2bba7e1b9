"""Whatever ends a stream in a `StreamWorker`: what must happen at its end happens once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.handover import PLENTY, Stream, Subscriber, come_to_rest, draft, poll, publish
from support.hub import make_hub
from support.parking import ONCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from webapp.hub.hub import Hub

pytestmark = pytest.mark.usefixtures("no_clock")

LARGE = "x" * 300_000  # more than fits into the buffers of a socket


@pytest.fixture(name="hub")
def _hub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    Stream.inject_errors(monkeypatch)
    hub = make_hub(heartbeat=3600, write_timeout=getattr(request, "param", 3600))
    hub.start()
    yield hub
    Stream.close_all()
    hub.stop()


def parked(hub: Hub) -> Subscriber:
    """Return a subscriber whose stream has no greenlet."""
    subscriber = Subscriber(hub)
    come_to_rest([subscriber])
    assert subscriber.stream.subscription.parked
    return subscriber


def resumed(hub: Hub) -> Subscriber:
    """Return a subscriber that does not read, whose stream sends it the rest of a write."""
    subscriber = parked(hub)
    publish(hub, [subscriber], draft("a", LARGE))
    turn_until(lambda: not subscriber.stream.subscription.parked)
    return subscriber


def resumed_before(hub: Hub) -> Subscriber:
    """Return a subscriber whose stream has parked again."""
    subscriber = resumed(hub)
    come_to_rest([subscriber])
    assert not subscriber.owed
    assert subscriber.stream.worker
    assert subscriber.stream.worker.parked == 2
    assert subscriber.stream.subscription.parked
    return subscriber


def turn_until(condition: Callable[[], object]) -> None:
    for _ in range(PLENTY):
        if condition():
            return
        poll()
    pytest.fail("it never happens")


ENDS: dict[str, Callable[[Hub, Stream], None]] = {
    "client_left": lambda _, stream: stream.hang_up(),
    "kicked": lambda _, stream: stream.subscription.end("kicked"),
    "max_age": lambda _, stream: stream.subscription.end("max_age"),
    "token_expired": lambda _, stream: stream.subscription.end("token_expired"),
    "drain": lambda hub, _: hub.drain(),
    "cut off by a worker that stops": lambda _, stream: stream.abort(),
    "error": lambda _, stream: stream.fail(),
}
WITH_BYE = {"kicked", "max_age", "token_expired", "drain"}
OTHER_REASONS = {"error": None, "cut off by a worker that stops": "client_left"}
STATES = [parked, resumed, resumed_before]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("end", ENDS)
def test_each_end_of_a_stream_happens_once(
    hub: Hub, end: str, state: Callable[[Hub], Subscriber]
) -> None:
    subscriber = state(hub)
    stream = subscriber.stream
    assert stream.worker
    assert not stream.worker.done
    ENDS[end](hub, stream)
    if end in WITH_BYE:
        come_to_rest([subscriber])
        assert subscriber.names[-1] == b"hub.bye"
    while not stream.ended:
        stream.read(1 << 16)
        poll()
    assert stream.worker.done == ONCE
    assert stream.subscription.reason == OTHER_REASONS.get(end, end)
    assert not hub._subscribers
    assert not list(hub._feeds)


@pytest.mark.parametrize("hub", [0.1], indirect=True, ids=["a short write time-out"])
def test_a_stream_that_is_too_slow_ends_once(hub: Hub) -> None:
    stream = resumed(hub).stream
    assert stream.worker
    while not stream.ended:  # the write time-out goes by the clock
        poll()
    assert stream.subscription.reason == "too_slow"
    assert stream.worker.done == ONCE
