"""text/event-stream, against the specification's words and other people's parsers."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import sseclient
from httpx_sse._decoders import SSEDecoder, SSELineDecoder
from hypothesis import example, given
from hypothesis import strategies as st

from support.event_stream_cases import CASES
from webapp.core import sse
from webapp.core.sse import ServerSentEvent

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NAME = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf"]), min_size=1)
CUTS = st.lists(st.integers(0, 400), max_size=8)


def as_read(data: str) -> str:
    """What the format makes of a text: each end of a line is a line feed."""
    return re.sub(r"\r\n|\r", "\n", data)


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    positions = sorted({0, len(stream), *(min(c, len(stream)) for c in cuts)})
    return [stream[a:b] for a, b in pairwise(positions)]


def httpx_sse(stream: bytes) -> list[tuple[str, str, str]]:
    lines, events = SSELineDecoder(), SSEDecoder()
    found = [events.decode(line) for line in [*lines.decode(stream.decode()), *lines.flush()]]
    return [(e.event, e.data, e.id) for e in found if e]


def sseclient_py(stream: bytes) -> list[tuple[str, str, str]]:
    return [(e.event, e.data, e.id or "") for e in sseclient.SSEClient(iter([stream])).events()]


@given(data=TEXT, type_=NAME, id_=NAME, cuts=CUTS)
@example(data="", type_="t", id_="1", cuts=[])
@example(data="\ufeff", type_="t", id_="1", cuts=[1])
@example(data="a\r\n\r\u2028\x85\0 b", type_=" t", id_=":1", cuts=[9, 10])
def test_what_is_framed_is_parsed_however_the_bytes_are_cut(
    data: str, type_: str, id_: str, cuts: list[int]
) -> None:
    stream = sse.HEARTBEAT + sse.encode(data, type=type_, id=id_, retry=1500) + sse.HEARTBEAT
    assert [ServerSentEvent(as_read(data), type_, id_, 1500)] == list(sse.decode(cut(stream, cuts)))


@given(data=TEXT, type_=NAME, id_=NAME)
@example(data="a\r\n\r\u2028\x85 b", type_="t", id_="1")
@example(data="", type_="t", id_="1")
def test_httpx_sse_reads_what_was_sent(data: str, type_: str, id_: str) -> None:
    stream = sse.encode(data, type=type_, id=id_) + sse.HEARTBEAT
    assert [(type_, as_read(data), id_)] == httpx_sse(stream)


# sseclient-py strips surrounding space of a field and is not asked for more than it can.
@given(
    data=st.from_regex(r"[!-~](.|\n){0,50}[!-~]", fullmatch=True),
    id_=st.from_regex(r"[!-~]+", fullmatch=True),
)
def test_sseclient_py_reads_what_was_sent(data: str, id_: str) -> None:
    data = data.replace("\x85", "").replace("\u2028", "").replace("\u2029", "")
    data = re.sub(r"[\x0b\x0c\x1c-\x1e\r]", "", data)
    assert [("message", data, id_)] == sseclient_py(sse.encode(data, id=id_))


@given(TEXT)
def test_data_never_becomes_another_field(data: str) -> None:
    lines = re.split(rb"\r\n|\r|\n", sse.encode(data).removesuffix(b"\n\n"))
    assert all(line.startswith(b"data: ") for line in lines)


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\r\nb", "a\0b", "\n", "1\ndata: forged"])
@pytest.mark.parametrize("field", ["id", "type"])
def test_a_field_that_would_break_out_of_its_line_is_refused(field: str, bad: str) -> None:
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        sse.encode("x", **{field: bad})  # type: ignore[arg-type]


# https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (
            "data: YHOO\ndata: +2\ndata: 10\n\n",
            [ServerSentEvent("YHOO\n+2\n10")],
        ),
        (
            ": test\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
            [ServerSentEvent("first event", id="1"), ServerSentEvent("second event")],
        ),
        ("data\n\ndata\ndata\n\ndata:", [ServerSentEvent(""), ServerSentEvent("\n")]),
        ("data:test\n\ndata: test\n\n", [ServerSentEvent("test"), ServerSentEvent("test")]),
        (
            "event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\n",
            [ServerSentEvent("73857293", "add"), ServerSentEvent("2153", "remove")],
        ),
        ("\ufeffdata: bom\n\n", [ServerSentEvent("bom")]),
        ("data: a\r\ndata: b\rdata: c\n\r\n", [ServerSentEvent("a\nb\nc")]),
        ("id: a\0b\ndata: x\n\n", [ServerSentEvent("x")]),
        ("retry: 10x\nretry: 3000\nunknown: y\ndata: x\n\n", [ServerSentEvent("x", retry=3000)]),
        ("event: only\n\nid: 7\n\ndata: x\n\n", [ServerSentEvent("x", id="7")]),
    ],
)
def test_the_specifications_examples_are_read_as_it_says(
    stream: str, expected: list[ServerSentEvent]
) -> None:
    raw = stream.encode()
    assert expected == list(sse.decode([raw]))
    assert expected == list(sse.decode([raw[i : i + 1] for i in range(len(raw))]))


@pytest.mark.parametrize("name", CASES)
def test_each_byte_is_read_as_the_standard_says(name: str) -> None:
    stream, expected = CASES[name]
    raw = stream.encode() if isinstance(stream, str) else stream
    for step in (1, 2, 1000):
        found = sse.decode([raw[i : i + step] for i in range(0, len(raw), step)])
        assert [(event.type, event.data, event.id) for event in found] == expected


def test_a_retry_of_many_digits_is_read() -> None:
    [event] = sse.decode([b"retry: " + b"9" * 5000 + b"\ndata: x\n\n"])
    assert event.retry is not None
    assert event.retry >= 10**999


def test_a_long_line_is_read_in_one_pass() -> None:
    line = b"data: " + b"x" * (8 << 20)  # a second pass for each chunk would take minutes
    pieces = (line[i : i + 64] for i in range(0, len(line), 64))
    [event] = sse.decode([*pieces, b"\n\n"])
    assert len(event.data) == 8 << 20


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * 100,
        b"data: " + b"x" * 100 + b"\n\n",
        b": " + b"x" * 100,
        b"data: 0123456789\n" * 7,
        b"data\n" * 26,
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_an_event_is_bounded(stream: bytes, step: int) -> None:
    events = sse.decode([stream[i : i + step] for i in range(0, len(stream), step)], 100)
    with pytest.raises(sse.EventTooLarge, match="more than 100 bytes"):
        list(events)


def test_many_events_are_together_larger_than_one_may_be() -> None:
    assert len(list(sse.decode([b": comment\n", b"data: 0123456789\n\n"] * 50, 20))) == 50
