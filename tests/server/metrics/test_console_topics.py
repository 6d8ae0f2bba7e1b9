"""The busiest topics, as far as a token may see them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from support.metrics import OPERATOR, bearer, post
from support.waiting import until

if TYPE_CHECKING:
    from support.server import Server

pytestmark = pytest.mark.slow

BUSY = "/console/topics"
MAY_READ = [BUSY, "/topics"]


def rates(hub: Server, headers: dict[str, str] = OPERATOR, **query: Any) -> dict[str, float]:
    answer = hub.http.get(BUSY, params=query, headers=headers)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    found = answer.json()
    assert found["seconds"] == 60
    return {it["topic"]: round(it["rate"] * 60) for it in found["topics"]}


def test_it_shows_which_topic_is_noisy_in_every_worker(hub: Server, topic: str) -> None:
    post(hub, 30, topic=topic)
    post(hub, 20, topic=[f"{topic}/<b>", f"{topic}/other"])
    for _ in range(8):  # of two workers
        until(lambda: rates(hub).get(f"{topic}/other") == 20, "it has read them")
    found = rates(hub)
    assert (found[topic], found[f"{topic}/other"], found[f"{topic}/<b>"]) == (30, 20, 20)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert list(rates(hub, limit=1)) == [next(iter(found))]


def test_private_events_count_for_who_may_see_them(hub: Server, topic: str) -> None:
    post(hub, 5, topic=topic, private=True)
    post(hub, 5, topic=[f"{topic}/a", f"{topic}/b"], private=True)
    until(lambda: rates(hub).get(f"{topic}/b") == 5, "they are counted")
    own = rates(hub, bearer([*MAY_READ, f"{topic}/b"]))
    assert own[f"{topic}/b"] == 5
    assert not {topic, f"{topic}/a"} & own.keys()
    assert topic not in str(rates(hub, bearer(MAY_READ)))


def test_a_token_must_grant_both_paths(hub: Server) -> None:
    for granted, status in (
        ([BUSY], 403),
        (["/topics"], 403),
        (["/{a}/{b}"], 403),
        (MAY_READ, 200),
    ):
        assert hub.http.get(BUSY, headers=bearer(granted)).status_code == status
    assert hub.http.get(BUSY).status_code == 401
    assert hub.http.get(f"{BUSY}?limit=0", headers=OPERATOR).status_code == 400


def page(hub: Server, headers: dict[str, str] = OPERATOR, **query: Any) -> dict[str, Any]:
    answer = hub.http.get(BUSY, params=query, headers=headers)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    found: dict[str, Any] = answer.json()
    return found


def subscribers(found: dict[str, Any]) -> dict[str, int | None]:
    return {it["topic"]: it["subscribers"] for it in found["topics"]}


def test_it_counts_the_subscribers_of_all_workers(hub: Server, topic: str) -> None:
    names = [f"{topic}/{name}" for name in ("a", "b", "c", "private")]
    for name in names:
        post(hub, 1, topic=name, private=name.endswith("private"))
    pattern = f"{topic}/{{name}}"
    asked = [[names[0]]] * 6 + [names[:2], [names[0], pattern], [pattern], ["*"], [names[3]]]
    with ExitStack() as stack:
        for topics in asked:
            stack.enter_context(hub.listen(topic=topics)).next()
        console = hub.listen(topic=names[0], console="1", headers=OPERATOR)
        stack.enter_context(console).next()
        wanted = dict(zip(names, (8, 1, 0, 1), strict=True))
        for _ in range(8):  # of two workers
            until(lambda: subscribers(page(hub, topic=pattern)) == wanted, "all have counted")
        found = page(hub, topic=pattern)
        row = found["topics"][0]
        assert (row["topic"], row["events"], row["ended"]) == (names[0], 1, False)
        assert row["rate"] > 0
        assert {"pattern": pattern, "subscribers": 2} in found["patterns"]
        assert "*" in {it["pattern"] for it in found["patterns"]}
        busiest = subscribers(page(hub, limit=1000))
        assert {it: busiest[it] for it in names} == wanted
        own = page(hub, bearer([*MAY_READ, names[1]]), topic=pattern)
        del wanted[names[3]]
        assert subscribers(own) == wanted  # the events of these are public
        assert own["patterns"] == []


def test_it_has_pages(hub: Server, topic: str) -> None:
    names = [f"{topic}/{number}" for number in range(3)]
    for name in names:
        post(hub, 1, topic=name)
    until(lambda: len(page(hub, topic=f"{topic}/{{n}}")["topics"]) == 3, "it has read them")
    first = page(hub, topic=f"{topic}/{{n}}", limit=2)
    assert ([it["topic"] for it in first["topics"]], first["more"]) == (names[:2], True)
    last = page(hub, topic=f"{topic}/{{n}}", limit=2, after=names[1])
    assert ([it["topic"] for it in last["topics"]], last["more"]) == (names[2:], False)
