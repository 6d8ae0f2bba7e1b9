"""Streams, and the events that the HTML standard makes of them (sections 9.2.5 and 9.2.6).

Most are the cases of the web-platform-tests of the same names (eventsource/format-*).
"""

from __future__ import annotations

Event = tuple[str, str, str]
"""Type, data, last event id."""


def _messages(*data: str) -> list[Event]:
    return [("message", text, "") for text in data]


CASES: dict[str, tuple[str | bytes, list[Event]]] = {
    "bom": ("\ufeffdata:1\n\n\ufeffdata:2\n\ndata:3\n\n", _messages("1", "3")),
    "bom-2": ("\ufeff\ufeffdata:1\n\ndata:2\n\ndata:3\n\n", _messages("2", "3")),
    "bom-in-data": ("data:\ufeffx\n\n", _messages("\ufeffx")),
    "comments": (
        f"data:1\r:\0\n:\r\ndata:2\n:{'x' * 2000}\rdata:3\n:data:fail\r:{'x' * 99}\ndata:4\n\n",
        _messages("1\n2\n3\n4"),
    ),
    "data-before-final-empty-line": (
        "retry:1000\ndata:test1\n\nid:test\ndata:test2",
        _messages("test1"),
    ),
    "final-line-end-is-no-empty-line": ("data:1\n\ndata:2\n", _messages("1")),
    "field-data": ("data:\n\ndata\ndata\n\ndata:test\n\n", _messages("", "\n", "test")),
    "field-event": (
        "event:test\ndata:x\n\ndata:x\n\n",
        [("test", "x", ""), ("message", "x", "")],
    ),
    "field-event-empty": ("event: \ndata:data\n\n", _messages("data")),
    "field-event-last-counts": ("event:other\nevent:test\ndata:x\n\n", [("test", "x", "")]),
    "field-event-without-data": ("event:test\n\ndata:x\n\n", _messages("x")),
    "field-id": ("id:1\ndata:x\n\ndata:y\n\n", [("message", "x", "1"), ("message", "y", "1")]),
    "field-id-empty": (
        "id:1\ndata:x\n\nid\ndata:y\n\n",
        [("message", "x", "1"), ("message", "y", "")],
    ),
    "field-id-without-data": ("id:1\n\ndata:x\n\n", [("message", "x", "1")]),
    "field-id-null": (
        "id:1\ndata:x\n\nid:2\0\ndata:y\n\n",
        [("message", "x", "1"), ("message", "y", "1")],
    ),
    "field-id-space": ("id:  …\ndata:x\n\n", [("message", "x", " …")]),
    "field-parsing": (
        (
            "data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\n"
            "data:3\rdata:\r\n data:32\ndata:4\n\n"
        ),
        _messages("\0\n 2\n1\n3\n\n4"),
    ),
    "field-retry": ("retry:3000\nretry:x\nretry: 1 \nretry\nretry:-5\ndata:x\n\n", _messages("x")),
    "field-unknown": (
        "data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n",
        _messages("test\n\ntest"),
    ),
    "field-with-a-space-at-its-end": ("data \ndata :x\ndata:y\n\n", _messages("y")),
    "leading-space": ("data:\ttest\rdata: \ndata:test\n\n", _messages("\ttest\n\ntest")),
    "trailing-space": ("data: x \n\n", _messages("x ")),
    "newlines": ("data:test\r\ndata\ndata:test\r\n\r", _messages("test\n\ntest")),
    "cr-only": ("data:a\rdata:b\r\rdata:c\r\r", _messages("a\nb", "c")),
    "crlf-only": ("data:a\r\ndata:b\r\n\r\ndata:c\r\n\r\n", _messages("a\nb", "c")),
    "lf-after-cr-is-one-line-end": ("data:a\r\n\ndata:b\r\n\n", _messages("a", "b")),
    "other-line-ends": (
        "data:a\x0b\x0c\x1c\x85\u2028\u2029b\n\n",
        _messages("a\x0b\x0c\x1c\x85\u2028\u2029b"),
    ),
    "null-character": ("data:\0\n\n\n\n", _messages("\0")),
    "many-empty-lines": ("\n\r\n\r\r\n\ndata:x\n\n\n\n", _messages("x")),
    "colons": ("data::\n\ndata: :x: y\n\n", _messages(":", ":x: y")),
    "utf-8": ("data:ok… é 🙂 \U0010ffff\n\n", _messages("ok… é 🙂 \U0010ffff")),
    "invalid-utf-8": (
        b"data:a\xff\xe2\x82b\xed\xa0\x80\n\n",
        _messages("a\ufffd\ufffdb\ufffd\ufffd\ufffd"),
    ),
    "nothing": ("", []),
}
