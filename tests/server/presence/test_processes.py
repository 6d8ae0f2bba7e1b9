"""Presence over workers and machines, of which some are killed or cut off."""

from __future__ import annotations

import re
import select
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import gevent
import pytest

from support.hub import make_hub
from support.presence import ALL, bearer, list_path, listed_on, next_documents, subscriber_name
from support.processes import kill
from support.redis_server import running_redis
from support.tokens import KEY
from support.waiting import PATIENCE, one_of_three, until
from webapp.auth.authorizer import Grant
from webapp.brokers.memory_presence import MemoryPresenceStore
from webapp.core.events import Draft
from webapp.errors import ServiceUnavailable
from webapp.hub.reads.start import Start
from webapp.presence.service import Presence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from support.server import Server
    from support.stream import Stream

pytestmark = pytest.mark.slow


def test_a_killed_workers_subscribers_are_gone_within_the_lease(
    serve: Callable[..., Server], topic: str
) -> None:
    lease = 1.2
    settings = {"TIDINGS_PRESENCE_LEASE": str(lease), "TIDINGS_HEARTBEAT": "60"}
    hub = serve(TIDINGS_JWT_KEY=KEY, WEB_CONCURRENCY="2", **settings)
    with ExitStack() as stack:
        subscribers = [stack.enter_context(hub.listen(topic=topic)) for _ in range(20)]
        names = {subscriber_name(subscriber): subscriber for subscriber in subscribers}
        until(lambda: len(listed_on(hub, topic)) == 20, "all are listed")
        served = until(lambda: (it := served_by(hub, topic)).total() == 20 and it, "all are logged")
        for worker in served:
            kill(worker)
            killed = seen = time.monotonic()  # seen: when it was asked who is still listed
            served[worker] = 0
            until(lambda: len(connected(names)) == served.total(), "its connections have ended")
            left = connected(names)

            def settled(left: set[str] = left) -> bool:
                nonlocal seen
                asked = time.monotonic()
                found = {it["subscriber"] for it in listed_on(hub, topic)}
                if found - left:
                    seen = asked
                return found == left

            until(settled, "those that are connected are listed")
            assert seen - killed < lease


def served_by(hub: Server, topic: str) -> Counter[int]:
    """How many streams of a topic each worker has opened, as the log says."""
    opened = rf"\[(\d+)\] \[INFO\] stream opened: .* topics={re.escape(topic)} "
    return Counter(map(int, re.findall(opened, hub.log)))


def connected(names: dict[str, Stream]) -> set[str]:
    """Those whose connection has not ended."""
    sockets = {names[it].response.fileno(): it for it in names}
    ended, _, _ = select.select(list(sockets), [], [], 0)
    return set(names) - {sockets[it] for it in ended}


def test_a_stopped_hub_leaves_nobody_behind(
    serve: Callable[..., Server], tmp_path: Path, topic: str
) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    first = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_BROKER_URL=url)
    second = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_BROKER_URL=url)
    with first.listen(topic=topic), second.listen(topic=topic):
        until(lambda: len(listed_on(second, topic)) == 2, "both are listed")
        first.stop()
        assert len(listed_on(second, topic)) == 1


@pytest.mark.parametrize("program", ["redis-server", "valkey-server"])
def test_on_many_machines_it_is_the_same(
    serve: Callable[..., Server], program: str, tmp_path: Path, topic: str
) -> None:
    with running_redis(program, tmp_path) as log:
        lease = 6.0  # on a busy machine, a process is silent for a while
        settings = {"TIDINGS_JWT_KEY": KEY, "REDIS_URL": log.url}
        settings["TIDINGS_PRESENCE_LEASE"] = str(lease)
        here, there = serve(**settings), serve(**settings)
        with there.listen(headers=ALL, topic=list_path(topic) + "{/subscriber}") as watcher:
            subscriber_name(watcher)

            def kicked() -> float:
                with here.listen(headers=bearer(sub="joe"), topic=topic) as guest:
                    subscriber = subscriber_name(guest)
                    assert next_documents(watcher, 1)[0]["subscriber"] == subscriber
                    assert [it["subscriber"] for it in listed_on(there, topic)] == [subscriber]
                    began = time.monotonic()
                    gone = there.http.delete(list_path(topic, subscriber), headers=ALL)
                    assert gone.status_code == 204
                    byes = [it.data for it in guest.rest() if it.type == "hub.bye"]
                    assert byes == ['{"reason": "kicked"}']
                    assert next_documents(watcher, 1)[0]["active"] is False
                    return time.monotonic() - began

            assert one_of_three(kicked, lambda seconds: seconds < 2) < 2
            joe = bearer(["*"], [], sub="joe")
            assert here.http.post("/events", data={"data": "x"}, headers=joe).status_code == 200
            revoked = there.http.post(
                "/.well-known/mercure/revocations", data={"subject": "joe"}, headers=ALL
            )
            assert revoked.status_code == 204
            until(
                lambda: here.http.post("/events", data={"data": "x"}, headers=joe).is_client_error,
                "the other machine refuses, too",
            )
            with here.listen(topic=topic) as another:
                subscriber = subscriber_name(another)
                assert next_documents(watcher, 1)[0]["subscriber"] == subscriber
                kill(here.worker)
                [gone] = next_documents(watcher, 1)
                assert (gone["subscriber"], gone["active"]) == (subscriber, False)
        # A worker that starts later knows, too.
        until(lambda: here.log.count("Booting worker") == 2, "the killed one is replaced")
        assert here.http.post("/events", data={"data": "x"}, headers=joe).status_code == 401


def test_a_hub_whose_store_was_away_at_its_start_starts_later() -> None:
    hub = make_hub()

    class Late(MemoryPresenceStore):
        """Away at first."""

        tries = 0

        def heartbeat(self, changes: Mapping[str, str | None]) -> bool:
            Late.tries += 1
            if Late.tries == 1:
                detail = "It is away."
                raise ServiceUnavailable(detail, "Wait.")
            return super().heartbeat(changes)

    hub.observers.append(Presence(hub, Late(), lease=15))
    with pytest.raises(ServiceUnavailable):
        hub.start()
    hub.start()
    assert hub.publish([Draft(topics=("t",))])
    hub.stop()


def test_a_process_whose_lease_ended_registers_its_subscribers_again() -> None:
    hub, store = make_hub(jwt_key=(KEY,)), Forgetful()
    hub.observers.append(Presence(hub, store, lease=0.6))
    hub.start()
    for name in ("a", "b", "c"):
        hub.register(hub.subscribe(frozenset({name}), Grant(), Start()))
    with gevent.Timeout(PATIENCE):
        while len(store.subscribers()) < 3:
            gevent.sleep(0.01)
        store.forget()
        while len(store.subscribers()) < 3:
            gevent.sleep(0.01)
    notices = store.notices_after(0).notices
    assert len(notices) == 6
    assert len(set(notices)) == 3
    hub.stop()


class Forgetful(MemoryPresenceStore):
    """One that forgets, as others make it forget a process that was silent for too long."""

    forgot = False

    def forget(self) -> None:
        """Drop all."""
        self._subscribers.clear()
        self.forgot = True

    def heartbeat(self, changes: Mapping[str, str | None]) -> bool:
        """Renew, and say whether this process was known."""
        known = not self.forgot
        self.forgot = False
        return super().heartbeat(changes) and known


def test_subscribers_beyond_the_memory_bound_are_served_and_not_listed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub, store = make_hub(jwt_key=(KEY,)), MemoryPresenceStore()
    hub.observers.append(Presence(hub, store, lease=15))
    hub.start()
    monkeypatch.setattr("webapp.presence.changes.MAX_RECORD_BYTES", 120)
    patterns = [frozenset({letter * 30}) for letter in "abcd"]
    subscribers = [hub.subscribe(it, Grant(), Start()) for it in patterns]
    for subscriber in subscribers:
        hub.register(subscriber)
    with gevent.Timeout(PATIENCE):
        while not store.subscribers():
            gevent.sleep(0.01)
        assert [name for name, _ in store.subscribers()] == [subscribers[0].name]
        for subscriber in subscribers:
            hub.unregister(subscriber)
        hub.register(subscribers[1])
        while [name for name, _ in store.subscribers()] != [subscribers[1].name]:
            gevent.sleep(0.01)
    monkeypatch.setattr("webapp.presence.changes.MAX_RECORD_BYTES", 400)
    many = [hub.subscribe(frozenset({letter * 30}), Grant(), Start()) for letter in "efghijk"]
    caplog.clear()
    for listed, waiting in zip(many, many[3:], strict=False):
        hub.register(listed)
        hub.register(waiting)
        hub.unregister(listed)
    assert len(caplog.messages) <= 1  # at the limit, who leaves makes room for one
    hub.stop()
