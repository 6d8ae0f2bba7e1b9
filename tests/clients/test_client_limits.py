"""What the page on clients says of time-outs, long lines and HTTP versions, with real clients."""

from __future__ import annotations

import re
import subprocess
import threading
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from aiohttp_sse_client import client as first
from aiohttp_sse_client2 import client as second
from httpx_sse import connect_sse

from support import asynchronous
from support.doc_pages import section
from support.programs import need
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.server import Server

KB = 1024
FOPEN = """
[, $url, $version] = $argv;
$options = ['http' => ['protocol_version' => $version, 'header' => 'Accept: text/event-stream']];
$stream = fopen("$url&control=0", 'r', false, stream_context_create($options));
while (($line = fgets($stream)) !== false) echo $line;
"""


def with_a_short_time_out(url: str, cursor: str) -> Iterator[str]:
    """Yield data as httpx-sse reads it, again and again from the newest id."""
    with httpx.Client(trust_env=False, timeout=httpx.Timeout(PATIENCE, read=0.1)) as client:
        for _ in count():
            try:
                with connect_sse(client, "GET", url, headers={"Last-Event-ID": cursor}) as source:
                    for event in source.iter_sse():
                        cursor = event.id
                        yield event.data
            except httpx.ReadTimeout:
                yield "time-out"


def test_a_read_time_out_that_is_too_short_loses_no_event(server: Server, topic: str) -> None:
    sent = list(map(str, range(9)))
    received: list[str] = []
    events = with_a_short_time_out(f"{server.url}/events?topic={topic}&control=0", "earliest")
    server.publish(sent[0], topic=topic)
    for data in events:
        received.append(data)
        if data == "time-out" and (number := received.count(data)) < len(sent):
            server.publish(sent[number], topic=topic)
        if data == sent[-1]:
            break
    assert [data for data in received if data != "time-out"] == sent


@pytest.mark.parametrize("library", [first, second], ids=["aiohttp-sse-client", "-client2"])
def test_a_line_can_be_too_long_for_aiohttps_clients(
    server: Server, topic: str, library: Any
) -> None:
    page = section("reference/clients.md", "Long lines")
    [limit] = re.findall(r"`aiohttp-sse-client`, `aiohttp-sse-client2` \| (\d+) KB", page)

    async def longest(kilobytes: int) -> str:
        url = f"{server.url}/events?topic={topic}-{kilobytes}&last=1&control=0"
        async with library.EventSource(url) as events:
            async for event in events:
                return str(event.data)
        return ""

    for kilobytes in (int(limit) - 8, int(limit) + 8):
        server.publish("x" * kilobytes * KB, topic=f"{topic}-{kilobytes}")
    assert asynchronous.run(longest(int(limit) - 8))
    with pytest.raises(Exception, match=r"(?i)too (long|big)|more than"):
        asynchronous.run(longest(int(limit) + 8))


def test_phps_fopen_reads_each_event_at_once_with_the_version_of_the_page(
    server: Server, topic: str
) -> None:
    page = section("reference/clients.md", "HTTP versions")
    [version] = re.findall(r"`fopen` .* set its option `protocol_version` to `(\S+)`", page)
    command = [need("php"), "-r", FOPEN, f"{server.url}/events?topic={topic}", version]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        reader = threading.Thread(target=lines.extend, args=(process.stdout,))
        reader.start()
        try:
            until(lambda: server.log.count(f" topics={topic} from="), "it subscribes")
            server.publish("one", topic=topic)
            until(lambda: "data: one\n" in lines, "the first one comes")
            server.publish("two", topic=topic)
            until(lambda: "data: two\n" in lines, "the second one comes")
        finally:
            process.kill()
            reader.join()
