"""Drafts from each kind of body, and what the URL says about them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from flask import Request

from webapp.core.events import Draft
from webapp.errors import BadRequest, ContentTooLarge
from webapp.views.bodies.drafts import DraftParser, ttl_ms

if TYPE_CHECKING:
    from collections.abc import Callable

FORM, JSON = "application/x-www-form-urlencoded", "application/json"
TEXT, LINES = "text/plain", "application/x-ndjson"
MULTIPART = "multipart/form-data; boundary=b"
LARGE = '[{"data": "%s"}, %%s]' % ("x" * 20_000)
BOM = b"\xef\xbb\xbf"
URL = {"topic": ["/users/7", "b"], "type": ["t"], "id": ["i"], "private": ["1"], "retry": ["5000"]}

Body = tuple[str, bytes]


def form(**fields: Any) -> Body:
    return FORM, urlencode(fields, doseq=True).encode()


def multipart(**fields: str) -> Body:
    head = 'Content-Disposition: form-data; name="'
    parts = "".join(f'--b\r\n{head}{name}"\r\n\r\n{it}\r\n' for name, it in fields.items())
    return MULTIPART, f"{parts}--b--\r\n".encode()


def one(**fields: Any) -> Body:
    return JSON, json.dumps(fields).encode()


def array(**fields: Any) -> Body:
    return JSON, json.dumps([fields]).encode()


def line(**fields: Any) -> Body:
    return LINES, json.dumps(fields).encode() + b"\n"


def text(data: str = "") -> Body:
    return TEXT, data.encode()


NAMED: list[Callable[..., Body]] = [form, multipart, one, array, line]


def parse(body: Body, default_topic: str | None = "events", /, **query: Any) -> list[Draft]:
    request = Request({"CONTENT_TYPE": body[0]})
    fields = {name: it if isinstance(it, list) else [it] for name, it in query.items()}
    return DraftParser(request, fields, default_topic).parse(request, body[1])


def refusal(body: Body, default_topic: str | None = "events", /, **query: Any) -> str:
    with pytest.raises(BadRequest) as raised:
        parse(body, default_topic, **query)
    return str(raised.value)


@pytest.mark.parametrize("body", [*NAMED, text])
def test_what_the_url_says_holds_for_each_kind_of_body(body: Callable[..., Body]) -> None:
    [draft] = parse(body(data="x"), **URL)
    expected = Draft(topics=("/users/7", "b"), data="x", type="t", id="i", private=True, retry=5000)
    assert draft == expected


def test_what_the_url_says_holds_for_each_event_of_an_array() -> None:
    events = [{"data": "a"}, {"data": "b", "type": "t"}]
    found = parse((JSON, json.dumps(events).encode()), topic="/users/7", private="")
    assert [(it.topics, it.private, it.type) for it in found] == [
        (("/users/7",), True, None),
        (("/users/7",), True, "t"),
    ]


@pytest.mark.parametrize("body", NAMED)
@pytest.mark.parametrize(("name", "value"), URL.items())
def test_a_field_in_the_url_and_in_the_body_is_refused(
    body: Callable[..., Body], name: str, value: list[str]
) -> None:
    said = refusal(body(**{"data": "x", name: value[0]}), **{name: value})
    assert f'The field "{name}" is in the URL and in the body.' in said


def test_an_alias_of_the_topic_is_the_same_field_in_both_places() -> None:
    assert 'The field "topic" is in the URL' in refusal(form(**{"topic[]": "b"}), topic="a")
    assert 'The field "topic" is in the URL' in refusal(
        form(topic="b"), "events", **{"topic[0]": "a"}
    )


@pytest.mark.parametrize("body", [*NAMED, text])
def test_data_in_the_url_is_refused_with_any_body(body: Callable[..., Body]) -> None:
    assert "The URL has the field data" in refusal(body(data="x"), data="y")


@pytest.mark.parametrize("kind", [FORM, JSON, TEXT, LINES, ""])
def test_without_a_body_the_url_has_the_data(kind: str) -> None:
    assert parse((kind, b""), topic="t", data="x") == [Draft(topics=("t",), data="x")]


@pytest.mark.parametrize(
    "body",
    [(JSON, b'[{"data":"a"},{"data":"b"}]'), (LINES, b'{"data":"a"}\n\n{"data":"b"}\n')],
    ids=["array", "lines"],
)
@pytest.mark.parametrize("name", ["id", "end"])
def test_an_id_or_an_end_in_the_url_is_for_one_event_only(body: Body, name: str) -> None:
    said = f"The URL has the field {name}, and the body has more than one event."
    assert said in refusal(body, **{name: "1"})


@pytest.mark.parametrize("body", NAMED)
@pytest.mark.parametrize("yes", ["1", "true", "Yes", "on"])
def test_an_end_is_an_event_that_says_so(body: Callable[..., Body], yes: str) -> None:
    expected = [Draft(topics=("t",), data="x", ended=True)]
    assert parse(body(topic="t", data="x", end=yes)) == expected
    assert parse(body(topic="t", data="x"), end=yes) == expected
    assert parse(text("x"), topic="t", end=yes) == expected
    assert parse(body(topic="t", data="x", end="0")) == [Draft(topics=("t",), data="x")]
    assert 'The field "end" is in the URL and in the body.' in refusal(body(end=yes), end=yes)
    for other in ("", "2", "last"):
        assert "The field end must be 1 or 0." in refusal(body(data="x", end=other))
        assert "The field end must be 1 or 0." in refusal(text("x"), end=other)


@pytest.mark.parametrize(
    ("value", "ended"), [(b"true", True), (b"1", True), (b"false", False), (b"null", False)]
)
def test_an_end_in_json_is_a_boolean_or_a_digit(value: bytes, *, ended: bool) -> None:
    body = b'{"topic":"t","data":"x","end":%b}' % value
    assert parse((JSON, body)) == [Draft(topics=("t",), data="x", ended=ended)]
    for other in (b"2", b"1.5", b"[]", b"{}"):
        body = b'{"topic":"t","end":%b}' % other
        assert "The field end must be 1 or 0." in refusal((JSON, body))


@pytest.mark.parametrize("body", NAMED)
@pytest.mark.parametrize("name", ["topics", "Topic", "privat", "ids", "ttls", "ends", "match_x"])
@pytest.mark.parametrize("default_topic", ["events", None])
def test_a_look_alike_is_refused_in_each_body_and_on_both_paths(
    body: Callable[..., Body], name: str, default_topic: str | None
) -> None:
    fields: dict[str, Any] = {"topic": "t", "data": "x", name: "1"}
    assert f'"{name}"' in refusal(body(**fields), default_topic)
    assert f'"{name}"' in refusal(text("x"), default_topic, topic="t", **{name: "1"})


@pytest.mark.parametrize("body", NAMED)
def test_any_other_unknown_field_of_a_body_is_refused_except_on_mercures_path(
    body: Callable[..., Body],
) -> None:
    assert 'An event has no field "utm".' in refusal(body(data="x", utm="1"))
    assert parse(body(topic="t", data="x", utm="1"), None) == [Draft(topics=("t",), data="x")]
    assert parse(body(data="x"), utm="1", topic="t") == [Draft(topics=("t",), data="x")]


def test_a_form_without_any_field_of_an_event_is_refused_on_mercures_path_too() -> None:
    assert "The request has none of the fields" in refusal(form(utm="1"), None)
    assert "The request has none of the fields" in refusal((FORM, b"hello"), None, topic="t")


@pytest.mark.parametrize("name", ["topic[]", "topic[0]", "topic[17]"])
def test_a_list_of_topics_may_be_written_as_php_does(name: str) -> None:
    expected = [Draft(topics=("/users/7",), data="x")]
    assert parse(form(**{name: "/users/7", "data": "x"})) == expected
    assert parse(multipart(**{name: "/users/7", "data": "x"})) == expected
    assert parse(text("x"), **{name: "/users/7"}) == expected


@pytest.mark.parametrize("name", ["data", "type", "id", "private", "retry", "end", "ttl"])
def test_a_field_other_than_the_topic_occurs_once(name: str) -> None:
    said = f'The field "{name}" occurs more than once.'
    assert said in refusal(form(**{name: ["0", "1"]}))
    assert said in refusal(text(), **{name: ["0", "1"]})
    assert said in refusal(one(topic="t") if name != "data" else text(), **{name: ["0", "1"]})


def test_raw_occurs_once() -> None:
    assert 'The parameter "raw" occurs more than once.' in refusal(text("x"), raw=["0", "1"])
    assert 'The parameter "raw" occurs more than once.' in refusal(text("x"), raw=["1", "1"])


@pytest.mark.parametrize("name", ["topic", "private", "data", "priv\\u0061te"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [(JSON, "%s"), (JSON, "[%s]"), (LINES, "%s\n"), (JSON, LARGE)],
    ids=["object", "array", "line", "large"],
)
def test_a_member_of_an_event_occurs_once(name: str, kind: str, body: str) -> None:
    event = f'{{"data": "x", "{name}": "a", "topic": "t", "private": true}}'
    said = f'The field "{name.replace(chr(92) + "u0061", "a")}" occurs more than once.'
    assert refusal((kind, (body % event).encode())).startswith(said)


def test_members_of_the_data_may_occur_twice() -> None:
    [draft] = parse((JSON, b'{"data": {"a": 1, "a": 2}}'))
    assert draft.data == '{"a":2}'


@pytest.mark.parametrize(
    "body", [one(id="1"), form(payload="x"), multipart(a="b"), line(a=1), text("é")]
)
def test_with_raw_any_body_is_the_data(body: Body) -> None:
    [draft] = parse(body, topic="hooks", raw="1")
    assert (draft.data.encode(), draft.topics, draft.id) == (body[1], ("hooks",), None)


def test_raw_is_on_or_off() -> None:
    assert parse(one(data="x"), raw="0") == parse(one(data="x"))
    assert "The parameter raw must be 1 or 0." in refusal(one(data="x"), raw="yes")
    assert 'Did you mean "raw"?' in refusal(one(data="x"), Raw="1")


@pytest.mark.parametrize("body", NAMED)
def test_a_byte_order_mark_at_the_start_of_a_body_is_ignored(body: Callable[..., Body]) -> None:
    kind, content = body(topic="t", data="x")
    assert parse((kind, BOM + content)) == [Draft(topics=("t",), data="x")]


def test_a_byte_order_mark_of_data_is_kept() -> None:
    content = BOM + b"x"
    assert parse((TEXT, content))[0].data.encode() == content
    assert parse((JSON, content), raw="1")[0].data.encode() == content
    assert parse(form(data="\ufeffx"))[0].data.encode() == content


@pytest.mark.parametrize("coding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("kind", [FORM, JSON, TEXT, LINES, MULTIPART])
def test_utf_16_is_named_by_its_byte_order_mark(coding: str, kind: str) -> None:
    said = refusal((kind, '\ufeff{"data":"é"}'.encode(coding)), id="i")
    assert "byte order mark of UTF-16" in said


@pytest.mark.parametrize("coding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("kind", [JSON, LINES])
def test_utf_16_without_a_byte_order_mark_is_named_too(coding: str, kind: str) -> None:
    said = refusal((kind, '{"data":"x"}'.encode(coding)), id="i")
    assert "it looks like UTF-16 or UTF-32" in said


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        (90, 90_000),
        (1.5, 1500),
        (212654.6070031047, 212_654_607),
        ("90", 90_000),
        ("10m", 600_000),
        (True, 0),
        ("x", 0),
        (float("inf"), 0),
        (float("nan"), 0),
        ([1], 0),
        (None, None),
        ("", None),
    ],
)
def test_a_ttl_is_a_number_of_seconds_or_a_duration(
    value: object, milliseconds: int | None
) -> None:
    assert ttl_ms(value) == milliseconds


def test_an_array_has_up_to_4000_topics_and_those_of_the_url_count_for_each_event() -> None:
    events = JSON, json.dumps([{}] * 2000).encode()
    assert len(parse(events, topic=list("ab"))) == 2000
    with pytest.raises(ContentTooLarge, match="more than 4000 topics"):
        parse(events, topic=list("abc"))
    five = (
        JSON,
        json.dumps([{"topic": list("abcde")}] * 1999 + [{"topic": list("abcdef")}]).encode(),
    )
    with pytest.raises(ContentTooLarge, match="more than 4000 topics"):
        parse(five)
    with pytest.raises(ContentTooLarge, match="more than 1048576 bytes"):
        parse(events, topic="t" * 100, type="x" * 1000)
    with pytest.raises(ContentTooLarge, match="more than 1048576 bytes"):
        parse(events, topic="é" * 300)


@pytest.mark.parametrize(
    ("url", "lines"),
    [
        ({}, 1 << 20),
        ({"topic": ["a" * 8192]}, 128),
        ({"topic": ["é" * 4096]}, 128),
    ],
)
def test_fewer_lines_of_a_pipe_are_published_together_if_its_url_is_long(
    url: dict[str, list[str]], lines: int
) -> None:
    parser = DraftParser(Request({"CONTENT_TYPE": LINES}), url, "events")
    assert parser.lines_at_once == lines
