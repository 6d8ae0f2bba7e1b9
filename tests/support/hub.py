"""The hub without a server, in the tests' own process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event as Signal

from support.waiting import PATIENCE
from webapp.auth.authorizer import Grant
from webapp.brokers.memory import MemoryBroker
from webapp.config.settings import Settings
from webapp.core import sse
from webapp.core.events import Draft, Event, EventId
from webapp.hub.hub import Hub
from webapp.hub.reads.start import Start

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from webapp.brokers.base import Followed
    from webapp.core.sse import ServerSentEvent
    from webapp.hub.streams.stream import Stream

NOBODY: frozenset[str] = frozenset()


def make_hub(broker: MemoryBroker | None = None, **options: Any) -> Hub:
    chosen = Settings(**options)
    limits = (chosen.history_events, chosen.history_bytes, chosen.history_age)
    return Hub(broker or MemoryBroker(*limits), chosen, max_subscribers=0)


def publish(hub: Hub, *data: str, topic: str = "t", private: bool = False) -> list[Event]:
    return hub.publish([Draft(topics=(topic,), data=d, private=private) for d in data])


def until_read(hub: Hub, events: Sequence[Event]) -> None:
    """Wait until the hub has read events, and its window has dropped what exceeds its bounds."""
    with gevent.Timeout(PATIENCE):
        while hub.window.head < events[-1].position or hub.window.over_limit:
            gevent.sleep(0.001)


def subscribe(hub: Hub, *topics: str, granted: str = "", **start: Any) -> Stream:
    grant = Grant(subscribe=frozenset({granted} if granted else ()))
    return hub.subscribe(frozenset(topics or ("t",)), grant, Start(**start))


class Subscriber:
    """A greenlet that reads a subscription the generator way."""

    def __init__(self, subscription: Stream) -> None:
        self.subscription = subscription
        self.raw: list[bytes] = []
        self.task = gevent.spawn(self._run)

    def _run(self) -> None:
        for frame in self.subscription.frames():
            self.raw.append(frame)

    def messages(self) -> list[ServerSentEvent]:
        return list(sse.decode(self.raw))

    def data(self) -> list[str]:
        return [m.data for m in self.messages() if m.type == "message"]

    def await_data(self, count: int) -> list[str]:
        with gevent.Timeout(PATIENCE):
            while len(self.data()) < count:
                gevent.sleep(0.001)
        return self.data()

    def leave(self) -> None:
        self.subscription.end("client_left")
        self.task.join(PATIENCE)


class LaggingBroker(MemoryBroker):
    """A log that this process follows only when it is let."""

    def __init__(self) -> None:
        super().__init__(1000, 1 << 20, 3600)
        self.released = Signal()

    def follow(self, after: EventId) -> Iterator[Followed]:
        for events in super().follow(after):
            self.released.wait()
            yield events


def alive(hub: Hub) -> bool:
    return not hub.failed and not any(task.dead for task in hub._tasks)
