"""`GET /topics` lists topics."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.cli import tidings
from support.tokens import KEY, authorization, token

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server


def listed(server: Server, headers: dict[str, str] | None = None, **query: Any) -> dict[str, Any]:
    answer = server.http.get("/topics", params=query, headers=headers or {})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def names(page: dict[str, Any]) -> list[str]:
    return [it["topic"] for it in page["topics"]]


def test_a_topic_that_several_patterns_match_is_listed_once(server: Server, topic: str) -> None:
    for name in ("a", "ab", "ab/1", "abc"):
        server.publish(topic=f"{topic}{name}")
    exact = [f"{topic}{name}" for name in ("ab", "a", "none", "abc")]
    page = listed(server, topic=[*exact, f"{topic}ab/{{n}}", f"{topic}ab/1"])
    assert names(page) == [f"{topic}{name}" for name in ("a", "ab", "ab/1", "abc")]
    assert names(listed(server, topic=exact, after=f"{topic}ab")) == [f"{topic}abc"]
    assert listed(server, topic=f"{topic}a")["more"] is False


@pytest.fixture(name="keyed", scope="module")
def _keyed(serve: Callable[..., Server]) -> Server:
    """A hub with a key that has public and private events."""
    hub = serve(
        TIDINGS_JWT_KEY=KEY,
        TIDINGS_ANONYMOUS="1",
        TIDINGS_DEMO="0",
        TIDINGS_CORS_ORIGINS="https://app.example",
    )
    publisher = authorization(token(publish=["*"]))
    for topics, private in (
        (["mixed"], 0),
        (["mixed", "/users/1"], 1),
        (["mixed", "/users/2"], 1),
        (["secret", "/users/2"], 1),
    ):
        form = {"topic": topics, "data": "x", "private": private}
        hub.http.post("/events", data=form, headers=publisher).raise_for_status()
    return hub


def test_topics_are_listed_by_pattern_and_in_pages(server: Server, topic: str) -> None:
    names_ = [f"{topic}/{name}" for name in ("a", "b", "c/1", "é", "🎈")]
    for name in names_[::-1]:
        server.publish(topic=name)
    last = server.publish(topic=[names_[1], names_[0]], id=f"{topic} own")
    assert last == f"{topic} own"
    page = listed(server, topic=f"{topic}/{{+x}}")
    assert (names(page), page["more"]) == (names_[:3], False)  # a URI template has no é
    first = page["topics"][0]
    assert first["events"] == 2
    assert first["last_id"].startswith(f"{first['time']}-")
    by_name = listed(server, topic=[names_[4], names_[3], "nobody's"])
    assert names(by_name) == names_[3:]
    found = list[str]()
    for more in (True, False):
        after = found[-1] if found else ""
        page = listed(server, topic=[f"{topic}/{{+x}}", names_[3]], limit=2, after=after)
        assert page["more"] is more
        found += names(page)
    assert found == names_[:4]
    assert set(names_) <= set(names(listed(server, limit=1000)))


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "after=%00", "limits=1", "limit=1&limit=2"]
)
def test_what_is_wrong_in_the_query_is_refused(server: Server, query: str) -> None:
    assert server.http.get(f"/topics?{query}").status_code == 400


def test_a_token_sees_only_topics_of_which_it_may_see_an_event(keyed: Server) -> None:
    for granted, expected in (
        (["/topics"], {"mixed": 1}),
        (["/topics", "/users/1"], {"mixed": 2, "/users/1": 1}),
        (["/topics", "/users/2"], {"mixed": 2, "secret": 1, "/users/2": 2}),
        (["/topics", "secret"], {"mixed": 1, "secret": 1, "/users/2": 1}),
        (["*"], {"mixed": 3, "secret": 1, "/users/1": 1, "/users/2": 2}),
    ):
        page = listed(keyed, authorization(token(subscribe=granted)))
        assert {it["topic"]: it["events"] for it in page["topics"]} == expected, granted


def test_where_there_is_a_key_the_token_must_grant_the_path(keyed: Server) -> None:
    assert keyed.http.get("/topics").status_code == 401
    for granted in (["mixed"], ["/{any}"], ["{+any}"]):
        headers = authorization(token(subscribe=granted))
        assert keyed.http.get("/topics", headers=headers).status_code == 403


def test_it_answers_as_other_views_do(keyed: Server) -> None:
    headers = authorization(token(subscribe=["*"])) | {"Origin": "https://app.example"}
    answer = keyed.http.get("/topics", headers=headers)
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    unchanged = keyed.http.get(
        "/topics", headers=headers | {"If-None-Match": answer.headers["ETag"]}
    )
    assert unchanged.status_code == 304
    head = keyed.http.head("/topics", headers=headers)
    assert (head.status_code, head.text) == (200, "")
    assert "GET" in keyed.http.options("/topics").headers["Allow"]
    assert keyed.http.post("/topics").status_code == 405


def test_the_command_lists_all_pages(server: Server, topic: str) -> None:
    wanted = [f"{topic}/{number:03}" for number in range(230)]
    events = [{"topic": name, "data": "x"} for name in wanted]
    server.http.post("/events", json=events).raise_for_status()
    printed = tidings("topics", f"{topic}/{{n}}", TIDINGS_URL=server.url)
    assert printed.stdout.splitlines() == wanted
    printed = tidings("topics", wanted[7], "--json", TIDINGS_URL=server.url)
    assert json.loads(printed.stdout)["events"] == 1


def test_the_command_says_what_the_hub_refuses(keyed: Server) -> None:
    printed = tidings("topics", TIDINGS_URL=keyed.url, TIDINGS_TOKEN=token(subscribe=["mixed"]))
    assert printed.returncode == 1
    assert "/topics" in printed.stderr
