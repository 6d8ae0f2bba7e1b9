"""No spelling sends an event to the wrong place, or gives a subscriber the wrong topic."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.tokens import KEY, authorization, token

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server

PATHS = ("/events", "/.well-known/mercure")
ALL = authorization(token(publish=["*"], subscribe=["*"]))
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
BODIES = {
    "form": (FORM, "data=secret"),
    "multipart": (
        "multipart/form-data; boundary=b",
        '--b\r\nContent-Disposition: form-data; name="data"\r\n\r\nsecret\r\n--b--\r\n',
    ),
    "json": (JSON, '{"data": "secret"}'),
    "array": (JSON, '[{"data": "secret"}]'),
    "lines": ("application/x-ndjson", '{"data": "secret"}\n'),
    "text": ("text/plain", "secret"),
}


@pytest.fixture(name="keyed", scope="module")
def _keyed(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY, TIDINGS_DEMO="0")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("kind", "body"), BODIES.values(), ids=BODIES)
def test_the_url_makes_an_event_of_any_body_private(
    keyed: Server, topic: str, kind: str, body: str, path: str
) -> None:
    with keyed.listen(topic="*") as stranger, keyed.listen(topic=topic, headers=ALL) as granted:
        queries: list[dict[str, str]] = [{"type": "t"}, {"id": f"id-{topic}"}]
        for query in queries:
            answer = keyed.http.post(
                path,
                params={"topic": topic, "private": "1", **query},
                content=body,
                headers={"Content-Type": kind, **ALL},
            )
            assert answer.status_code == 200, answer.text
        first, second = granted.messages(2)
        assert (first.data, first.type) == ("secret", "t")
        assert (second.data, second.id) == ("secret", f"id-{topic}")
        keyed.http.post("/events", data={"data": "end"}, headers=ALL)
        assert stranger.take(1) == ["end"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "name", ["privat", "Private", "private[]", "privates", "pirvate", " private", "amp;private"]
)
def test_no_spelling_of_private_publishes_to_everybody(
    keyed: Server, topic: str, path: str, name: str
) -> None:
    fields = {"topic": topic, "data": "secret"}
    requests: list[dict[str, Any]] = [
        {"data": {**fields, name: "1"}},
        {"files": {field: (None, it) for field, it in {**fields, name: "1"}.items()}},
        {"json": {**fields, name: True}},
        {"json": [fields, {**fields, name: True}]},
        {"params": {name: "1"}, "data": fields},
        {"params": {name: "1", "topic": topic}, "content": "secret"},
        {"params": {name: "1", "topic": topic, "raw": "1"}, "content": "secret"},
    ]
    with keyed.listen(topic=[topic, "events"], headers=ALL) as granted:
        for request in requests:
            answer = keyed.http.post(path, headers=ALL, **request)
            assert answer.status_code == 400, (request, answer.text)
            assert 'Did you mean "private"?' in answer.json()["remedy"]
        keyed.http.post("/events", data={"data": "end"}, headers=ALL)
        assert granted.take(1) == ["end"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "name", ["topics", "Topic", "topic[a]", "topik", "match_urlpattern", "amp;topic", "lasts"]
)
def test_a_subscriber_with_a_misspelled_parameter_is_refused(
    keyed: Server, path: str, name: str
) -> None:
    answer = keyed.http.get(path, params={"topic": "t", name: "x"})
    assert answer.status_code == 400
    assert f'"{name}"' in answer.json()["detail"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["last", "since", "envelope", "control"])
def test_a_parameter_other_than_a_topic_or_cursor_occurs_once(
    keyed: Server, path: str, name: str
) -> None:
    answer = keyed.http.get(path, params={"topic": "t", name: ["0", "1"]})
    assert answer.status_code == 400
    assert answer.json()["detail"] == f'The parameter "{name}" occurs more than once.'


@pytest.mark.parametrize("name", ["topic[]", "topic[0]", "topic[12]", "match"])
def test_a_subscriber_may_write_a_list_of_topics_as_php_does(
    keyed: Server, topic: str, name: str
) -> None:
    query: dict[str, Any] = {
        "topic": f"{topic}/1",
        name: f"{topic}/2",
        "utm_source": "x",
        "ngsw-bypass": "true",
    }
    with keyed.listen(**query) as stream:
        opened = json.loads(stream.next().data)
        assert sorted(opened["topics"]) == [f"{topic}/1", f"{topic}/2"]


def test_a_pipe_stops_at_a_line_with_a_field_of_the_url(keyed: Server, topic: str) -> None:
    lines = f'{{"data": "a"}}\n{{"data": "b", "topic": "{topic}"}}\n'
    headers = {"Content-Type": "application/x-ndjson", **ALL}
    answer = keyed.http.post(f"/events?topic={topic}", content=lines, headers=headers)
    document = answer.json()
    assert (answer.status_code, document["line"], document["published"]) == (400, 2, 1)
    assert document["detail"] == 'The field "topic" is in the URL and in the body.'


def test_a_byte_order_mark_before_a_line_or_alone_in_it_is_ignored(
    keyed: Server, topic: str
) -> None:
    line = f'\ufeff{{"topic": "{topic}", "data": "x"}}\n'
    headers = {"Content-Type": "application/x-ndjson", **ALL}
    answer = keyed.http.post("/events", content=f"\ufeff\n{line}{line}\ufeff", headers=headers)
    assert answer.json()["published"] == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
def test_a_refusal_ends_in_a_line_feed(keyed: Server, status: int) -> None:
    answers = {
        400: lambda: keyed.http.post("/events", content=b"", headers=ALL),
        401: lambda: keyed.http.post("/events", data={"data": "x"}),
        403: lambda: keyed.http.post(
            "/events", data={"data": "x"}, headers=authorization(token(publish=["ü"]))
        ),
        404: lambda: keyed.http.get("/nowhere"),
        405: lambda: keyed.http.put("/events"),
    }
    answer = answers[status]()
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.text.endswith("}\n")
    assert "\\u" not in answer.text
