"""The hub speaks Mercure: what its protocol and its tests ask for, and its clients, unchanged."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import pytest
import sseclient
from httpx_sse import connect_sse
from mercure_publisher import (  # type: ignore[import-untyped]
    MercureConfig,
    MercurePublisher,
    MercurePublishError,
)

from support.browser import show
from support.ports import free_port
from support.processes import cpu
from support.programs import need
from support.project import ROOT
from support.tokens import KEY
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

    from support.server import Server
    from support.stream import Stream

PATH = "/.well-known/mercure"


def bearer(publish: list[str] | None = None, subscribe: list[str] | None = None) -> dict[str, str]:
    claims = {"mercure": {"publish": publish, "subscribe": subscribe or []}}
    return {"Authorization": f"Bearer {jwt.encode(claims, KEY)}"}


ALL = bearer(["*"], ["*"])


@pytest.fixture(name="hub", scope="module")
def _hub(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY, TIDINGS_HEARTBEAT="1")


def publish(hub: Server, **fields: Any) -> str:
    answer = hub.http.post(PATH, data=fields, headers=ALL)
    assert answer.status_code == 200, answer.text
    return answer.text


def listen(hub: Server, **query: Any) -> Any:
    headers = query.pop("headers", None)
    return hub.listen(PATH, headers=headers, **query)


# Publishing


def test_a_publisher_is_answered_with_the_id_as_text(hub: Server, topic: str) -> None:
    answer = hub.http.post(PATH, data={"topic": topic, "data": "x"}, headers=ALL)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert re.fullmatch(r"\d+-\d+", answer.text)
    own = {"topic": topic, "data": "x", "id": f"urn:uuid:{topic}"}
    assert hub.http.post(PATH, data=own, headers=ALL).text == own["id"]


@pytest.mark.parametrize(
    ("fields", "headers", "status"),
    [
        ({"topic": "t", "data": "x"}, {}, 401),
        ({"topic": "t", "data": "x"}, {"Authorization": "Bearer x.y.z"}, 401),
        ({"topic": "t", "data": "x"}, bearer(["other"]), 403),
        ({"topic": ["t", "u"], "data": "x"}, bearer(["t"]), 403),
        ({"topic": "t", "data": "x"}, bearer([]), 403),
        ({"topic": "t", "data": "x"}, bearer(None), 403),
        ({"data": "x"}, ALL, 400),
        ({"topic": "", "data": "x"}, ALL, 400),
        ({"topic": "t", "retry": "soon"}, ALL, 400),
        ({"topic": "t", "id": "#x"}, ALL, 400),
        ({"topic": "t", "id": "earliest"}, ALL, 400),
        ({"topic": "t", "id": "a\nb"}, ALL, 400),
        ({"topic": "t", "id": "https://e.example/é"}, ALL, 400),
        ({"topic": "t", "id": "x" * 129}, ALL, 400),
        ({"topic": "t", "id": "2024-01"}, ALL, 400),
        ({"topic": "t", "id": "1700000000000-0"}, ALL, 400),
        ({"topic": "t", "id": "null"}, ALL, 400),
        ({"topic": "t", "type": "a\rb"}, ALL, 400),
        ({"topic": "t\u200b"}, ALL, 400),
        ({"topic": list(map(str, range(1001)))}, ALL, 400),
        ({"topic": f"{PATH}/subscriptions/x/y"}, ALL, 403),
        ({"topic": "t", "id": "https://e.example/%C3%A9"}, ALL, 200),
        ({"topic": "t", "id": "2024-01-31"}, ALL, 200),
        ({"topic": f"https://e.example/a{PATH}/x"}, ALL, 200),
        ({"topic": f"//e.example{PATH}/x"}, ALL, 200),
        ({"topic": "t"}, ALL, 200),
        ({"topic": "t", "unknown": "field"}, ALL, 200),
    ],
)
def test_what_cannot_be_published_is_refused_with_mercures_status(
    hub: Server, fields: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    assert hub.http.post(PATH, data=fields, headers=headers).status_code == status


def test_what_is_published_arrives_as_mercure_writes_it(hub: Server, topic: str) -> None:
    with listen(hub, topic=topic) as stream:
        fields = {"topic": topic, "type": "t", "retry": "5000", "id": topic, "data": "a\nb\r\nc"}
        publish(hub, **fields)
        stream.messages(1)
    expected = f"event: t\nretry: 5000\nid: {topic}\ndata: a\ndata: b\ndata: c\n\n"
    assert stream.raw.decode().endswith(expected)


# Subscribing


@pytest.mark.parametrize(
    "selector",
    [
        "https://example.com/books/1.jsonld",
        "https://example.com/books/{id}.jsonld",
        "https://example.com/{+rest}",
        "{+any}",
        "*",
    ],
)
@pytest.mark.parametrize("name", ["topic", "match"])
def test_topics_are_selected_exactly_by_template_or_all(
    hub: Server, name: str, selector: str, topic: str
) -> None:
    with listen(hub, **{name: selector}) as stream:
        publish(hub, topic="elsewhere/ ", data="no")
        publish(hub, topic="https://example.com/books/1.jsonld", data=topic)
        assert stream.take(1 + (selector == "*"))[-1] == topic


def test_a_faulty_template_is_an_exact_topic(hub: Server, topic: str) -> None:
    with listen(hub, topic=f"{topic}{{") as stream:
        publish(hub, topic=f"{topic}{{", data="x")
        assert stream.take(1) == ["x"]


def test_an_alternate_topic_reaches_subscribers_and_grants_private_events(
    hub: Server, topic: str
) -> None:
    canonical, alternate = f"{topic}/1", f"{topic}/of/7"
    granted = bearer(subscribe=[f"{topic}/of/{{user}}"])
    with (
        listen(hub, topic=canonical, headers=granted) as by_name,
        listen(hub, topic=alternate, headers=granted) as by_alternate,
        listen(hub, topic=[canonical, alternate]) as anonymous,
    ):
        publish(hub, topic=[canonical, alternate], data="private", private="on")
        publish(hub, topic=[canonical, alternate], data="public")
        assert by_name.take(2) == by_alternate.take(2) == ["private", "public"]
        assert anonymous.take(1) == ["public"]


@pytest.mark.parametrize(
    "topic",
    [
        f"//e.example{PATH}/subscriptions/x/y",
        f"https:{PATH}/subscriptions/x/y",
        f"{PATH}?subscriptions/x/y",
        f"{PATH}#subscriptions/x/y",
    ],
)
def test_a_topic_that_looks_reserved_is_not_taken_for_presence(hub: Server, topic: str) -> None:
    presence = f"{PATH}/subscriptions{{/topic}}{{/subscriber}}"
    with listen(hub, topic=[presence, "sure"], headers=ALL) as stream:
        hub.http.post(PATH, data={"topic": topic, "data": "forged"}, headers=ALL)
        publish(hub, topic="sure", data="x")
        seen = list[str]()
        while "x" not in seen:  # subscribers of earlier tests may be leaving
            seen += stream.take(1)
        assert "forged" not in seen


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ({}, {}, 400),
        ({"topic": ["t"] * 101}, {}, 400),
        ({"topic": "t"}, {"Authorization": "Bearer nonsense"}, 401),
        ({"topic": "t"}, {"Authorization": "nonsense"}, 401),
        ({"topic": "t", "authorization": "nonsense"}, {}, 401),
    ],
)
def test_who_cannot_subscribe_is_refused_with_mercures_status(
    hub: Server, query: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    answer = hub.http.get(PATH, params=query, headers=headers)
    assert answer.status_code == status
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


def test_a_token_is_taken_from_header_then_query_then_cookie(hub: Server, topic: str) -> None:
    good, other = (bearer(None, [it])["Authorization"][7:] for it in (topic, "other"))
    carriers: list[tuple[dict[str, str], dict[str, str]]] = [
        ({"Authorization": f"bearer {good}"}, {"authorization": other}),
        ({"Cookie": f"mercureAuthorization={other}"}, {"authorization": good}),
        ({"Cookie": f"a=b; mercureAuthorization={good}"}, {}),
    ]
    for headers, query in carriers:
        with listen(hub, topic=topic, headers=headers, **query) as stream:
            publish(hub, topic=topic, data="private", private="on")
            assert stream.take(1) == ["private"]


def test_the_namespaced_claim_counts_too(hub: Server, topic: str) -> None:
    token = jwt.encode({"https://mercure.rocks/": {"publish": ["*"]}}, KEY)
    sent = {"Authorization": f"Bearer {token}"}
    assert hub.http.post(PATH, data={"topic": topic}, headers=sent).status_code == 200


def test_a_heartbeat_is_a_comment_of_one_line(hub: Server, topic: str) -> None:
    with listen(hub, topic=topic, control=1) as stream:
        stream.next()
        head = stream.raw
        subscriber = threading.Thread(target=stream.messages, args=(1,), daemon=True)
        subscriber.start()
        until(lambda: len(stream.raw) >= len(head) + 2, "a heartbeat came")
        assert re.fullmatch(rb"(:\n)+:?", stream.raw.removeprefix(head))
        publish(hub, topic=topic, data="x")
        subscriber.join(PATIENCE)


# Coming back


def begins(stream: Stream) -> str:
    assert stream.headers["Mercure-Last-Event-ID"] == stream.headers["Last-Event-ID"]
    return str(stream.headers["Last-Event-ID"])


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Last-Event-ID", ""),
        ("Mercure-Last-Event-ID", ""),
        ("", "lastEventID"),
        ("", "last_event_id"),
    ],
)
def test_a_cursor_is_taken_from_header_or_query(
    hub: Server, header: str, name: str, topic: str
) -> None:
    ids = [publish(hub, topic=topic, data=data, id=f"{topic}-{data}") for data in "abc"]
    headers = {header: ids[0]} if header else {}
    query = {name: ids[0]} if name else {}
    with listen(hub, topic=topic, headers=headers, **query) as stream:
        assert begins(stream) == ids[0]
        assert stream.take(2) == ["b", "c"]


def test_the_header_wins_and_earliest_is_all_that_is_kept(hub: Server, topic: str) -> None:
    ids = [publish(hub, topic=topic, data=data) for data in "abc"]
    both = {"headers": {"Last-Event-ID": ids[1]}, "last_event_id": "earliest"}
    with listen(hub, topic=topic, **both) as stream:
        assert stream.take(1) == ["c"]
    with listen(hub, topic=topic, last_event_id="earliest") as stream:
        assert begins(stream) == "earliest"
        assert stream.take(3) == ["a", "b", "c"]


def test_an_unknown_id_gets_a_reset_and_leaks_no_private_id(hub: Server, topic: str) -> None:
    secret = publish(hub, topic=topic, data="x", private="on", id=f"secret-{topic}")
    for cursor in ("unknown", ""):
        with listen(hub, topic=topic, last_event_id=cursor, control=1) as stream:
            assert re.fullmatch("earliest" if cursor else r"\d+-\d+", begins(stream))
            stream.next()
            assert not cursor or stream.next().type == "hub.reset"
        assert secret not in stream.raw.decode()
        assert secret not in str(stream.headers)


def test_private_events_are_filtered_on_replay_too(hub: Server, topic: str) -> None:
    start = publish(hub, topic=topic, data="start")
    for data, private in (("a", "on"), ("b", ""), ("c", "on")):
        publish(hub, topic=topic, data=data, **({"private": private} if private else {}))
    with listen(hub, topic=topic, last_event_id=start) as anonymous:
        assert anonymous.take(1) == ["b"]
    granted = bearer(subscribe=[topic])
    with listen(hub, topic=topic, last_event_id=start, headers=granted) as subscriber:
        assert subscriber.take(3) == ["a", "b", "c"]


# Discovery


def test_a_page_says_where_the_hub_is(hub: Server) -> None:
    answer = hub.http.get("/")
    assert answer.url.join(answer.links["mercure"]["url"]).path == PATH


# Where Mercure fails: far back, and far behind


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it asks Linux")
@pytest.mark.slow
def test_a_subscriber_starts_anywhere_in_a_long_history_at_once(
    serve: Callable[..., Server], topic: str
) -> None:
    hub = serve(TIDINGS_DEMO="0")
    lines = (json.dumps({"topic": topic, "data": str(it), "id": f"n{it}"}) for it in range(100_000))
    ndjson = {"Content-Type": "application/x-ndjson"}
    body = "\n".join(lines).encode()
    with hub.listen(topic="end") as stream:
        for part in re.findall(rb"(?:.+\n?){1,20000}", body):
            answer = hub.http.post("/events", content=part, headers=ndjson, timeout=60)
            assert answer.json()["published"] == 20_000
        hub.publish("all", topic="end")
        assert stream.take(1) == ["all"]  # and the hub has nothing more to do

    def take(start: int, count: int) -> float:
        """Read some events after one; return the CPU seconds that it takes the hub."""
        before = cpu(hub.worker)
        with hub.listen(PATH, topic=topic, last_event_id=f"n{start}") as stream:
            assert stream.take(count) == [str(start + step) for step in range(1, count + 1)]
        return cpu(hub.worker) - before

    half = take(49_999, 50_000)
    for start in (0, 49_998, 99_990):
        assert take(start, 5) < half / 2


# Clients, unchanged


def test_mercure_publisher_publishes(hub: Server, topic: str) -> None:
    config = MercureConfig(hub_url=hub.url + PATH, publisher_jwt_key=KEY, publish_topics=["*"])
    with (
        listen(hub, topic=topic, headers=bearer(subscribe=["*"])) as stream,
        MercurePublisher(config) as publisher,
    ):
        sent = {"private": True, "id": f"urn:uuid:{topic}", "type": "t", "retry": 5000}
        assert publisher.publish([topic, "another"], {"a": "ü"}, **sent) == sent["id"]
        assert publisher.publish(topic, "text")
        [first, second] = stream.messages(2)
        assert json.loads(first.data) == {"a": "ü"}
        assert (first.type, first.id, first.retry) == ("t", sent["id"], 5000)
        assert second.data == "text"
    narrow = MercureConfig(hub_url=hub.url + PATH, publisher_jwt_key=KEY, publish_topics=["x"])
    with MercurePublisher(narrow) as publisher, pytest.raises(MercurePublishError):
        publisher.publish(topic, "text")


NODE = """
import { EventSource } from 'eventsource';
const source = new EventSource(process.argv[1]);
source.onmessage = (event) => console.log(event.lastEventId, event.data);
source.addEventListener('greeting', (event) => console.log(event.lastEventId, event.data));
"""


def node(url: str) -> subprocess.Popen[str]:
    program = need("node")
    assert (ROOT / "tests/node_modules").exists(), "npm ci --prefix tests"
    command = [program, "--input-type=module", "-e", NODE, url]
    return subprocess.Popen(command, cwd=ROOT / "tests", stdout=subprocess.PIPE, text=True)


def httpx_sse(url: str, cursor: str) -> Iterator[tuple[str, str]]:
    with (
        httpx.Client(trust_env=False, timeout=PATIENCE) as client,
        connect_sse(client, "GET", url, headers={"Last-Event-ID": cursor}) as source,
    ):
        for event in source.iter_sse():
            yield event.id, event.data


def sseclient_py(url: str, cursor: str) -> Iterator[tuple[str, str]]:
    with httpx.stream(
        "GET", url, headers={"Last-Event-ID": cursor}, trust_env=False, timeout=PATIENCE
    ) as answer:
        for event in sseclient.SSEClient(answer.iter_bytes()).events():
            yield str(event.id), event.data


def curl(url: str, cursor: str) -> Iterator[tuple[str, str]]:
    command = [need("curl"), "-gsN", "-H", f"Last-Event-ID: {cursor}", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        newest = ""
        try:
            for line in process.stdout:
                name, _, value = line.rstrip("\n").partition(": ")
                newest = value if name == "id" else newest
                if name == "data":
                    yield newest, value
        finally:
            process.kill()


@pytest.mark.parametrize("client", [httpx_sse, sseclient_py, curl])
def test_a_client_reads_and_comes_back(
    hub: Server, topic: str, client: Callable[[str, str], Iterator[tuple[str, str]]]
) -> None:
    url = f"{hub.url}{PATH}?topic={topic}"
    ids = [publish(hub, topic=topic, data=data) for data in ("a", "b")]
    with closing(client(url, ids[0])) as events:  # type: ignore[type-var]
        assert next(events) == (ids[1], "b")
    missed = publish(hub, topic=topic, data="c", id=f"own-{topic}")
    with closing(client(url, ids[1])) as events:  # type: ignore[type-var]
        assert next(events) == (missed, "c")


QUICK = {"TIDINGS_DEMO": "0", "TIDINGS_RETRY": "0.1", "TIDINGS_DRAIN": "0.5"}


@pytest.mark.slow
def test_npms_eventsource_reads_and_comes_back_after_a_deploy(
    serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory
) -> None:
    url, address = f"sqlite:///{tmp_path_factory.mktemp('log')}/log.db", f"127.0.0.1:{free_port()}"
    hub = serve("-b", address, TIDINGS_BROKER_URL=url, **QUICK)
    with node(f"http://{address}{PATH}?topic=t") as process:
        assert process.stdout
        until(lambda: "stream opened" in hub.log, "it listens")
        first = hub.publish("a", topic="t")
        assert process.stdout.readline() == f"{first} a\n"
        hub.stop()
        hub = serve("-b", address, TIDINGS_BROKER_URL=url, **QUICK)
        second = hub.publish("b", topic="t", type="greeting")
        assert process.stdout.readline() == f"{second} b\n"
        process.kill()


def test_chromiums_eventsource_reads_private_events_with_the_cookie(
    hub: Server, chromium: Browser, topic: str
) -> None:
    context = chromium.new_context()
    token = bearer(subscribe=[topic])["Authorization"][7:]
    context.add_cookies([{"name": "mercureAuthorization", "value": token, "url": hub.url}])
    page = context.new_page()
    show(page, hub, "")
    page.evaluate(
        """url => new Promise(opened => {
            window.seen = [];
            const source = new EventSource(url, {withCredentials: true});
            source.onmessage = event => seen.push([event.lastEventId, event.data]);
            source.onopen = opened;
        })""",
        f"{PATH}?topic={topic}",
    )
    published = publish(hub, topic=topic, data="private", private="on")
    page.wait_for_function("seen.length")
    assert page.evaluate("seen") == [[published, "private"]]
    context.close()
