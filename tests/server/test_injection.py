"""Field injection (CWE-93), a class of this field's CVEs: nothing published becomes another event.

Hono CVE-2026-29085, h3 CVE-2026-33128, NestJS CVE-2026-35515, Spring CVE-2026-22735 and sse-channel
CVE-2026-44217 let an end of a line in `id`, `type` or `data` through, and what came after it was
read as fields of its own. Here it is refused, or sent as the text that it is.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from httpx_sse._decoders import SSEDecoder, SSELineDecoder

from webapp.core.sse import ServerSentEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from support.server import Server
    from support.stream import Stream

LETTERS = {
    "CR": "\r",
    "LF": "\n",
    "CRLF": "\r\n",
    "NUL": "\0",
    "NEL": "\x85",
    "LS": "\u2028",
    "PS": "\u2029",
    "BOM": "\ufeff",
}
# Ends of lines to Unicode and to careless parsers; to the format they are letters like others.
TEXT = {"LS", "PS"}
FIELDS = ("id", "type", "topic", "data", "retry")
SENT = {
    "forged fields": "7{0}data: forged{0}id: forged{0}event: hub.bye{0}retry: 1{0}{0}",
    "at its end": "7{0}",
}
TYPES = {"json": "application/json", "ndjson": "application/x-ndjson"}


@pytest.fixture(name="subscriber", scope="module")
def _subscriber(server: Server) -> Iterator[Stream]:
    with server.listen(topic="*") as subscriber:
        assert subscriber.next().type == "hub.open"
        yield subscriber


def publish(server: Server, carrier: str, event: dict[str, str]) -> httpx.Response:
    content = json.dumps(event).encode()
    send: dict[str, Callable[[], httpx.Response]] = {
        "form": lambda: server.http.post("/events", data=event),
        "query": lambda: server.http.post("/events", params=event),
        **{
            name: lambda kind=kind: server.http.post(  # type: ignore[misc]
                "/events", content=content, headers={"Content-Type": kind}
            )
            for name, kind in TYPES.items()
        },
    }
    return send[carrier]()


def read(server: Server, subscriber: Stream) -> tuple[list[ServerSentEvent], bytes]:
    """Return what came before a last event of ours, and its bytes."""
    before = len(subscriber.raw)
    last = server.publish("the end")
    found = []
    while (message := subscriber.next()).id != last:
        found.append(message)
    return found, subscriber.raw[before:]


def as_others_read(raw: bytes) -> list[str]:
    lines, events = SSELineDecoder(), SSEDecoder()
    found = (events.decode(line) for line in lines.decode(raw.decode()))
    return [event.data for event in found if event]


@pytest.mark.parametrize("carrier", ["form", "query", *TYPES])
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("name", LETTERS)
def test_no_letter_in_any_field_makes_another_event(
    server: Server, subscriber: Stream, name: str, field: str, carrier: str
) -> None:
    for text in SENT.values():
        event = {"data": "one", field: text.format(LETTERS[name])}
        answer = publish(server, carrier, event)
        found, raw = read(server, subscriber)
        if field != "data" and not (field in {"type", "topic"} and name in TEXT):
            assert answer.status_code == 400, answer.text
            assert found == []
            continue
        data = re.sub(r"\r\n|\r", "\n", event["data"])
        expected = ServerSentEvent(
            data, event.get("type", "message"), event_id(answer), found[0].retry
        )
        assert found == [expected]
        assert as_others_read(raw) == [data, "the end"]


def event_id(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    if "json" not in answer.headers["Content-Type"]:
        return answer.text.removesuffix("\n")
    report: dict[str, Any] = answer.json()
    return str(report["last_id"])
