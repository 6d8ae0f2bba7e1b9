"""The tutorial this hub grew from, exactly, with nothing configured."""

from __future__ import annotations

import re
import subprocess
import time
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from support.programs import need
from support.waiting import one_of_three, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server


@pytest.fixture(name="hub", scope="module")
def _hub(serve: Callable[..., Server]) -> Server:
    return serve()


def curl(hub: Server, *arguments: str) -> list[str]:
    return [need("curl"), "--silent", *arguments, f"http://localhost:{hub.port}/events"]


def test_curl_prints_the_events_one_a_second(hub: Server) -> None:
    assert one_of_three(partial(are_printed_at_once, hub), bool)


def are_printed_at_once(hub: Server) -> bool:
    """Whether curl printed the first event before the last was published."""
    await_silence(hub)
    command = curl(hub, "--header", "Accept:text/event-stream", "--request", "GET", "-N")
    seen, published, printed = list[str](), list[float](), list[float]()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if found := re.fullmatch(r"id: (\d+)-\d+\n", line):
                moment = int(found[1]) / 1000
            if found := re.fullmatch(r"data: (Event \d+)\n", line):
                seen.append(found[1])
                published.append(moment)
                printed.append(time.time())
            if len(seen) == 4:
                break
        process.kill()
    assert seen == ["Event 0", "Event 1", "Event 2", "Event 3"]
    assert all(later - earlier > 0.9 for earlier, later in pairwise(published))
    return printed[0] < published[-1]  # a process that gets no CPU reads late


def await_silence(hub: Server) -> None:
    until(lambda: not hub.http.get("/console/state").json()["readers"], "the last has left")


def test_it_counts_from_0_again_after_the_last_has_left(hub: Server) -> None:
    for _ in range(2):
        await_silence(hub)
        with hub.listen() as stream:
            assert stream.take(2) == ["Event 0", "Event 1"]


def test_a_second_listener_does_not_start_it_again(hub: Server) -> None:
    await_silence(hub)
    with hub.listen() as first:
        assert first.take(1) == ["Event 0"]
        with hub.listen() as second:
            assert second.take(1) != ["Event 0"]
            assert first.take(1) == ["Event 1"]


def test_nobody_listening_means_nothing_published(hub: Server) -> None:
    await_silence(hub)
    with hub.listen(topic="another") as stream:
        position = stream.next().id
    with hub.listen(topic="*", last_event_id=position) as stream:
        assert stream.take(1) == ["Event 0"]


def test_the_start_up_line_says_where_to_look_and_what_is_open(hub: Server) -> None:
    line = next(line for line in hub.log.splitlines() if "Tidings is at" in line)
    assert f"http://127.0.0.1:{hub.port}" in line
    assert "everybody on this machine may read and publish" in line
    assert "the demo publishes" in line


def test_any_setting_turns_the_demo_off(server: Server) -> None:
    assert "the demo publishes" not in server.log


def test_curl_publishes_to_every_curl(server: Server) -> None:
    with server.listen() as one, server.listen() as two:
        done = subprocess.run(
            curl(server, "-d", "data=hello"), capture_output=True, text=True, check=True
        )
        assert re.fullmatch(r"\d+-\d+\n", done.stdout)
        assert one.take(1) == two.take(1) == ["hello"]
