"""What the console shows of each open stream, of all workers, and how it ends one."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from support.presence import ALL, PATH, bearer, listed_on, subscriber_name
from support.redis_server import running_redis
from support.tokens import KEY
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.server import Server

pytestmark = pytest.mark.slow

CONNECTIONS = "/console/connections"
MAY_READ = [CONNECTIONS, PATH]


def connections(hub: Server, **query: Any) -> dict[str, Any]:
    answer = hub.http.get(CONNECTIONS, params=query, headers=ALL)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    found: dict[str, Any] = answer.json()
    return found


def all_answer(hub: Server, **query: Any) -> dict[str, Any]:
    """What both workers answer: one may be too busy for the first question."""
    while (found := connections(hub, **query))["processes"] != 2:
        pass
    return found


def test_it_shows_who_is_connected(hub: Server, topic: str) -> None:
    one = bearer([], ["/users/7"], sub="user-7")
    with (
        hub.listen(topic=["/users/7", topic], headers=one) as stream,
        hub.listen(topic=topic, console=1, headers=ALL) as console,
    ):
        name, other = subscriber_name(stream), subscriber_name(console)
        answer = hub.http.post("/events", data={"topic": topic, "data": "x"}, headers=ALL)
        assert answer.status_code == 200
        assert stream.take(1) == ["x"]
        found = {it["id"]: it for it in all_answer(hub, topic=topic)["connections"]}
        assert found.keys() == {name, other}
        since = found[name].pop("since")
        assert found[name] == {
            "id": name,
            "address": "127.0.0.1",
            "subject": "user-7",
            "topics": sorted(["/users/7", topic]),
            "more_topics": 0,
            "via": topic,
            "sent": 1,
            "lag": 0,
            "parked": True,
            "console": False,
        }
        assert found[other]["console"]
        counts = all_answer(hub, topic=topic)
        assert (counts["total"], counts["consoles"]) == (2, 1)
        assert since > 1.7e9
        for query in ({"subject": "user-7"}, {"topic": "/users/7"}):
            assert [it["id"] for it in all_answer(hub, **query)["connections"]] == [name]
        for query in ({"topic": f"/{topic}/8"}, {"subject": "x"}, {"address": "192.0.2.1"}):
            assert all_answer(hub, **query)["total"] == 0
        # The address is nowhere in presence, which other tokens may see.
        assert "127.0.0.1" not in str(listed_on(hub))


def test_streams_are_found_by_each_pattern_that_matches(hub: Server, topic: str) -> None:
    asked = f"/{topic}/7"
    patterns = [asked, f"/{topic}/{{id}}", "*", f"/{topic}", f"/{topic}/8"]
    with ExitStack() as stack:
        one = bearer([], [topic])  # no presence events
        streams = [stack.enter_context(hub.listen(topic=it, headers=one)) for it in patterns]
        names = [subscriber_name(it) for it in streams]

        def ways(topic: str) -> dict[str, str]:
            found = all_answer(hub, topic=topic)["connections"]
            return {it["id"]: it["via"] for it in found if it["id"] in names}

        assert ways(asked) == dict(zip(names, patterns[:3], strict=False))
        # A pattern is also the name of a topic.
        assert ways(patterns[1]) == dict(zip(names[1:], patterns[1:3], strict=False))
        assert ways("*") == {names[2]: "*"}
        hub.http.post("/events", data={"topic": asked, "data": "x"}, headers=ALL)
        assert [it.take(1) for it in streams[:3]] == [["x"]] * 3  # those get it


def test_its_pages_have_each_stream_once(hub: Server, topic: str) -> None:
    many = [f"{topic}-{number:0900}" for number in range(5)]  # too long to list all
    with ExitStack() as stack:
        names = [
            subscriber_name(stack.enter_context(hub.listen(topic=[*many, topic], headers=ALL)))
            for _ in range(40)
        ]
        until(lambda: all_answer(hub, topic=topic, limit=1)["total"] == 40, "all are there")
        found, after, pages = list[str](), "", 0
        while True:
            page = all_answer(hub, topic=topic, limit=7, after=after)
            assert len(page["connections"]) <= 7
            assert page["total"] == 40
            found += [it["id"] for it in page["connections"]]
            pages += 1
            if not page["more"]:
                break
            after = found[-1]
        assert found == sorted(names)
        assert pages >= 6
        row = page["connections"][0]
        assert len(row["topics"]) + row["more_topics"] == 6
        assert row["more_topics"]


def test_one_of_them_can_be_ended(hub: Server, topic: str) -> None:
    with hub.listen(topic=topic, headers=ALL) as one, hub.listen(topic=topic, headers=ALL) as two:
        name, _ = subscriber_name(one), subscriber_name(two)
        path = f"{CONNECTIONS}/{name}"
        for headers, status in (
            ({}, 401),
            (bearer([PATH], []), 403),
            (bearer([], MAY_READ), 403),
            (bearer([f"{PATH}/{{x}}"], MAY_READ), 403),
        ):
            assert hub.http.delete(path, headers=headers).status_code == status
        assert hub.http.delete(path, headers=bearer([PATH], [CONNECTIONS])).status_code == 204
        assert "kicked" in one.next().data
        hub.http.post("/events", data={"topic": topic, "data": "x"}, headers=ALL)
        assert two.take(1) == ["x"]
        assert hub.http.delete(path, headers=ALL).status_code == 204  # it has left already


@pytest.mark.parametrize("id", ["x", "urn:uuid:x", "*", "urn:uuid:" + "A" * 36, "%00", "[]"])
def test_what_is_no_id_is_refused(hub: Server, id: str) -> None:
    assert hub.http.delete(f"{CONNECTIONS}/{id}", headers=ALL).status_code == 400


def test_a_token_must_grant_presence_and_the_list(hub: Server) -> None:
    for headers, status in (
        ({}, 401),
        (bearer([], [CONNECTIONS]), 403),
        (bearer([], [PATH]), 403),
        (bearer([], ["/console/state", PATH]), 403),
        (bearer([], ["/{a}/{b}", "/{+all}"]), 403),
        (bearer([], MAY_READ), 200),
        (bearer([], ["/console/{page}", PATH]), 200),
    ):
        assert hub.http.get(CONNECTIONS, headers=headers).status_code == status


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "topic=a&topic=b", "topic=%00", "user=7",
              "subject=" + "x" * 1025],
)  # fmt: skip
def test_what_it_does_not_know_is_refused(hub: Server, query: str) -> None:
    assert hub.http.get(f"{CONNECTIONS}?{query}", headers=ALL).status_code == 400


def test_without_a_key_it_says_what_is_missing(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_DEMO="0")
    for answer in (
        server.http.get(CONNECTIONS),
        server.http.delete(f"{CONNECTIONS}/urn:uuid:00000000-0000-0000-0000-000000000000"),
    ):
        assert answer.status_code == 404
        assert "TIDINGS_JWT_KEY" in answer.json()["remedy"]


def test_it_shows_the_streams_of_all_machines(serve: Callable[..., Server], tmp_path: Path) -> None:
    with running_redis("redis-server", tmp_path) as log:
        options = {"TIDINGS_JWT_KEY": KEY, "TIDINGS_BROKER_URL": log.url}
        one, other = serve(**options), serve(**options)
        with one.listen(headers=ALL) as a, other.listen(headers=ALL) as b:
            names = sorted([subscriber_name(a), subscriber_name(b)])
            for hub in (one, other):
                assert [it["id"] for it in all_answer(hub)["connections"]] == names
            assert one.http.delete(f"{CONNECTIONS}/{names[0]}", headers=ALL).status_code == 204
            until(lambda: all_answer(other)["total"] == 1, "one has left")
