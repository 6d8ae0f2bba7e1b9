"""Who listens: told to those who may know, everywhere, and sent away on demand."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import gevent
import httpx
import jwt
import pytest

from support.hub import Reader, make_hub
from support.redis_server import running_log
from support.tokens import KEY
from support.waiting import PATIENCE, one_of_three, until
from webapp.auth.authorizer import Grant
from webapp.brokers.memory_presence import MemoryPresenceStore
from webapp.brokers.presence_base import MAX_NOTICES
from webapp.core.events import Draft, Event, EventId
from webapp.core.sse import encode
from webapp.errors import ServiceUnavailable
from webapp.hub.history import Start
from webapp.presence.revocations import Revocations, Revoked
from webapp.presence.service import Presence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from support.server import Server
    from support.stream import Stream

pytestmark = pytest.mark.slow

START = 5  # seconds in which a worker is started on a busy machine
PATH = "/.well-known/mercure/subscriptions"
EVENTS = PATH + "{/topic}{/subscriber}"


def token(
    publish: list[str] | None = None, subscribe: list[str] | None = None, **claims: Any
) -> str:
    mercure = {"publish": publish or [], "subscribe": subscribe or []}
    mercure |= {"payload": claims.pop("payload", None)}
    return jwt.encode({"mercure": mercure, **claims}, KEY)


def token_id(*args: Any, **kwargs: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(*args, **kwargs)}"}


ALL = token_id(["*"], ["*"])


@pytest.fixture(name="hub", scope="module")
def _hub(serve: Callable[..., Server]) -> Server:
    """Two workers that share a file."""
    return serve(TIDINGS_JWT_KEY=KEY, WEB_CONCURRENCY="2")


def path(*parts: str) -> str:
    return "/".join([PATH, *(quote(part, safe="") for part in parts)])


def listed(hub: Server, *parts: str) -> list[dict[str, Any]]:
    # A connection of its own: the worker of another one may be killed.
    url = hub.url + path(*parts)
    answer = httpx.get(url, headers=ALL, trust_env=False, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["subscriptions"]
    return found


def name(stream: Stream) -> str:
    opened = stream.next()
    assert opened.type == "hub.open"
    return str(json.loads(opened.data)["subscriber"])


def documents(stream: Stream, count: int, topic: str = "") -> list[dict[str, Any]]:
    """Return the next subscription events, of a topic if one is named."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        document = json.loads(stream.take(1)[0])
        if topic in {"", document["topic"]}:
            found.append(document)
    return found


def test_a_subscription_is_listed_as_mercure_describes_it(hub: Server, topic: str) -> None:
    selector = f"https://example.com/{topic}/{{id}}"
    mine = token_id(subscribe=["x"], payload={"user": "ü"})
    with hub.listen(headers=mine, topic=[selector, topic]) as stream:
        subscriber = name(stream)
        until(lambda: listed(hub, selector), "it is listed")
        answer = hub.http.get(path(selector), headers=ALL)
        assert answer.headers["Content-Type"] == "application/ld+json"
        document = answer.json()
        expected = {
            "id": path(selector, subscriber),
            "type": "Subscription",
            "topic": selector,
            "subscriber": subscriber,
            "active": True,
            "payload": {"user": "ü"},
        }
        assert document.pop("lastEventID")
        assert document == {
            "@context": "https://mercure.rocks/",
            "id": path(selector),
            "type": "Subscriptions",
            "subscriptions": [expected],
        }
        one = hub.http.get(path(selector, subscriber), headers=ALL).json()
        assert one.pop("lastEventID")
        assert one == {"@context": "https://mercure.rocks/", **expected}
        assert {it["topic"] for it in listed(hub) if it["subscriber"] == subscriber} == {
            selector,
            topic,
        }
    until(lambda: not listed(hub, selector), "it is listed no more")
    assert hub.http.get(path(selector, subscriber), headers=ALL).status_code == 404


def test_a_listing_is_sent_again_only_when_it_has_changed(hub: Server, topic: str) -> None:
    with hub.listen(topic=topic):
        until(lambda: listed(hub, topic), "it is listed")
        first = hub.http.get(path(topic), headers=ALL)
        same = {**ALL, "If-None-Match": first.headers["ETag"]}
        assert hub.http.get(path(topic), headers=same).status_code == 304
        with hub.listen(topic=topic):
            until(lambda: len(listed(hub, topic)) == 2, "both are listed")
            assert hub.http.get(path(topic), headers=same).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (token_id(["*"], []), 403),
        (token_id([], ["/elsewhere", path("another")]), 403),
        (token_id([], ["*"]), 200),
        (token_id([], [path("the topic")]), 200),
        (token_id([], [EVENTS]), 200),
    ],
    ids=["none", "publishing only", "another", "all", "exact", "template"],
)
def test_a_listing_is_for_those_whose_token_covers_its_path(
    hub: Server, headers: dict[str, str], status: int
) -> None:
    answer = hub.http.get(path("the topic"), headers=headers)
    assert answer.status_code == status
    if status >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_who_may_is_told_who_comes_and_goes_itself_too_and_others_are_not(
    hub: Server, topic: str
) -> None:
    about = path(topic) + "{/subscriber}"
    with (
        hub.listen(headers=token_id(subscribe=[EVENTS]), topic=[EVENTS, topic]) as told,
        hub.listen(topic=[EVENTS, topic]) as anonymous,
        hub.listen(headers=token_id(subscribe=["x", about + "x"]), topic=[about, topic]) as other,
    ):
        names = [name(told), name(anonymous), name(other)]
        seen = documents(told, 3, topic)
        assert {it["subscriber"] for it in seen} == set(names)
        assert all(it["active"] for it in seen)
        with hub.listen(headers=token_id(payload=["p"]), topic=topic) as guest:
            subscriber = name(guest)
            [came] = documents(told, 1, topic)
        [left] = documents(told, 1, topic)
        expected = {
            "@context": "https://mercure.rocks/",
            "id": path(topic, subscriber),
            "type": "Subscription",
            "topic": topic,
            "subscriber": subscriber,
            "payload": ["p"],
        }
        assert came == {**expected, "active": True}
        assert left == {**expected, "active": False}
        hub.http.post("/events", data={"topic": topic, "data": "last"}, headers=ALL)
        assert anonymous.take(1) == other.take(1) == ["last"]
        until(lambda: told.take(1) == ["last"], "it is told that, too")


def test_such_an_event_has_no_id_and_does_not_move_the_cursor(hub: Server, topic: str) -> None:
    with hub.listen(headers=ALL, topic=[path(topic) + "{/subscriber}", topic]) as stream:
        opened = stream.next()
        event = stream.messages(1)[0]
        assert (event.type, event.id) == ("message", opened.id)
        frame = stream.raw.split(b"\n\n")[1]
        assert frame.startswith(b"data: {")
        assert b"\nid:" not in frame


def test_a_killed_workers_readers_are_gone_within_the_lease(
    serve: Callable[..., Server], topic: str
) -> None:
    lease = 1.2
    settings = {"TIDINGS_PRESENCE_LEASE": str(lease), "TIDINGS_HEARTBEAT": "60"}
    hub = serve(TIDINGS_JWT_KEY=KEY, WEB_CONCURRENCY="2", **settings)
    with ExitStack() as stack:
        readers = [stack.enter_context(hub.listen(topic=topic)) for _ in range(20)]
        names = {name(reader): reader for reader in readers}
        until(lambda: len(listed(hub, topic)) == 20, "all are listed")
        for worker in re.findall(r"Booting worker with pid: (\d+)", hub.log):
            os.kill(int(worker), signal.SIGKILL)
            killed = seen = time.monotonic()  # seen: when it was asked who is still listed

            def settled() -> bool:
                nonlocal seen
                asked = time.monotonic()
                found, left = {it["subscriber"] for it in listed(hub, topic)}, connected(names)
                if found - left:
                    seen = asked
                return found == left

            until(settled, "those that are connected are listed")
            assert seen - killed < lease
        assert not connected(names)


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
        until(lambda: len(listed(second, topic)) == 2, "both are listed")
        first.stop()
        assert len(listed(second, topic)) == 1


@pytest.mark.parametrize("program", ["redis-server", "valkey-server"])
def test_on_many_machines_it_is_the_same(
    serve: Callable[..., Server], program: str, tmp_path: Path, topic: str
) -> None:
    with running_log(program, tmp_path) as log:
        lease = 6.0  # on a busy machine, a process is silent for a while
        settings = {"TIDINGS_JWT_KEY": KEY, "REDIS_URL": log.url}
        settings["TIDINGS_PRESENCE_LEASE"] = str(lease)
        here, there = serve(**settings), serve(**settings)
        with there.listen(headers=ALL, topic=path(topic) + "{/subscriber}") as told:
            name(told)

            def kicked() -> float:
                with here.listen(headers=token_id(sub="joe"), topic=topic) as guest:
                    subscriber = name(guest)
                    assert documents(told, 1)[0]["subscriber"] == subscriber
                    assert [it["subscriber"] for it in listed(there, topic)] == [subscriber]
                    began = time.monotonic()
                    gone = there.http.delete(path(topic, subscriber), headers=ALL)
                    assert gone.status_code == 204
                    byes = [it.data for it in guest.rest() if it.type == "hub.bye"]
                    assert byes == ['{"reason": "kicked"}']
                    assert documents(told, 1)[0]["active"] is False
                    return time.monotonic() - began

            assert one_of_three(kicked, lambda seconds: seconds < 2) < 2
            joe = token_id(["*"], [], sub="joe")
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
                subscriber = name(another)
                assert documents(told, 1)[0]["subscriber"] == subscriber
                os.kill(here.worker, signal.SIGKILL)
                killed = time.monotonic()
                [gone] = documents(told, 1)
                assert (gone["subscriber"], gone["active"]) == (subscriber, False)
                assert time.monotonic() - killed < lease + START
        # A worker that starts later knows, too.
        until(lambda: here.log.count("Booting worker") == 2, "the killed one is replaced")
        assert here.http.post("/events", data={"data": "x"}, headers=joe).status_code == 401


def test_a_topics_readers_are_sent_away_by_one_call_on_every_worker(
    hub: Server, topic: str
) -> None:
    with ExitStack() as stack:
        readers = [stack.enter_context(hub.listen(topic=topic)) for _ in range(8)]
        stays = stack.enter_context(hub.listen(topic=f"{topic}-other"))
        name(stays)
        until(lambda: len(listed(hub, topic)) == 8, "all are listed")
        assert hub.http.delete(path(topic), headers=token_id([], ["*"])).status_code == 403
        assert hub.http.delete(path(topic)).status_code == 401
        assert hub.http.delete(path(topic), headers=ALL).status_code == 204
        for reader in readers:
            assert reader.rest()[-1].data == '{"reason": "kicked"}'
        hub.http.post("/events", data={"topic": f"{topic}-other", "data": "on"}, headers=ALL)
        assert stays.take(1) == ["on"]
        missing = hub.http.delete(path(topic, "urn:uuid:nobody"), headers=ALL)
        assert missing.status_code == 404


def test_a_revoked_token_is_refused_and_its_streams_end(hub: Server, topic: str) -> None:
    stolen, other = token(["*"], ["*"], jti=topic), token(["*"], ["*"], jti=f"{topic}2")
    with (
        hub.listen(headers={"Authorization": f"Bearer {stolen}"}, topic=topic) as thief,
        hub.listen(headers={"Authorization": f"Bearer {other}"}, topic=topic) as owner,
    ):
        name(owner)
        answer = hub.http.post(
            "/.well-known/mercure/revocations", data={"token": stolen}, headers=ALL
        )
        assert answer.status_code == 204
        assert thief.rest()[-1].data == '{"reason": "kicked"}'
        sent = {"Authorization": f"Bearer {stolen}"}
        for _ in range(8):  # whichever worker it reaches
            until(
                lambda: hub.http.get("/events", headers=sent).status_code == 401,
                "it is refused",
            )
        hub.http.post("/events", data={"topic": topic, "data": "on"}, headers=ALL)
        assert owner.take(1) == ["on"]
    assert stolen not in hub.log


def test_a_path_written_in_another_way_names_nobody_rather_than_all(
    hub: Server, topic: str
) -> None:
    with hub.listen(topic=topic):
        until(lambda: listed(hub, topic), "it is listed")
        for disguised in (f"{PATH.replace('s', '%73')}/other", f"{PATH}%2Fother"):
            for method in ("GET", "DELETE"):
                answer = hub.http.request(method, disguised, headers=ALL)
                assert answer.status_code == 404
        assert listed(hub, topic)


def test_what_cannot_be_revoked_is_refused_with_a_reason(hub: Server) -> None:
    url = "/.well-known/mercure/revocations"
    assert hub.http.post(url, data={"token": "nonsense"}, headers=ALL).status_code == 404
    assert hub.http.post(url, data={}, headers=ALL).status_code == 400
    both = {"token": token(), "subject": "joe"}
    assert hub.http.post(url, data=both, headers=ALL).status_code == 400
    assert hub.http.post(url, data={"subject": "x" * 1025}, headers=ALL).status_code == 400
    assert hub.http.post(url, data={"subject": "joe"}).status_code == 401
    assert hub.http.post(url, data={"subject": "joe"}, headers=token_id(["x"])).status_code == 403


TENANT = ["/{tenant}/{room}/{user}", "/{room}", "/{tenant}/{room}", "{/path*}", "{+path}"]


def test_a_pattern_that_was_meant_for_rooms_grants_nothing_of_the_hub(
    hub: Server, topic: str
) -> None:
    tenant = token_id(TENANT, TENANT)
    with (
        hub.listen(headers=tenant, topic=["{+all}", topic]) as stream,
        hub.listen(headers=token_id(subscribe=[EVENTS]), topic=[EVENTS, topic]) as told,
    ):
        name(stream)
        documents(told, 1)
        for method, of_the_hub in (
            ("GET", PATH),
            ("GET", path(topic)),
            ("GET", "/metrics"),
            ("GET", "/console/state"),
            ("DELETE", PATH),
            ("DELETE", path(topic)),
            ("POST", "/.well-known/mercure/revocations"),
        ):
            answer = hub.http.request(method, of_the_hub, headers=tenant)
            assert answer.status_code == 403, of_the_hub
            assert of_the_hub in answer.json()["remedy"]
        for private in ("/metrics", "/console/state", "/a/b"):
            data = {"topic": private, "data": private, "private": "on"}
            hub.http.post("/events", data=data, headers=ALL).raise_for_status()
        assert stream.take(1) == ["/a/b"]


RESERVED = [
    path("t", "s"),
    "%" + "25" * 5,
    "/.well-known/mercure",
    ".well-known/mercure/subscriptions/t/s",
    "/.well-known/%6Dercure/subscriptions",
    "/%252Ewell-known/mercure/x",
    "/a/../.well-known//mercure/x",
    "https://hub.example/.well-known/mercure/subscriptions/t/s",
    "\\.well-known\\mercure",
]


@pytest.mark.parametrize("reserved", RESERVED)
def test_nobody_can_publish_a_made_up_reader(hub: Server, reserved: str) -> None:
    answer = hub.http.post("/events", data={"topic": ["fine", reserved]}, headers=ALL)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "fine", ["/.well-known/mercurey", "mercure", "100%", "/x/.well-known/mercure"]
)
def test_topics_that_only_look_like_the_hubs_are_fine(hub: Server, fine: str) -> None:
    assert hub.http.post("/events", data={"topic": fine}, headers=ALL).status_code == 200


def test_without_a_key_there_is_no_presence(server: Server) -> None:
    assert server.http.get(PATH).status_code == 404
    with server.listen() as stream:
        assert "subscriber" not in json.loads(stream.next().data)


def test_who_asks_for_envelopes_is_told_in_one_too_which_has_no_id(hub: Server, topic: str) -> None:
    asked = {"topic": path(topic) + "{/subscriber}", "envelope": "1"}
    with hub.listen(f"/events?{urlencode(asked)}", token_id(subscribe=[EVENTS])) as told:
        position = told.next().id
        with hub.listen(topic=topic) as guest:
            subscriber = name(guest)
            [came] = told.messages(1)
    envelope = json.loads(came.data)
    about = json.loads(envelope["data"])
    assert (about["subscriber"], about["active"], came.id) == (subscriber, True, position)
    assert (envelope["id"], envelope["topic"]) == (None, path(topic, subscriber))
    assert (envelope["private"], envelope["topics"]) == (True, [envelope["topic"]])
    assert abs(envelope["time"] / 1000 - time.time()) < PATIENCE


def test_a_hub_whose_roster_was_away_at_its_start_starts_later() -> None:
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

    hub.presence = Presence(hub, Late(), lease=15)
    with pytest.raises(ServiceUnavailable):
        hub.start()
    hub.start()
    assert hub.publish([Draft(topics=("t",))])
    hub.stop()


def test_a_process_that_was_taken_for_dead_writes_its_readers_down_again() -> None:
    hub, roster = make_hub(), Forgetful()
    hub.presence = Presence(hub, roster, lease=0.6)
    hub.observers.append(hub.presence)
    hub.start()
    for name in ("a", "b", "c"):
        hub.join(hub.subscribe(frozenset({name}), Grant(), Start()))
    with gevent.Timeout(PATIENCE):
        while len(roster.subscribers()) < 3:
            gevent.sleep(0.01)
        roster.forget()
        while len(roster.subscribers()) < 3:
            gevent.sleep(0.01)
    notices = roster.notices_after(0).notices
    assert len(notices) == 6
    assert len(set(notices)) == 3
    hub.stop()


def test_who_missed_the_notices_refuses_what_was_revoked_all_the_time() -> None:
    hub, roster = make_hub(), Unread()
    hub.presence = presence = Presence(hub, roster, lease=0.6)
    hub.start()
    joe, ann = (Grant(subject=name, issued=1.0) for name in ("joe", "ann"))
    presence.revoke(Revoked("subject", "ann", time.time()), None)
    thief = Reader(hub.subscribe(frozenset({"t"}), joe, Start()))
    gevent.sleep(0.01)
    roster.revoke(json.dumps(Revoked("subject", "joe", time.time())), time.time() + 60, "#")
    for _ in range(MAX_NOTICES):
        roster.broadcast("![]")
    roster.away = True
    with gevent.Timeout(PATIENCE):
        while not roster.asked:
            gevent.sleep(0.01)
        assert presence.is_revoked(ann)  # as before
        roster.away = False
        thief.task.join()
    assert thief.messages()[-1].data == '{"reason": "kicked"}'
    assert presence.is_revoked(ann)
    hub.stop()


class Unread(MemoryPresenceStore):
    """One that does not always say what is revoked."""

    away, asked = False, 0

    def revoked(self) -> list[tuple[str, float]]:
        """Say it, or fail."""
        if self.away:
            self.asked += 1
            detail = "It is away."
            raise ServiceUnavailable(detail, "Wait.")
        return super().revoked()


def test_a_second_revocation_never_lets_a_token_in_again() -> None:
    hub = make_hub()
    presence = Presence(hub, MemoryPresenceStore(), lease=15)
    for moment in (100.0, 98.0):  # by another machine's clock
        presence.revoke(Revoked("subject", "joe", moment), None)
    assert presence.is_revoked(Grant(subject="joe", issued=99.0))
    assert not presence.is_revoked(Grant(subject="joe", issued=101.0))


@pytest.mark.parametrize("issued", [None, 1e3, 4e9, 4e12])  # long ago, ahead, and in ms
def test_a_revoked_token_is_refused_whatever_the_clock_said_by_which_it_was_made(
    issued: float | None,
) -> None:
    presence = Presence(make_hub(), MemoryPresenceStore(), lease=15)
    presence.revoke(Revoked("token", "abc", time.time()), None)
    assert presence.is_revoked(Grant(token_id="abc", subject="joe", issued=issued))
    assert not presence.is_revoked(Grant(token_id="abd", subject="joe", issued=issued))


def test_a_revocation_of_a_subject_is_one_row_and_ends() -> None:
    roster, day = MemoryPresenceStore(), 86400
    presence, now = Presence(make_hub(), roster, lease=15), time.time()
    for at in (now - 29 * day, now - 1, now - 2):
        presence.revoke(Revoked("subject", "joe", at), None)
    roster.revoke_subject("ann", now - 31 * day, 0.0, "#")
    assert roster.subjects() == [("joe", now - 1), ("ann", now - 31 * day)]
    early = Revocations(roster, 30 * day)
    early.learn()
    assert not early.is_revoked(Grant(subject="ann"))  # it is over
    presence.revoke(Revoked("subject", "eve", now), None)
    assert roster.subjects() == [("joe", now - 1), ("eve", now)]
    other = Revocations(roster, 30 * day)
    other.learn()
    for one in (presence, other):
        assert one.is_revoked(Grant(subject="joe", issued=now - 1))
        assert one.is_revoked(Grant(subject="joe"))
        assert not one.is_revoked(Grant(subject="joe", issued=now))


def test_revocations_that_a_hub_of_before_wrote_down_for_ever_end_too() -> None:
    roster, now = MemoryPresenceStore(), time.time()
    for name, at in (("joe", now - 10), ("ann", now - 86400)):
        roster.revoke(json.dumps(["subject", name, at]), now + 1e9, "#")
    revocations = Revocations(roster, 3600)
    revocations.learn()
    assert revocations.is_revoked(Grant(subject="joe", issued=now - 11))
    assert not revocations.is_revoked(Grant(subject="ann", issued=now - 86401))


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


def test_readers_that_would_fill_the_logs_server_are_served_and_not_listed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub, roster = make_hub(), MemoryPresenceStore()
    hub.presence = Presence(hub, roster, lease=15)
    hub.observers.append(hub.presence)
    hub.start()
    monkeypatch.setattr("webapp.presence.changes.MOST_BYTES", 120)
    selectors = [frozenset({letter * 30}) for letter in "abcd"]
    readers = [hub.subscribe(it, Grant(), Start()) for it in selectors]
    for reader in readers:
        hub.join(reader)
    with gevent.Timeout(PATIENCE):
        while not roster.subscribers():
            gevent.sleep(0.01)
        assert [name for name, _ in roster.subscribers()] == [readers[0].name]
        for reader in readers:
            hub.leave(reader)
        hub.join(readers[1])
        while [name for name, _ in roster.subscribers()] != [readers[1].name]:
            gevent.sleep(0.01)
    monkeypatch.setattr("webapp.presence.changes.MOST_BYTES", 400)
    many = [hub.subscribe(frozenset({letter * 30}), Grant(), Start()) for letter in "efghijk"]
    caplog.clear()
    for listed, waiting in zip(many, many[3:], strict=False):
        hub.join(listed)
        hub.join(waiting)
        hub.leave(listed)
    assert len(caplog.messages) <= 1  # at the limit, who leaves makes room for one
    hub.stop()


def announcement(number: int) -> Event:
    topics = (f"{PATH}/t/{number}",)
    event = Event(EventId(0, number), Draft(topics=topics, data=str(number), private=True))
    event.frame = encode(event.draft.data)
    return event


@pytest.mark.parametrize("steps", [(1,), (3, 1, 7), (40,)], ids=str)
def test_a_reader_that_is_busy_is_told_each_change_once_and_in_order(steps: tuple[int]) -> None:
    hub = make_hub()
    hub.start()
    grant = Grant(subscribe=frozenset({"*"}))
    readers = [Reader(hub.subscribe(frozenset({EVENTS, "t"}), grant, Start())) for _ in range(3)]
    deaf = Reader(hub.subscribe(frozenset({EVENTS, "t"}), Grant(), Start()))
    gevent.sleep(0.01)
    number = 0
    for step in steps * 20:
        events = [announcement(it) for it in range(number + 1, number + step + 1)]
        number += step
        hub.fanout.deliver_announced(events)
        hub.publish([Draft(topics=("t",), data=f"published {number}")])
        if number % 3 == 0:
            gevent.sleep(0)  # else they have not run since, and are not parked
    for reader in readers:
        data = reader.await_data(number + len(steps) * 20)
        assert [it for it in data if it.isdigit()] == [str(it) for it in range(1, number + 1)]
        assert len([it for it in data if not it.isdigit()]) == len(steps) * 20
    assert not [it for it in deaf.data() if it.isdigit()]
    hub.stop()


def test_a_reader_that_missed_changes_is_told_to_begin_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webapp.scheduling._SLICE", PATIENCE)
    hub = make_hub()
    hub.start()
    hub.fanout.transient.max_events = 5
    grant = Grant(subscribe=frozenset({"*"}))
    reader = Reader(hub.subscribe(frozenset({EVENTS}), grant, Start()))
    with gevent.Timeout(PATIENCE):
        while not reader.subscription.feed.parked:
            gevent.sleep(0.01)
    for number in range(1, 21):
        hub.fanout.deliver_announced([announcement(number)])  # the reader does not run in between
    with gevent.Timeout(PATIENCE):
        while "hub.reset" not in [it.type for it in reader.messages()]:
            gevent.sleep(0.01)
    assert [(it.type, it.data) for it in reader.messages()[1:]] == [
        ("message", "1"),
        ("hub.reset", '{"reason": "presence"}'),
    ]
    hub.fanout.reset_transient()
    with gevent.Timeout(PATIENCE):
        while [it.type for it in reader.messages()].count("hub.reset") < 2:
            gevent.sleep(0.01)
    hub.fanout.deliver_announced([announcement(22)])
    assert reader.await_data(2) == ["1", "22"]
    hub.stop()
