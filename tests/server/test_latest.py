"""`latest=1`: a stream that begins with the newest event of each topic."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.tokens import KEY, token

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server

PATHS = ["/events", "/.well-known/mercure"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("control", ["0", "1"])
def test_a_snapshot_has_one_id_and_no_header(
    server: Server, topic: str, path: str, control: str
) -> None:
    for data, name in (("old", "a"), ("1", "b"), ("2", "a")):
        server.publish(data, topic=f"{topic}/{name}", id=f"{topic} {data}")
    query: dict[str, Any] = {"topic": f"{topic}/{{x}}", "latest": "1", "control": control}
    with server.listen(path, **query) as stream:
        assert not {"last-event-id", "mercure-last-event-id"} & {*map(str.lower, stream.headers)}
        assert stream.take(2) == ["1", "2"]
        live = server.publish("3", topic=f"{topic}/c")
        assert stream.take(1) == ["3"]
        first, last, new = stream.ids[-3:]
        assert (first, new) == ("", live)
    with server.listen(path, last_event_id=last, **query) as stream:
        assert stream.headers["Last-Event-ID"] == last
        assert stream.take(1) == ["3"]


@pytest.mark.parametrize("path", PATHS)
def test_a_lost_cursor_is_no_refusal(server: Server, topic: str, path: str) -> None:
    server.publish("newest", topic=topic)
    for control in "01":
        query: dict[str, Any] = {"topic": topic, "control": control, "last_event_id": "lost"}
        with server.listen(path, latest="1", **query) as stream:
            assert "Last-Event-ID" not in stream.headers
            assert stream.take(1) == ["newest"]
            assert (b"event: hub.reset\n" in stream.raw) is (control == "1")


@pytest.mark.parametrize("value", ["2", "yes please", ""])
def test_another_value_is_refused(server: Server, value: str) -> None:
    answer = server.http.get("/events", params={"latest": value})
    assert answer.status_code == 400
    assert "latest" in answer.json()["detail"]


def test_private_events_are_in_a_snapshot_by_grant(serve: Callable[..., Server]) -> None:
    hub = serve(TIDINGS_JWT_KEY=KEY, TIDINGS_ANONYMOUS="1", TIDINGS_DEMO="0")
    publisher = {"Authorization": f"Bearer {token(publish=['*'])}"}
    for data, private in (("public", "0"), ("secret", "1")):
        form = {"topic": "t/1", "data": data, "private": private}
        hub.http.post("/events", data=form, headers=publisher).raise_for_status()
    for granted, seen in ((["t/{n}"], "secret"), (["u"], "public"), (None, "public")):
        bearer: dict[str, Any] = {"authorization": token(subscribe=granted)} if granted else {}
        with hub.listen(topic="t/{n}", latest="1", envelope="1", **bearer) as stream:
            assert json.loads(stream.take(1)[0])["data"] == seen
