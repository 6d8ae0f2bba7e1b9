"""Numbered events, for many subscribers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.server import Server


def publish_numbers(server: Server, topic: str, numbers: range, size: int) -> None:
    events = [{"topic": topic, "data": f"{n} ".ljust(size, "x")} for n in numbers]
    answer = server.http.post("/events", json=events)
    assert answer.status_code == 200, answer.text
