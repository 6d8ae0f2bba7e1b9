"""The lines in the log: one when a stream opens, and one when it ends."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from support.metrics import bearer, post
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from support.server import Server

pytestmark = pytest.mark.slow


def lines(server: Server, what: str, topic: str) -> list[str]:
    return re.findall(rf"\[INFO\] (stream {what}: .*topics={re.escape(topic)}.*)\n", server.log)


def test_a_stream_has_a_line_when_it_opens_and_one_when_it_ends(hub: Server, topic: str) -> None:
    headers = bearer(["*"], sub="Ann Other\n[2026] x=1")
    with hub.listen(topic=topic, headers=headers) as stream:
        position = stream.next().id
        post(hub, 2, topic=topic)
        stream.take(2)
    [opened] = until(lambda: lines(hub, "opened", topic), "the opening is logged")
    [ended] = until(lambda: lines(hub, "ended", topic), "the end is logged")
    who = "client=127.0.0.1 sub=Ann%20Other%0A[2026]%20x%3D1"
    assert opened == f"stream opened: {who} topics={topic} from={position}"
    assert re.fullmatch(
        rf"stream ended: reason=client_left seconds=\d+\.\d events=2 {re.escape(who)}"
        rf" topics={re.escape(topic)}",
        ended,
    )
    assert headers["Authorization"].split(".")[1] not in hub.log
    begins = re.findall(rf"\[(\S+ \S+) \S+\] \[(\d+)\] \[INFO\] stream .* topics={topic}", hub.log)
    workers = re.findall(r"Booting worker with pid: (\d+)", hub.log)
    assert {process for _, process in begins} <= set(workers)
    for at, _ in begins:
        assert abs(time.time() - time.mktime(time.strptime(at, "%Y-%m-%d %H:%M:%S"))) < PATIENCE


def test_names_from_clients_are_bounded_and_forge_no_line(
    hub: Server,
) -> None:
    topic = f"t-{time.monotonic_ns()}"
    names = [topic, f'{topic}-a b,"c" reason=drain', *(f"{topic}-{'x' * 500}{n}" for n in range(8))]
    with hub.listen(topic=names) as stream:
        assert json.loads(stream.next().data)["topics"] == sorted(names)
    [ended] = until(lambda: lines(hub, "ended", topic), "the end is logged")
    assert f",{topic}-a%20b%2C%22c%22%20reason%3Ddrain," in ended
    assert ended.endswith(" more_topics=5")
    assert ended.count("reason=") == 1
    assert len(ended) < 900
