"""The removals of one client wait for one another."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from gevent.event import Event as Signal

from support.hub import publish
from support.turns import wait_until
from webapp.errors import ServiceUnavailable
from webapp.hub.deletion import delete

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from webapp.brokers.base import Removed
    from webapp.core.removals import Removal
    from webapp.hub.hub import Hub


class Gate:
    """Lets removals into the event log one by one."""

    def __init__(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        self.topics = list[str]()  # whose removals have begun
        self.open = Signal()
        self._remove = hub.broker.remove
        monkeypatch.setattr(hub.broker, "remove", self._wait)

    def _wait(self, removal: Removal) -> Removed:
        self.topics.append(removal.topic)
        self.open.wait()
        return self._remove(removal)


class Socket:
    """A client's, which may hang up."""

    def __init__(self) -> None:
        self.hang_up: Callable[[], None] | None = None
        self.answered_last = False

    @contextmanager
    def on_hangup(self, hung_up: Callable[[], None]) -> Iterator[None]:
        self.hang_up = hung_up
        yield

    def answer_last(self) -> None:
        self.answered_last = True


@pytest.fixture(name="gate")
def _gate(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Gate:
    for topic in "abc":
        publish(hub, "1", "2", topic=topic)
    return Gate(hub, monkeypatch)


def remove(hub: Hub, topic: str, client: str, socket: Any = None) -> gevent.Greenlet[..., int]:
    task = gevent.spawn(delete, hub, topic, None, client=client, socket=socket)
    gevent.sleep(0)
    return task


def test_a_client_has_one_removal_at_a_time_and_does_not_delay_others(hub: Hub, gate: Gate) -> None:
    first, second = remove(hub, "a", "192.0.2.1"), remove(hub, "b", "192.0.2.1")
    other = remove(hub, "c", "192.0.2.2")
    wait_until(lambda: len(gate.topics) == 2)
    assert gate.topics == ["a", "c"]
    gate.open.set()
    assert [it.get() for it in (first, second, other)] == [2, 2, 2]
    assert gate.topics == ["a", "c", "b"]
    assert not hub.removal_turns._queues


def test_only_who_waits_is_answered_on_a_connection_that_closes(hub: Hub, gate: Gate) -> None:
    sockets = [Socket(), Socket()]
    tasks = [remove(hub, topic, "192.0.2.1", it) for topic, it in zip("ab", sockets, strict=True)]
    gate.open.set()
    assert [it.get() for it in tasks] == [2, 2]
    assert [it.answered_last for it in sockets] == [False, True]


def test_a_client_that_disconnects_while_it_waits_removes_nothing(hub: Hub, gate: Gate) -> None:
    first, socket = remove(hub, "a", "192.0.2.1"), Socket()
    second = remove(hub, "b", "192.0.2.1", socket)
    assert socket.hang_up
    socket.hang_up()
    with pytest.raises(ServiceUnavailable):
        second.get()
    gate.open.set()
    assert first.get() == 2
    assert gate.topics == ["a"]
    assert remove(hub, "b", "192.0.2.1").get() == 2
