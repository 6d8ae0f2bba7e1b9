"""Clients that others wrote, unchanged, on Mercure's path: what they hand to their users, and how
they take the end of a stream. The table of docs/reference/clients.md says the same.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp.client
import httpx
import pytest
from pymercure.message import Message
from pymercure.publisher.sync import SyncPublisher

from support.doc_pages import blocks, section
from support.programs import need
from support.project import ROOT, environment
from support.tokens import KEY, token
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.server import Server

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
MERCURE = "/.well-known/mercure"
SUBSCRIPTIONS = f"{MERCURE}/subscriptions"
TOKEN = token(publish=["*"], subscribe=["*"])
ALL = {"Authorization": f"Bearer {TOKEN}"}
QUICK = {"TIDINGS_JWT_KEY": KEY, "TIDINGS_RETRY": "0.1", "TIDINGS_DRAIN": "0.5"}
EVENTS = [{"data": "ü"}, {"data": "x", "type": "greeting", "id": "own"}]
OPENAI = [
    {
        "id": "1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": reason}],
    }
    for word, reason in (("Hello ", None), ("world", "stop"))
]
ANTHROPIC: list[dict[str, Any]] = [
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "message_stop"},
]
WITH_ITS_TOKEN = "sseclient (Mercure's example), with its token"
NOT_ASKED = "\u2013"  # of a client that ends
MODELS = (
    "openai (Node)",
    "openai (Python)",
    "@anthropic-ai/sdk",
    "anthropic (Python)",
    "ai (Vercel)",
)
TABLE = {
    name: (after_end, unreachable)
    for names, after_end, unreachable in re.findall(
        r"^\| (`.+?`.*?) \| (.+?) \| (.+?) \|",
        section("reference/clients.md", "What each client needs"),
        re.MULTILINE,
    )
    for name in re.findall(r"`(.+?)`", names)
}


LATER = ["after the end", "after the restart"]
ROWS = [("ends", NOT_ASKED), ("reconnects", "ends"), ("reconnects", "tries again")]
"""What the table says of a client that sees none, one or both of the later events."""
LATE = {name for name, (after_end, _) in TABLE.items() if after_end == "reconnects late"}


class Clients:
    """All clients, and the events that each gave to its user."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self.seen: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
        self.readers = [threading.Thread(target=self._read, args=(it,)) for it in processes]
        for reader in self.readers:
            reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        with process.stdout as lines:
            for line in lines:
                if not line.startswith("["):  # sseclient prints errors there
                    continue
                name, *fields = json.loads(line)
                if fields[0] == "end" or fields[2]:  # sseclient's own fault: see the table
                    self.seen[name].append((fields[0], fields[1], fields[2]))

    def has_all(self, name: str) -> bool:
        return len(self.data(name)) == (len(ANTHROPIC) if "anthropic" in name else len(EVENTS))

    def ended(self, name: str) -> bool:
        return any(event[0] == "end" for event in self.seen[name])

    def data(self, name: str) -> list[str]:
        return [data for type_, _, data in self.seen[name] if type_ != "end"]


@contextmanager
def running(url: str) -> Iterator[Clients]:
    assert (ROOT / "tests/node_modules").exists(), "npm ci --prefix tests"
    commands = [
        [need("node"), "programs.mjs", url],
        [sys.executable, "programs.py", url, TOKEN],
        [need("php"), "programs.php", url, TOKEN],
    ]
    processes = [
        subprocess.Popen(it, cwd=HERE, env=environment({}), stdout=subprocess.PIPE, text=True)
        for it in commands
    ]
    clients = Clients(processes)
    try:
        yield clients
    finally:
        for process, reader in zip(processes, clients.readers, strict=True):
            process.kill()
            process.wait()
            reader.join(PATIENCE)


def publish(hub: Server, topic: str, **fields: str) -> str:
    answer = hub.http.post("/events", data={"topic": topic, **fields}, headers=ALL)
    assert answer.status_code == 200
    return answer.text.strip()


@pytest.fixture(name="clients", scope="module")
def _clients(serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Clients:
    """All clients after some events, the end of their streams, and a restart of the hub."""
    log = tmp_path_factory.mktemp("log") / "events.db"
    env = {**QUICK, "TIDINGS_BROKER_URL": f"sqlite:///{log}"}
    hub = serve(**env)
    for event in EVENTS:
        publish(hub, "t", **event)
    for chunk in OPENAI:
        publish(hub, "openai", data=json.dumps(chunk))
    publish(hub, "openai", data="[DONE]", end="1")
    for event in ANTHROPIC:
        end = str(int(event is ANTHROPIC[-1]))
        publish(hub, "anthropic", data=json.dumps(event), type=event["type"], end=end)
    publish(hub, "private", data="secret", private="on")
    with running(hub.url) as clients:
        until(lambda: all(map(clients.has_all, TABLE)), "each has all events", 4 * PATIENCE)
        until(lambda: clients.data(WITH_ITS_TOKEN), "the example has the private event")
        until(lambda: all(map(clients.ended, MODELS)), "the answers have ended")
        opened = len(re.findall("stream opened: .* topics=t ", hub.log))
        hub.http.delete(f"{SUBSCRIPTIONS}/t", headers=ALL).raise_for_status()
        until(lambda: hub.left("t") >= opened, "all streams have ended")
        publish(hub, "t", data=LATER[0])
        until(
            lambda: all(
                len(clients.data(it)) == 3 or clients.ended(it) for it in TABLE.keys() - LATE
            ),
            "each has gone on or ended",
        )
        hub.stop()
        fragile = [name for name, (_, unreachable) in TABLE.items() if unreachable == "ends"]
        until(lambda: all(map(clients.ended, fragile)), "the clients that need a hub have ended")
        publish(serve("-b", f"127.0.0.1:{hub.port}", **env), "t", data=LATER[1])
        trying = [name for name, (_, unreachable) in TABLE.items() if unreachable == "tries again"]
        until(
            lambda: all(len(clients.data(it)) == 4 for it in trying),
            "the others are back",
            4 * PATIENCE,
        )
    return clients


@pytest.mark.parametrize("name", sorted(TABLE.keys() - set(MODELS)))
def test_a_client_sees_only_what_was_published(clients: Clients, name: str) -> None:
    first, own = clients.seen[name][:2]
    assert (first[0], first[2]) == ("message", "ü")
    assert own == ("greeting", "own", "x")
    later = clients.data(name)[2:]
    assert later == LATER[: len(later)]


@pytest.mark.parametrize("name", sorted(TABLE.keys() - set(MODELS) - LATE))
def test_a_client_takes_the_end_of_a_stream_as_the_table_says(clients: Clients, name: str) -> None:
    later = clients.data(name)[2:]
    assert TABLE[name] == ROWS[len(later)]
    assert clients.ended(name) == (len(later) < 2)


@pytest.mark.parametrize("name", MODELS)
def test_a_models_client_reads_the_models_events_from_the_hub(clients: Clients, name: str) -> None:
    data = clients.data(name)
    if name == "ai (Vercel)":
        assert data == ["Hello ", "world"]
    else:
        assert [json.loads(it) for it in data] == (OPENAI if "openai" in name else ANTHROPIC)
    assert TABLE[name] == ("ends", NOT_ASKED)


def test_mercures_example_reads_private_events_with_its_token(clients: Clients) -> None:
    assert clients.data(WITH_ITS_TOKEN) == ["secret"]


def test_the_default_time_outs_are_those_of_the_page() -> None:
    text = section("reference/clients.md", "Read time-outs")
    assert f"httpx gives up after {httpx.Client().timeout.read:g} s" in text
    total = aiohttp.client.DEFAULT_TIMEOUT.total
    assert f"aiohttp ends every request after {total:g} s" in text


def test_openais_library_reads_an_answer_as_the_page_shows(server: Server) -> None:
    [code] = blocks("reference/clients.md", "Clients of language models", "python")
    for chunk in OPENAI:
        server.publish(json.dumps(chunk), topic="/answers/42")
    names: dict[str, Any] = {"token": "none"}
    exec(compile(code.replace("https://hub.example", server.url), "the page", "exec"), names)
    with names["chunks"] as chunks:
        read = [next(chunks).choices[0].delta.content for _ in OPENAI]
    assert read == ["Hello ", "world"]


def test_symfonys_mercure_component_publishes(server: Server, topic: str) -> None:
    command = [need("php"), "programs.php", server.url, TOKEN, topic]
    done = subprocess.run(command, cwd=HERE, capture_output=True, check=True, timeout=PATIENCE)
    assert done.stdout == b"own"
    with server.listen(topic=topic, last=1) as stream:
        [event] = stream.messages(1)
    assert event[:3] == ("ü", "greeting", "own")


def test_pymercure_publishes(server: Server, topic: str) -> None:
    message = Message([topic, "another"], "ü", message_id="own", event_type="greeting")
    assert SyncPublisher(f"{server.url}{MERCURE}", TOKEN).publish(message) == "own"
    with server.listen(topic=topic, last=1) as stream:
        [event] = stream.messages(1)
    assert event[:3] == ("ü", "greeting", "own")
