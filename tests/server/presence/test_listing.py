"""The list of subscriptions: as Mercure describes it, for those who may read it."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

import gevent
import pytest
from flask import Flask

from support.hub import make_hub
from support.presence import ALL, EVENTS, PATH, bearer, list_path, listed_on, subscriber_name
from support.tokens import KEY
from support.waiting import PATIENCE, until
from webapp.auth.authorizer import Authorizer
from webapp.brokers.memory_presence import MemoryPresenceStore
from webapp.core.events import Draft
from webapp.presence.service import Presence
from webapp.views import error_handlers, presence
from webapp.views.services import Services

if TYPE_CHECKING:
    from support.server import Server

pytestmark = pytest.mark.slow


def test_a_subscription_is_listed_as_mercure_describes_it(hub: Server, topic: str) -> None:
    pattern = f"https://example.com/{topic}/{{id}}"
    mine = bearer(subscribe=["x"], payload={"user": "ü"})
    with hub.listen(headers=mine, topic=[pattern, topic]) as stream:
        subscriber = subscriber_name(stream)
        until(lambda: listed_on(hub, pattern), "it is listed")
        answer = hub.http.get(list_path(pattern), headers=ALL)
        assert answer.headers["Content-Type"] == "application/ld+json"
        document = answer.json()
        expected = {
            "id": list_path(pattern, subscriber),
            "type": "Subscription",
            "topic": pattern,
            "subscriber": subscriber,
            "active": True,
            "payload": {"user": "ü"},
        }
        assert document.pop("lastEventID")
        assert document == {
            "@context": "https://mercure.rocks/",
            "id": list_path(pattern),
            "type": "Subscriptions",
            "subscriptions": [expected],
        }
        one = hub.http.get(list_path(pattern, subscriber), headers=ALL).json()
        assert one.pop("lastEventID")
        assert one == {"@context": "https://mercure.rocks/", **expected}
        assert {it["topic"] for it in listed_on(hub) if it["subscriber"] == subscriber} == {
            pattern,
            topic,
        }
    until(lambda: not listed_on(hub, pattern), "it is listed no more")
    assert hub.http.get(list_path(pattern, subscriber), headers=ALL).status_code == 404


def test_a_listing_is_sent_again_only_when_it_has_changed(hub: Server, topic: str) -> None:
    with hub.listen(topic=topic):
        until(lambda: listed_on(hub, topic), "it is listed")
        first = hub.http.get(list_path(topic), headers=ALL)
        same = {**ALL, "If-None-Match": first.headers["ETag"]}
        assert hub.http.get(list_path(topic), headers=same).status_code == 304
        with hub.listen(topic=topic):
            until(lambda: len(listed_on(hub, topic)) == 2, "both are listed")
            assert hub.http.get(list_path(topic), headers=same).status_code == 200


def test_a_listing_is_sent_again_when_its_cursor_has_changed(hub: Server) -> None:
    until(lambda: not listed_on(hub), "the subscribers of other tests are forgotten")
    first = hub.http.get(PATH, headers=ALL)
    same = {**ALL, "If-None-Match": first.headers["ETag"]}
    assert hub.http.get(PATH, headers=same).status_code == 304
    published = hub.http.post("/events", data={"data": "x"}, headers=ALL).text.strip()

    def newest() -> bool:
        answer = hub.http.get(PATH, headers=same)
        return answer.status_code == 200 and bool(answer.json()["lastEventID"] == published)

    until(newest, "it names the event")


def test_a_decoded_path_names_the_only_topic_that_it_can_be_of(hub: Server, topic: str) -> None:
    one = f"/{topic}/a/"
    with hub.listen(topic=one) as stream:
        subscriber = subscriber_name(stream)
        until(lambda: listed_on(hub, one), "it is listed")
        decoded = f"{PATH}/{quote(topic)}/a"
        for path in (decoded, f"{decoded}/{subscriber}", f"{PATH}//{quote(topic)}//a//"):
            for headers in (ALL, bearer([], [EVENTS])):
                assert hub.http.get(path, headers=headers).json()[
                    "topic" if "urn" in path else "id"
                ]
            narrow = bearer([], [list_path(one), list_path(topic, "a") + "{/subscriber}"])
            assert hub.http.get(path, headers=narrow).status_code == 403
            assert hub.http.delete(path, headers=bearer([], ["*"])).status_code == 403
        assert hub.http.get(decoded, headers=ALL).json()["id"] == list_path(one)
        for other in (f"{topic}/a", f"/{topic}//a"):
            with hub.listen(topic=other):
                until(partial(listed_on, hub, other), "both are listed")
                assert hub.http.get(decoded, headers=ALL).status_code == 404
                assert hub.http.delete(decoded, headers=ALL).status_code == 404
                assert hub.http.get(f"{decoded}/{subscriber}", headers=ALL).json()["topic"] == one


def test_a_grant_counts_however_a_path_is_written(hub: Server, topic: str) -> None:
    with hub.listen(topic=topic) as stream:
        subscriber = subscriber_name(stream)
        until(lambda: listed_on(hub, topic), "it is listed")
        granted = bearer([list_path(topic, subscriber)], [])
        plain = f"{PATH}/{quote(topic)}/{subscriber}"
        assert hub.http.delete(plain, headers=granted).status_code == 204


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (bearer(["*"], []), 403),
        (bearer([], ["/elsewhere", list_path("another")]), 403),
        (bearer([], ["*"]), 200),
        (bearer([], [list_path("the topic")]), 200),
        (bearer([], [EVENTS]), 200),
    ],
    ids=["none", "publishing only", "another", "all", "exact", "template"],
)
def test_a_listing_is_for_those_whose_token_covers_its_path(
    hub: Server, headers: dict[str, str], status: int
) -> None:
    answer = hub.http.get(list_path("the topic"), headers=headers)
    assert answer.status_code == status
    if status >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_without_a_key_there_is_no_presence(server: Server) -> None:
    assert server.http.get(PATH).status_code == 404
    with server.listen() as stream:
        assert "subscriber" not in json.loads(stream.next().data)


def test_before_the_first_stream_the_list_is_empty_and_names_where_to_begin() -> None:
    hub = make_hub(jwt_key=(KEY,))
    service = Presence(hub, MemoryPresenceStore(), lease=15)
    app = Flask("not started")
    app.extensions["tidings"] = Services(hub, Authorizer(hub.settings), service)
    app.register_blueprint(presence.bp)
    empty = app.test_client().get(PATH, headers=ALL)
    assert json.loads(empty.get_data())["lastEventID"] == "earliest"
    [event] = hub.broker.append([Draft(topics=("t",))])
    with gevent.Timeout(PATIENCE):
        while hub.head() != event.position:
            gevent.sleep(0.01)
    answer = app.test_client().get(PATH, headers=ALL)
    assert answer.status_code == 200
    found = json.loads(answer.get_data())
    assert (found["subscriptions"], found["lastEventID"]) == ([], event.id)
    hub.stop()


class LeavingClient:
    """The connection of a client that has disconnected when the hub looks for the third time."""

    looks = 0

    def check_client(self) -> None:
        self.looks += 1
        if self.looks == 3:
            raise BrokenPipeError


@pytest.mark.parametrize("looks_before", [0, -1500])
def test_a_listing_ends_soon_after_its_client_has_left(
    monkeypatch: pytest.MonkeyPatch, looks_before: int
) -> None:
    monkeypatch.setattr("webapp.scheduling._SLICE_S", -1)
    hub, store, client = make_hub(jwt_key=(KEY,)), MemoryPresenceStore(), LeavingClient()
    client.looks = looks_before
    record = json.dumps({"topics": ["t"]})
    monkeypatch.setattr(store, "subscribers", lambda _: [(f"s{n}", record) for n in range(1000)])
    app = Flask("listing")
    app.extensions["tidings"] = Services(hub, Authorizer(hub.settings), Presence(hub, store, 15))
    app.register_blueprint(presence.bp)
    error_handlers.init_app(app)
    overrides = {"tidings.connection": client}
    answer = app.test_client().get(PATH, headers=ALL, environ_overrides=overrides)
    assert client.looks == 3
    assert answer.status_code == 400
    assert "closed its side" in json.loads(answer.get_data())["detail"]
    hub.stop()
