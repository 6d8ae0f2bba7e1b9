"""Metrics, as operators read them."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import jwt
from prometheus_client.parser import text_string_to_metric_families

from support.tokens import KEY
from support.waiting import until

if TYPE_CHECKING:
    from support.server import Server

Numbers = dict[tuple[str, str], float]
PATHS = ["/metrics", "/console/state"]


def bearer(subscribe: list[str], **claims: Any) -> dict[str, str]:
    mercure = {"publish": ["*"], "subscribe": subscribe}
    return {"Authorization": f"Bearer {jwt.encode({'mercure': mercure, **claims}, KEY)}"}


OPERATOR = bearer(["*"])


def parse(text: str) -> Numbers:
    """Samples by name and by their label's value."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(server: Server) -> Numbers:
    answer = server.http.get("/metrics", headers=OPERATOR)
    assert answer.status_code == 200, answer.text
    return parse(answer.text)


def read(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.http.get("/console/state", headers=OPERATOR).json()
    return found


def total(server: Server, name: str) -> float:
    return sum(value for (found, _), value in scrape(server).items() if found == f"tidings_{name}")


def post(server: Server, count: int = 1, **fields: Any) -> None:
    drafts = [{"data": str(number), **fields} for number in range(count)]
    answer = server.http.post("/events", json=drafts, headers=OPERATOR)
    assert answer.status_code == 200, answer.text


def kept(pid: int) -> Path:
    """The directory where a worker's numbers are."""
    pattern, maps = re.compile(r" (\S*tidings-metrics-\w+)/"), Path(f"/proc/{pid}/maps")
    return Path(until(lambda: pattern.search(maps.read_text()), "it has numbers")[1])


def state(server: Server) -> list[Any]:
    """The workers, from whichever is there to say."""
    while True:
        try:
            found: list[Any] = read(server)["workers"]
        except httpx.TransportError:
            time.sleep(0.01)
        else:
            return found


def answers(server: Server) -> bool:
    with suppress(httpx.TransportError):
        return server.http.get("/metrics").status_code == 200
    return False
