"""`DELETE /events`: remove one event, or all of a topic."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from support.tokens import KEY, authorization, token
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpx import Response

    from support.server import Server

MERCURE = "/.well-known/mercure"


def delete(server: Server, path: str = "/events", **query: Any) -> Response:
    headers = query.pop("headers", None)
    return server.http.delete(path, params=query, headers=headers)


def deleted(server: Server, **query: Any) -> int:
    answer = delete(server, **query)
    assert answer.status_code == 200, answer.text
    count: int = answer.json()["deleted"]
    return count


@pytest.mark.parametrize("path", ["/events", MERCURE])
def test_one_event_is_removed_by_either_id(server: Server, topic: str, path: str) -> None:
    by_position = server.publish("1", topic=[topic, f"{topic}/alternate"])
    server.publish("2", topic=topic, id=f"{topic} own")
    last = server.publish("3", topic=topic)
    assert deleted(server, path=path, topic=topic, id=by_position) == 1
    assert deleted(server, path=path, topic=topic, id=f"{topic} own") == 1
    assert deleted(server, path=path, topic=topic, id=by_position) == 0
    with server.listen(topic=[topic, f"{topic}/alternate"], last="9") as stream:
        assert stream.take(1) == ["3"]
        assert stream.ids[-1] == last


def test_a_topic_is_removed_but_not_where_it_is_an_alternate(server: Server, topic: str) -> None:
    for data, topics in (("1", [topic]), ("2", [f"{topic}/other", topic]), ("3", [topic])):
        server.publish(data, topic=topics)
    assert deleted(server, topic=topic) == 2
    assert deleted(server, topic=topic) == 0
    server.publish("4", topic=topic)
    with server.listen(topic=topic, last="9") as stream:
        assert stream.take(2) == ["2", "4"]
    listed = server.http.get("/topics", params={"topic": [topic, f"{topic}/other"]}).json()
    assert [(it["topic"], it["events"]) for it in listed["topics"]] == [
        (topic, 2),
        (f"{topic}/other", 1),
    ]


def test_what_is_unknown_is_none(server: Server, topic: str) -> None:
    known = server.publish("1", topic=[topic, f"{topic}/alternate"])
    for query in (
        {"topic": f"{topic}/alternate", "id": known},
        {"topic": f"{topic}/alternate"},
        {"topic": topic, "id": "1-1"},
        {"topic": topic, "id": "no such"},
    ):
        assert deleted(server, **query) == 0
    with server.listen(topic=topic, last="1") as stream:
        assert stream.take(1) == ["1"]


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"topic": ""},
        {"topic": "*"},
        {"topic": "a/{id}"},
        {"topic": ["a", "b"]},
        {"topic": "a", "id": ""},
        {"topic": "a", "id": ["1", "2"]},
        {"topic": "a", "ids": "1"},
        {"topics": "a"},
        {"topic": "a", "all": "1"},
    ],
    ids=str,
)
def test_no_mistake_removes_anything(server: Server, query: dict[str, Any]) -> None:
    for path in ("/events", MERCURE):
        answer = delete(server, path, **query)
        assert answer.status_code == 400
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_cursor_at_a_removed_event_goes_on(server: Server, topic: str) -> None:
    plain = server.publish("1", topic=topic)
    own = f"{topic} own"
    server.publish("2", topic=topic, id=own)
    server.publish("3", topic=topic)
    assert deleted(server, topic=topic, id=plain) == deleted(server, topic=topic, id=own) == 1
    for cursor in (plain, own):
        with server.listen(topic=topic, last_event_id=cursor) as stream:
            assert stream.take(1) == ["3"]
            assert b"hub.reset" not in stream.raw
    assert server.publish("2", topic=topic, id=own) == own
    with server.listen(topic=topic, last="9") as stream:
        assert stream.take(1) == ["3"]
    other = server.http.post("/events", data={"topic": topic, "data": "4", "id": own})
    assert other.status_code == 409


def test_a_removal_sends_nothing_and_uncovers_the_event_before(server: Server, topic: str) -> None:
    server.publish("old", topic=topic)
    new = server.publish("new", topic=topic)
    with server.listen(topic="*", envelope="1") as everything:
        assert deleted(server, topic=topic, id=new) == 1
        server.publish("next", topic=f"{topic}/other")
        [message] = everything.messages(1)
        assert '"data":"next"' in message.data
    with server.listen(topic=topic, latest="1") as stream:
        assert stream.take(1) == ["old"]


def test_the_console_of_another_origin_removes_nothing(
    serve: Callable[..., Server], server: Server
) -> None:
    server.publish("1", topic="csrf")
    foreign = {"Origin": "https://elsewhere.example"}
    assert delete(server, topic="csrf", headers=foreign).status_code == 403
    site = {"Sec-Fetch-Site": "cross-site"}
    assert delete(server, topic="csrf", headers=site).status_code == 403
    allowed = serve(
        TIDINGS_PUBLISH_ORIGINS="https://elsewhere.example",
        TIDINGS_CORS_ORIGINS="https://elsewhere.example",
    )
    allowed.publish("1", topic="csrf")
    preflight = allowed.http.options(
        "/events", headers={**foreign, "Access-Control-Request-Method": "DELETE"}
    )
    assert "DELETE" in preflight.headers["Access-Control-Allow-Methods"]
    assert delete(allowed, topic="csrf", headers=foreign).json() == {"deleted": 1}


def test_the_token_must_grant_all_topics_of_an_event(serve: Callable[..., Server]) -> None:
    server = serve(TIDINGS_JWT_KEY=KEY)
    everything = authorization(token(publish=["*"], subscribe=["*"]))
    narrow = authorization(token(publish=["a"], subscribe=["*"]))

    def publish(**fields: Any) -> str:
        answer = server.http.post("/events", data=fields, headers=everything)
        return answer.text.strip()

    both = publish(topic=["a", "b"], data="1")
    private = publish(topic=["a", "b"], data="2", private="on")
    own = publish(topic="a", data="3")
    assert delete(server, topic="a").status_code == 401
    assert delete(server, topic="b", headers=narrow).status_code == 403
    assert delete(server, topic="a", id=both, headers=narrow).status_code == 403
    assert delete(server, topic="a", headers=narrow).status_code == 403
    assert delete(server, topic="a", id=private, headers=narrow).json() == {"deleted": 0}
    assert delete(server, topic="a", id=own, headers=narrow).json() == {"deleted": 1}
    assert delete(server, topic="a", headers=everything).json() == {"deleted": 2}
    assert (
        delete(server, topic="a", headers=authorization(token(subscribe=["*"]))).status_code == 403
    )


def test_an_open_hub_that_others_can_reach_removes_nothing(serve: Callable[..., Server]) -> None:
    server = serve("-b", "0.0.0.0:0", TIDINGS_OPEN="1", TIDINGS_DEMO="0")
    server.publish("1", topic="t")
    answer = delete(server, topic="t")
    assert answer.status_code == 403
    assert "TIDINGS_JWT_KEY" in answer.json()["remedy"]
    with server.listen(topic="t", last=1) as stream:
        assert stream.take(1) == ["1"]


def test_two_workers_a_roll_and_a_restart_remove_the_same(
    serve: Callable[..., Server], tmp_path: Any
) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    server = serve("-w", "2", TIDINGS_BROKER_URL=url, TIDINGS_DEMO="0")
    first = server.publish("first", topic="t")
    for n in range(50):
        server.publish(str(n), topic="t")
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda n: deleted(server, topic="t") if n else 0, range(8)))
    assert sum(counts) == 51
    last = server.publish("last", topic="t")

    def seen(_: int) -> bool:
        with server.listen(topic="t", last_event_id=first) as stream:
            return stream.take(1) == ["last"]

    until(lambda: all(map(seen, range(8))), "both workers have followed")
    workers = server.log.count("Booting worker")
    server.process.send_signal(signal.SIGHUP)
    until(lambda: server.log.count("Booting worker") == workers + 2, "both are replaced")
    until(lambda: server.log.count("Worker exiting") == 2, "the old ones have gone")
    assert all(map(seen, range(8)))
    server.stop()
    again = serve(TIDINGS_BROKER_URL=url)
    with again.listen(topic="t", last_event_id=first) as stream:
        assert stream.take(1) == ["last"]
        assert stream.ids[-1] == last
        assert b"hub.reset" not in stream.raw
