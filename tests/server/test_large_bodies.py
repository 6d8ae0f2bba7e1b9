"""Large and slow bodies: others are answered meanwhile."""

from __future__ import annotations

import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from support.project import ROOT
from support.waiting import PATIENCE, one_of_three

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server

LARGE = {
    "a form": ("application/x-www-form-urlencoded", b"data=" + b"%ff" * 1_000_000),
    "a form of many fields": (
        "application/x-www-form-urlencoded",
        b"&".join([b"data=" + b"%ff" * 1000] * 1000),
    ),
    "JSON": ("application/json", b"[" + b"[[]]," * 1_600_000 + b"1]"),
    "multipart": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n' + b"\r\n-" * 2_700_000,
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_while_a_large_body_is_read_others_are_answered(
    server: Server, topic: str, name: str
) -> None:
    kind, body = LARGE[name]

    def attack() -> int:
        answer = server.http.post("/events", content=body, headers={"Content-Type": kind})
        return answer.status_code

    def longest() -> float:
        """The longest wait, as a share of the time that the body takes, if it is over a second."""
        waits, began_all = [0.0], time.monotonic()
        with server.listen(topic=topic) as subscriber, ThreadPoolExecutor() as pool:
            subscriber.next()
            attacked = pool.submit(attack)
            while not attacked.done():
                began = time.monotonic()
                server.publish("x", topic=topic)
                assert subscriber.take(1) == ["x"]
                waits.append(time.monotonic() - began)
        assert attacked.result() in {400, 413}
        longest = max(waits)
        return longest / (time.monotonic() - began_all) if longest > 1 else 0

    # In one go they take 1.3 to 3.7 seconds, of which nearly all is one wait.
    assert one_of_three(longest, lambda share: share < 0.5) < 0.5


def test_a_body_that_drips_for_ever_is_given_up(serve: Callable[..., Server]) -> None:
    patience = {"TIDINGS_BODY_TIMEOUT": "1", "PYTHONPATH": str(ROOT / "tests")}
    hub = serve("-k", "support.short_timeouts.Worker", TIDINGS_DEMO="0", **patience)
    head = b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", hub.port), timeout=PATIENCE) as client:
        began, answered = time.monotonic(), False
        client.sendall(head)
        while not answered:
            with suppress(ConnectionError):  # the answer has just come
                client.sendall(b"x")
            answered = bool(select.select([client], [], [], 0.03)[0])
            assert time.monotonic() - began < PATIENCE
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began >= 0.9
