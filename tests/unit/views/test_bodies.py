"""Bodies that take long to read: JSON, numbers and forms."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.core.json_members import RepeatedMembers
from webapp.errors import BadRequest, ContentTooLarge
from webapp.views.bodies import forms, json_values


@pytest.mark.parametrize(
    "text",
    [
        "[" + "[],[]," * 50_001 + "1]",
        "[" + "[[]]," * 50_001 + "1]",
        "[" + '"",' * 100_002 + "1]",
        '["' + '\\"' * 9 + "\\\\" * 9 + '"' + ",1" * 100_002 + "]",
        "{" + '"":{},' * 50_001 + '"":0}',
    ],
)
def test_json_that_would_take_long_is_refused(text: str) -> None:
    with pytest.raises(ContentTooLarge):
        json_values.one(text.encode())


@pytest.mark.parametrize(
    "value",
    [",[{" * 100_000, '",\\' * 100_000, ["x,y"] * 99_000, {str(n): n for n in range(99_000)}],
    ids=["punctuation", "escapes", "strings", "members"],
)
def test_json_that_is_quickly_read_may_look_like_much(value: object) -> None:
    assert json_values.one(json.dumps(value).encode())[0] == value


def test_an_array_has_up_to_2000_events_and_1_mb() -> None:
    assert len(json_values.several(b"[" + b"{}," * 1999 + b"{}]")) == 2000
    with pytest.raises(ContentTooLarge, match="more than 2000 events"):
        json_values.several(b"[" + b"{}," * 2000 + b"{}]")
    large = b'{"data":"%s"}' % (b"x" * ((1 << 19) - 13))
    array = b"[%s,%s] " % (large, large)
    assert len(array) == 1 << 20
    assert len(json_values.several(array)) == 2
    with pytest.raises(ContentTooLarge, match="more than 1048576 bytes"):
        json_values.several(array + b" ")


def test_an_array_of_one_event_may_have_any_size() -> None:
    [(event, _)] = json_values.several(b'[{"data":"%s"}]' % (b"\\u0041" * 500_000))
    assert event == {"data": "A" * 500_000}


@pytest.mark.parametrize("around", ["{}", "{}\r", " {}", "{}  ", "\ufeff{}", "\t{}\t\r"])
def test_a_line_may_have_space_around_its_value(around: str) -> None:
    assert json_values.one(around.format('{"data":"é:1"}').encode())[0] == {"data": "é:1"}


@pytest.mark.parametrize("line", ['{"data":1}x', '{"data":1}\v', '{"data":1}{}', '{"data":1', ""])
def test_a_line_has_one_value_and_nothing_else(line: str) -> None:
    with pytest.raises(BadRequest):
        json_values.one(line.encode())


@pytest.mark.parametrize("end", ["", "\r", " "])
@pytest.mark.parametrize("more", [0, 20_000])
def test_a_line_with_a_member_twice_is_known(end: str, more: int) -> None:
    line = '{"data":"a:%s","data":"b"}' % ("x" * more)
    assert isinstance(json_values.one((line + end).encode())[0], RepeatedMembers)


@pytest.mark.parametrize(
    "number", ["1" * 1001, "-1" + "0" * 1000, "0." + "1" * 999, "[1e" + "0" * 999 + "1]"]
)
def test_numbers_have_an_end(number: str) -> None:
    with pytest.raises(BadRequest):
        json_values.one(number.encode())


@given(st.binary(max_size=40) | st.text(alphabet="a%4=&+1c3é", max_size=40).map(str.encode))
def test_forms_are_read_as_python_reads_them(text: bytes) -> None:
    size, forms._STEP_BYTES = forms._STEP_BYTES, 4
    try:
        mine = forms._parse_pairs(text, "form")
    except BadRequest:
        return
    finally:
        forms._STEP_BYTES = size
    try:
        theirs = parse_qs(text.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        return  # %XX beside bytes that only together are a character
    assert mine == theirs
