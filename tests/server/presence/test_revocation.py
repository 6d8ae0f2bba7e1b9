"""Streams that are ended on demand, and tokens that are revoked."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import gevent
import pytest

from support.hub import Subscriber, make_hub
from support.presence import ALL, PATH, bearer, list_path, listed_on, subscriber_name, token
from support.waiting import PATIENCE, until
from webapp.auth.authorizer import Grant
from webapp.brokers.memory_presence import MemoryPresenceStore
from webapp.brokers.presence_base import MAX_NOTICES
from webapp.errors import ServiceUnavailable
from webapp.hub.reads.start import Start
from webapp.presence.revocations import Revocation, Revocations
from webapp.presence.service import Presence

if TYPE_CHECKING:
    from support.server import Server

pytestmark = pytest.mark.slow


def test_a_topics_subscribers_are_sent_away_by_one_call_on_every_worker(
    hub: Server, topic: str
) -> None:
    with ExitStack() as stack:
        subscribers = [stack.enter_context(hub.listen(topic=topic)) for _ in range(8)]
        stays = stack.enter_context(hub.listen(topic=f"{topic}-other"))
        subscriber_name(stays)
        until(lambda: len(listed_on(hub, topic)) == 8, "all are listed")
        assert hub.http.delete(list_path(topic), headers=bearer([], ["*"])).status_code == 403
        assert hub.http.delete(list_path(topic)).status_code == 401
        assert hub.http.delete(list_path(topic), headers=ALL).status_code == 204
        for subscriber in subscribers:
            assert subscriber.rest()[-1].data == '{"reason": "kicked"}'
        hub.http.post("/events", data={"topic": f"{topic}-other", "data": "on"}, headers=ALL)
        assert stays.take(1) == ["on"]
        missing = hub.http.delete(list_path(topic, "urn:uuid:nobody"), headers=ALL)
        assert missing.status_code == 404


def test_a_revoked_token_is_refused_and_its_streams_end(hub: Server, topic: str) -> None:
    stolen, other = token(["*"], ["*"], jti=topic), token(["*"], ["*"], jti=f"{topic}2")
    with (
        hub.listen(headers={"Authorization": f"Bearer {stolen}"}, topic=topic) as thief,
        hub.listen(headers={"Authorization": f"Bearer {other}"}, topic=topic) as owner,
    ):
        subscriber_name(owner)
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
        until(lambda: listed_on(hub, topic), "it is listed")
        for disguised in (f"{PATH.replace('s', '%73')}/other", f"{PATH}%2Fother"):
            for method in ("GET", "DELETE"):
                answer = hub.http.request(method, disguised, headers=ALL)
                assert answer.status_code == 404
        assert listed_on(hub, topic)


def test_what_cannot_be_revoked_is_refused_with_a_reason(hub: Server) -> None:
    url = "/.well-known/mercure/revocations"
    assert hub.http.post(url, data={"token": "nonsense"}, headers=ALL).status_code == 404
    assert hub.http.post(url, data={}, headers=ALL).status_code == 400
    both = {"token": token(), "subject": "joe"}
    assert hub.http.post(url, data=both, headers=ALL).status_code == 400
    assert hub.http.post(url, data={"subject": "x" * 1025}, headers=ALL).status_code == 400
    assert hub.http.post(url, data={"subject": "joe"}).status_code == 401
    assert hub.http.post(url, data={"subject": "joe"}, headers=bearer(["x"])).status_code == 403


def test_who_missed_the_notices_refuses_what_was_revoked_all_the_time() -> None:
    hub, store = make_hub(), Unread()
    presence = Presence(hub, store, lease=0.6)
    hub.observers.append(presence)
    hub.start()
    joe, ann = (Grant(subject=name, issued=1.0) for name in ("joe", "ann"))
    presence.revoke(Revocation("subject", "ann", time.time()), None)
    thief = Subscriber(hub.subscribe(frozenset({"t"}), joe, Start()))
    gevent.sleep(0.01)
    store.revoke(json.dumps(Revocation("subject", "joe", time.time())), time.time() + 60, "#")
    for _ in range(MAX_NOTICES):
        store.broadcast("![]")
    store.away = True
    with gevent.Timeout(PATIENCE):
        while not store.asked:
            gevent.sleep(0.01)
        assert presence.is_revoked(ann)  # as before
        store.away = False
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
        presence.revoke(Revocation("subject", "joe", moment), None)
    assert presence.is_revoked(Grant(subject="joe", issued=99.0))
    assert not presence.is_revoked(Grant(subject="joe", issued=101.0))


@pytest.mark.parametrize("issued", [None, 1e3, 4e9, 4e12])  # long ago, ahead, and in ms
def test_a_revoked_token_is_refused_whatever_its_issuers_clock(
    issued: float | None,
) -> None:
    presence = Presence(make_hub(), MemoryPresenceStore(), lease=15)
    presence.revoke(Revocation("token", "abc", time.time()), None)
    assert presence.is_revoked(Grant(token_id="abc", subject="joe", issued=issued))
    assert not presence.is_revoked(Grant(token_id="abd", subject="joe", issued=issued))


def test_a_revocation_of_a_subject_is_one_row_and_ends() -> None:
    store, day = MemoryPresenceStore(), 86400
    presence, now = Presence(make_hub(), store, lease=15), time.time()
    for at in (now - 29 * day, now - 1, now - 2):
        presence.revoke(Revocation("subject", "joe", at), None)
    store.revoke_subject("ann", now - 31 * day, 0.0, "#")
    assert store.subjects() == [("joe", now - 1), ("ann", now - 31 * day)]
    early = Revocations(store, 30 * day)
    early.load()
    assert not early.is_revoked(Grant(subject="ann"))  # it is over
    presence.revoke(Revocation("subject", "eve", now), None)
    assert store.subjects() == [("joe", now - 1), ("eve", now)]
    other = Revocations(store, 30 * day)
    other.load()
    for one in (presence, other):
        assert one.is_revoked(Grant(subject="joe", issued=now - 1))
        assert one.is_revoked(Grant(subject="joe"))
        assert not one.is_revoked(Grant(subject="joe", issued=now))


def test_revocations_that_a_hub_of_before_wrote_down_for_ever_end_too() -> None:
    store, now = MemoryPresenceStore(), time.time()
    for name, at in (("joe", now - 10), ("ann", now - 86400)):
        store.revoke(json.dumps(["subject", name, at]), now + 1e9, "#")
    revocations = Revocations(store, 3600)
    revocations.load()
    assert revocations.is_revoked(Grant(subject="joe", issued=now - 11))
    assert not revocations.is_revoked(Grant(subject="ann", issued=now - 86401))


@pytest.mark.parametrize("name", ["topic", "topics", "subscriber", "utm_source"])
def test_a_parameter_does_not_disconnect_everybody(hub: Server, topic: str, name: str) -> None:
    with hub.listen(topic=topic) as stream:
        subscriber_name(stream)
        answer = hub.http.delete(PATH, params={name: topic}, headers=ALL)
        assert answer.status_code == 400
        assert f'There is no parameter "{name}".' in answer.json()["detail"]
        hub.http.post("/events", data={"topic": topic, "data": "on"}, headers=ALL)
        assert stream.take(1) == ["on"]


@pytest.mark.parametrize(
    "form",
    [{"subject": ["a", "b"]}, {"token": "x", "subject": "a"}, {"subject": "a", "Token": "x"}, {}],
    ids=str,
)
def test_a_revocation_is_of_one_token_or_one_subject(
    hub: Server, form: dict[str, str | list[str]]
) -> None:
    answer = hub.http.post("/.well-known/mercure/revocations", data=form, headers=ALL)
    assert answer.status_code == 400


@pytest.mark.parametrize("name", ["subject", "token", "subjects"])
def test_a_url_does_not_say_what_to_revoke(hub: Server, topic: str, name: str) -> None:
    path, query = "/.well-known/mercure/revocations", {name: topic}
    for form in ({}, {"subject": f"{topic}2"}):
        answer = hub.http.post(path, params=query, data=form, headers=ALL)
        assert answer.status_code == 400
        assert f'There is no parameter "{name}".' in answer.json()["detail"]
    sent = {"Authorization": f"Bearer {token(['*'], ['*'], sub=f'{topic}2')}"}
    assert hub.http.post("/events", data={"data": "on"}, headers=sent).status_code == 200


def test_a_revocation_in_json_is_told_to_be_a_form(hub: Server, topic: str) -> None:
    path = "/.well-known/mercure/revocations"
    answer = hub.http.post(path, json={"subject": topic}, headers=ALL)
    assert answer.status_code == 415
    assert answer.json()["detail"] == "A revocation is a form, and not JSON."
