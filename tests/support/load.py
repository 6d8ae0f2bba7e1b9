"""Numbered events, for many subscribers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.server import Server


def publish_numbers(server: Server, topic: str, numbers: range, size: int) -> None:
    events = ({"topic": topic, "data": f"{n} ".ljust(size, "x")} for n in numbers)
    headers = {"Content-Type": "application/x-ndjson"}
    answer = server.http.post(
        "/events", content="\n".join(map(json.dumps, events)), headers=headers
    )
    assert answer.status_code == 200, answer.text
