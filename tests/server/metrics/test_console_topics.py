"""The busiest topics, as far as a token may see them."""

from __future__ import annotations

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
        until(lambda: rates(hub).get(topic) == 30, "it has read them")
    found = rates(hub)
    assert found[f"{topic}/other"] == found[f"{topic}/<b>"] == 20
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
