"""A stream of the console: limits count it, and no number of the hub does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.metrics import OPERATOR, bearer, post, read, scrape, total
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server

pytestmark = pytest.mark.slow

COUNTED = ("streams_opened_total", "delivered_events_total", "delivered_bytes_total", "readers")
SUBSCRIPTIONS = "/.well-known/mercure/subscriptions"


def test_no_number_counts_it(hub: Server, topic: str) -> None:
    post(hub, 3, topic=topic)
    with (
        hub.listen(topic=topic, last=3, console=1, headers=OPERATOR) as console,
        hub.listen(topic=SUBSCRIPTIONS + "{/topic}{/id}", headers=OPERATOR) as presence,
        hub.listen(topic=topic, headers=OPERATOR) as subscriber,
    ):
        assert console.take(3) == ["0", "1", "2"]
        assert subscriber.next().type == presence.next().type == "hub.open"
        until(lambda: total(hub, "readers") == 2, "the others are counted")
        before = {name: total(hub, name) for name in COUNTED}
        with hub.listen(topic=[topic, "*"], console=1, headers=OPERATOR) as other:
            assert other.next().type == "hub.open"
            post(hub, 2, topic=topic)
            assert console.take(2) == other.take(2) == subscriber.take(2) == ["0", "1"]
        until(lambda: total(hub, "delivered_events_total") == before[COUNTED[1]] + 2, "one got two")
        assert total(hub, "readers") == 2
        assert total(hub, "streams_opened_total") == before[COUNTED[0]]
        assert read(hub)["readers"] == 2
        listed = hub.http.get(SUBSCRIPTIONS, headers=OPERATOR).json()["subscriptions"]
        assert sorted(it["topic"] for it in listed) == sorted(
            [topic, SUBSCRIPTIONS + "{/topic}{/id}"]
        )
    until(lambda: total(hub, "readers") == 0, "all have left")
    ended = sum(n for (name, _), n in scrape(hub).items() if name == "tidings_streams_ended_total")
    assert ended == total(hub, "streams_opened_total")


def test_without_a_key_all_may_ask_for_it_and_the_limits_count_it(
    serve: Callable[..., Server],
) -> None:
    server = serve(TIDINGS_MAX_SUBSCRIBERS_PER_IP="1", TIDINGS_DEMO="0")
    with server.listen(console=1) as console:
        assert console.next().type == "hub.open"
        for query in ("", "?console=1"):
            assert server.http.get(f"/events{query}").status_code == 429
        assert read(server)["readers"] == 0


def test_only_who_may_see_the_console_may_hide(hub: Server) -> None:
    for headers, status in (({}, 401), (bearer([]), 403), (bearer(["/{a}", "/topics"]), 403)):
        for wait in ("1", "0"):
            params = {"console": "1", "wait": wait}
            assert hub.http.get("/events", params=params, headers=headers).status_code == status
    params = {"console": "1", "wait": "0"}
    answer = hub.http.get("/events", params=params, headers=bearer(["/console/state"]))
    assert answer.status_code == 200
    assert hub.http.get("/events", params={"console": "2"}, headers=OPERATOR).status_code == 400
    assert hub.http.get("/events", params={"console": "0", "wait": "0"}).status_code == 200
