"""Topics of the hub's own: nobody else publishes to them, and patterns do not grant them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.presence import ALL, EVENTS, PATH, bearer, list_path, next_documents, subscriber_name

if TYPE_CHECKING:
    from support.server import Server

pytestmark = pytest.mark.slow

TENANT = ["/{tenant}/{room}/{user}", "/{room}", "/{tenant}/{room}", "{/path*}", "{+path}"]


def test_a_pattern_that_was_meant_for_rooms_grants_nothing_of_the_hub(
    hub: Server, topic: str
) -> None:
    tenant = bearer(TENANT, TENANT)
    with (
        hub.listen(headers=tenant, topic=["{+all}", topic]) as stream,
        hub.listen(headers=bearer(subscribe=[EVENTS]), topic=[EVENTS, topic]) as watcher,
    ):
        subscriber_name(stream)
        next_documents(watcher, 1)
        for method, of_the_hub in (
            ("GET", PATH),
            ("GET", list_path(topic)),
            ("GET", "/metrics"),
            ("GET", "/console/state"),
            ("DELETE", PATH),
            ("DELETE", list_path(topic)),
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
    list_path("t", "s"),
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
def test_nobody_can_publish_a_made_up_subscriber(hub: Server, reserved: str) -> None:
    answer = hub.http.post("/events", data={"topic": ["fine", reserved]}, headers=ALL)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "fine", ["/.well-known/mercurey", "mercure", "100%", "/x/.well-known/mercure"]
)
def test_topics_that_only_look_like_the_hubs_are_fine(hub: Server, fine: str) -> None:
    assert hub.http.post("/events", data={"topic": fine}, headers=ALL).status_code == 200
