"""Subscribers that others wrote, each used as its documentation shows. Arguments: the URL of a hub,
and a token.

Each event that a client hands to its user is printed as a line of JSON: client, type, id, data.
A client that ends is printed with the type "end".
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import threading
from collections.abc import Callable
from importlib.metadata import distribution
from typing import Any

NO_TIMEOUT = None
PRINTING = threading.Lock()


PATH = "/.well-known/mercure"
Put = Callable[[str | None, str | None, str], None]


def mercures_example_with_its_token(url: str, put: Put) -> None:
    mercures_example(url, put, {"Authorization": b"Bearer " + sys.argv[2].encode()})


def mercures_example(url: str, put: Put, headers: dict[str, bytes] | None = None) -> None:
    """Mercure's `examples/subscribe/python.py`. sseclient-py hides this package's module."""
    path = str(distribution("sseclient").locate_file("sseclient.py"))
    spec = importlib.util.spec_from_file_location("old_sseclient", path)
    assert spec
    assert spec.loader
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for update in module.SSEClient(url, headers=headers or {}):
        put(update.event, update.id, update.data)


def sseclient_py(url: str, put: Put) -> None:
    import requests
    import sseclient

    response: Any = requests.get(url, stream=True, timeout=NO_TIMEOUT)
    for event in sseclient.SSEClient(response).events():
        put(event.event, event.id, event.data)


def pymercure(url: str, put: Put) -> None:
    from pymercure.consumer import Consumer

    def take(message: Any) -> None:
        put(message.event_type, message.message_id, message.data)

    # It adds `?topic=t` and knows no cursor: here that is the value of a name that the hub ignores.
    consumer = Consumer(f"{url}&ignored=", ["t"], take)
    consumer.start_consumption()
    consumer.join()


def httpx_sse(url: str, put: Put) -> None:
    import httpx
    from httpx_sse import connect_sse

    with httpx.Client(timeout=NO_TIMEOUT) as client, connect_sse(client, "GET", url) as source:
        for event in source.iter_sse():
            put(event.event, event.id, event.data)


def aiohttp_sse_client(url: str, put: Put) -> None:
    from aiohttp_sse_client.client import EventSource

    asyncio.run(_aiohttp(EventSource, url, put))


def aiohttp_sse_client2(url: str, put: Put) -> None:
    from aiohttp_sse_client2.client import EventSource

    asyncio.run(_aiohttp(EventSource, url, put))


async def _aiohttp(source: Any, url: str, put: Put) -> None:
    async with source(url) as events:
        async for event in events:
            put(event.type, event.last_event_id, event.data)


def requests_sse(url: str, put: Put) -> None:
    from requests_sse import EventSource

    with EventSource(url, timeout=NO_TIMEOUT) as source:
        for event in source:
            put(event.type, event.last_event_id, event.data)


def ld_eventsource(url: str, put: Put) -> None:
    from ld_eventsource import SSEClient

    for event in SSEClient(url).events:
        put(event.event, event.last_event_id, event.data)


def ld_eventsource_that_continues(url: str, put: Put) -> None:
    from ld_eventsource import SSEClient
    from ld_eventsource.config import ErrorStrategy

    for event in SSEClient(url, error_strategy=ErrorStrategy.always_continue()).events:
        put(event.event, event.last_event_id, event.data)


def openai(hub: str, put: Put) -> None:
    from openai import OpenAI, Stream
    from openai.types.chat import ChatCompletionChunk

    chunks = OpenAI(api_key=sys.argv[2], base_url=hub).get(
        PATH,
        cast_to=ChatCompletionChunk,
        options={"params": {"topic": "openai", "last_event_id": "earliest", "wait": "1"}},
        stream=True,
        stream_cls=Stream[ChatCompletionChunk],
    )
    for chunk in chunks:
        put("", "", chunk.model_dump_json(exclude_unset=True))


def anthropic(hub: str, put: Put) -> None:
    from anthropic import Anthropic, Stream
    from anthropic.types import RawMessageStreamEvent

    event_type: Any = RawMessageStreamEvent
    events = Anthropic(auth_token=sys.argv[2], base_url=hub).get(
        PATH,
        cast_to=event_type,
        options={"params": {"topic": "anthropic", "last_event_id": "earliest", "wait": "1"}},
        stream=True,
        stream_cls=Stream[RawMessageStreamEvent],
    )
    for event in events:
        put("", "", event.model_dump_json(exclude_unset=True))


PROGRAMS = {
    "sseclient (Mercure's example)": mercures_example,
    "sseclient-py": sseclient_py,
    "pymercure": pymercure,
    "httpx-sse": httpx_sse,
    "aiohttp-sse-client": aiohttp_sse_client,
    "aiohttp-sse-client2": aiohttp_sse_client2,
    "requests-sse": requests_sse,
    "launchdarkly-eventsource": ld_eventsource,
    "launchdarkly-eventsource, always_continue": ld_eventsource_that_continues,
}
PRIVATE = {"sseclient (Mercure's example), with its token": mercures_example_with_its_token}
MODELS = {"openai (Python)": openai, "anthropic (Python)": anthropic}


def run(name: str, program: Callable[[str, Put], None], url: str) -> None:
    def put(type_: str | None, id_: str | None, data: str) -> None:
        line = json.dumps([name, type_ or "message", id_ or "", data])
        with PRINTING:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    try:
        program(url, put)
    except Exception as error:  # noqa: BLE001 - whatever ends a client is what a test looks for
        put("end", "", type(error).__name__)
    else:
        put("end", "", "")


if __name__ == "__main__":
    hub = sys.argv[1]
    url = f"{hub}{PATH}?last_event_id=earliest&topic="
    for programs, its_url in ((PROGRAMS, f"{url}t"), (PRIVATE, f"{url}private"), (MODELS, hub)):
        for name, program in programs.items():
            threading.Thread(target=run, args=(name, program, its_url)).start()
