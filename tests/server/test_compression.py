"""Who is sent a compressed stream, and that each of its events can be read when it arrives."""

from __future__ import annotations

import gzip
import json
import subprocess
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from support.programs import need
from support.tokens import KEY, token
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from support.server import Server

GZIP = {"Accept-Encoding": "gzip"}
VARNISH = {"X-Varnish": "32770"}
REQUESTS = {"User-Agent": "python-requests/2.32.3"}


@pytest.fixture(name="keyed", scope="module")
def _keyed(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY)


@pytest.fixture(name="private", scope="module")
def _private(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY, TIDINGS_COMPRESS="all", TIDINGS_HEARTBEAT="0.2")


def headers(server: Server, method: str = "GET", path: str = "/events", **sent: str) -> Any:
    with server.http.stream(method, path, headers=sent) as answer:
        assert answer.status_code == 200
        return answer.headers


def coding(server: Server, **sent: str) -> str | None:
    found: str | None = headers(server, **sent).get("Content-Encoding")
    return found


def decoded(answer: httpx.Response) -> Iterator[bytes]:
    """Yield what a strict decoder makes of each part as it arrives."""
    decoder = zlib.decompressobj(31)
    for part in answer.iter_raw():
        yield decoder.decompress(part)
    assert decoder.eof
    assert not decoder.unused_data


def until_it_has(parts: Iterator[bytes], wanted: bytes) -> bytes:
    read = b""
    while wanted not in read:
        read += next(parts)
    return read


@pytest.mark.parametrize(
    "accepted",
    [
        "gzip",
        "gzip, deflate",
        "gzip, deflate, br, zstd",
        "GZIP",
        "br;q=1.0, gzip;q=0.8, *;q=0.1",
        "gzip;q=0.001",
        "deflate ,gzip ; q=1",
        "gzip, identity;q=0",
    ],
)
def test_who_accepts_gzip_is_sent_gzip(server: Server, accepted: str) -> None:
    assert coding(server, **{"Accept-Encoding": accepted}) == "gzip"


@pytest.mark.parametrize(
    "sent",
    [
        {"Accept-Encoding": ""},
        {"Accept-Encoding": "identity"},
        {"Accept-Encoding": "gzip, identity"},
        {"Accept-Encoding": "gzip;q=0"},
        {"Accept-Encoding": "gzip;q=0.0.1"},
        {"Accept-Encoding": "br"},
        {"Accept-Encoding": "*"},
        {"Accept-Encoding": "gzipped, x"},
        {"Accept-Encoding": ",;=,"},
        GZIP | VARNISH,
        GZIP | REQUESTS,
    ],
    ids=repr,
)
def test_all_others_are_sent_a_plain_stream(server: Server, sent: dict[str, str]) -> None:
    found = headers(server, **sent)
    assert "Content-Encoding" not in found
    assert found["Vary"] == "Accept-Encoding"


def test_a_client_behind_varnish_that_it_pipes_is_sent_gzip(server: Server) -> None:
    assert coding(server, **VARNISH, **{"Accept-Encoding": "gzip, deflate"}) == "gzip"


def test_a_head_request_has_the_headers_of_the_stream(server: Server) -> None:
    found = headers(server, "HEAD", **GZIP)
    assert (found["Content-Encoding"], found["Vary"]) == ("gzip", "Accept-Encoding")


def test_a_page_of_another_origin_has_both_variations(serve: Callable[..., Server]) -> None:
    hub = serve(TIDINGS_CORS_ORIGINS="https://a.example", TIDINGS_DEMO="0")
    found = headers(hub, **GZIP, Origin="https://a.example")
    assert {it.strip() for it in found["Vary"].split(",")} == {"Accept-Encoding", "Origin"}


def test_refusals_are_plain(server: Server) -> None:
    answer = server.http.get("/events?last=x", headers=GZIP)
    assert "Content-Encoding" not in answer.headers


def test_it_can_be_switched_off(serve: Callable[..., Server]) -> None:
    found = headers(serve(TIDINGS_COMPRESS="off", TIDINGS_DEMO="0"), **GZIP)
    assert not {"Content-Encoding", "Vary"} & set(found)


def test_a_stream_that_may_have_private_events_is_plain_by_default(keyed: Server) -> None:
    assert coding(keyed, **GZIP) == "gzip"
    may_not = token(publish=["*"])
    assert coding(keyed, **GZIP, Authorization=f"Bearer {may_not}") == "gzip"
    may = token(subscribe=["/users/7"])
    assert coding(keyed, **GZIP, Authorization=f"Bearer {may}") is None


def test_private_events_are_compressed_if_the_setting_says_so(private: Server) -> None:
    granted = {"Authorization": f"Bearer {token(publish=['*'], subscribe=['*'])}"}
    with private.http.stream("GET", "/events", headers=GZIP | granted) as answer:
        parts = decoded(answer)
        until_it_has(parts, b"hub.open")
        private.http.post("/events", data={"data": "secret", "private": "1"}, headers=granted)
        until_it_has(parts, b"data: secret\n\n")
        until_it_has(parts, b":\n")  # a heartbeat


def test_each_event_can_be_read_when_it_arrives(server: Server, topic: str) -> None:
    url = f"/events?topic={topic}"
    with (
        server.http.stream("GET", url, headers=GZIP) as one,
        server.http.stream("GET", url, headers={"Accept-Encoding": "identity"}) as plain,
    ):
        compressed = decoded(one)
        opened = until_it_has(compressed, b"\n\n")
        assert json.loads(opened.partition(b"data: ")[2])["coding"] == "gzip"
        others = plain.iter_raw()
        for number in range(20):
            last_id = server.publish(f'{{"number": {number}}}', topic=topic)
            frame = f'id: {last_id}\ndata: {{"number": {number}}}\n\n'.encode()
            assert until_it_has(compressed, frame).endswith(frame)
            assert until_it_has(others, frame).endswith(frame)


def test_a_replay_and_a_large_event_are_compressed(server: Server, topic: str) -> None:
    text = json.dumps([{"name": f"host-{it}", "state": "up"} for it in range(5000)])
    server.publish(text, topic=topic)
    for number in range(300):
        server.publish(f'{{"name": "host-{number}", "state": "up"}}', topic=topic)
    size, decoder, read = 0, zlib.decompressobj(31), b""
    with server.http.stream(
        "GET", f"/events?topic={topic}&last_event_id=earliest", headers=GZIP
    ) as answer:
        for part in answer.iter_raw():
            size += len(part)
            read += decoder.decompress(part)
            if b"host-299" in read[-100:]:
                break
    assert text.encode() in read
    assert size < len(read) / 5


def test_a_stream_that_ends_is_a_valid_gzip_file(serve: Callable[..., Server]) -> None:
    hub = serve(TIDINGS_MAX_AGE="1", TIDINGS_HEARTBEAT="0.1", TIDINGS_DEMO="0")
    with hub.http.stream("GET", "/events", headers=GZIP) as answer:
        raw = answer.iter_raw()
        parts = [next(raw)]
        hub.publish("one")
        parts += raw
    body = b"".join(parts)
    assert gzip.decompress(body).endswith(b'"max_age"}\n\n')
    assert b"data: one\n\n" in gzip.decompress(body)
    subprocess.run([need("gzip"), "--test"], input=body, check=True, timeout=PATIENCE)


def test_a_stream_that_does_not_wait_is_a_valid_gzip_file(server: Server, topic: str) -> None:
    server.publish("one", topic=topic)
    for query in ("last=1", "latest=1", "last=0"):
        with server.http.stream(
            "GET", f"/events?topic={topic}&wait=0&{query}", headers=GZIP
        ) as answer:
            body = gzip.decompress(b"".join(answer.iter_raw()))
        assert (b"data: one\n\n" in body) == (query != "last=0")
        assert body.endswith(b"\n\n")


def test_plain_curl_sees_text_and_compressed_curl_too(server: Server, topic: str) -> None:
    server.publish("a text that repeats itself repeats itself repeats itself", topic=topic)
    for option in ([], ["--compressed"]):
        command = [need("curl"), "-sN", "--max-time", "60", *option]
        url = f"{server.url}/events?topic={topic}&last=1"
        with subprocess.Popen([*command, url], stdout=subprocess.PIPE) as curl:
            assert curl.stdout
            lines = iter(curl.stdout.readline, b"")
            assert any(line.endswith(b"repeats itself\n") for line in lines)
            curl.kill()


def test_gos_client_has_each_event_when_it_arrives(
    server: Server, topic: str, tmp_path: Path
) -> None:
    program, source = tmp_path / "client", Path(__file__).parent / "gzip_client.go"
    subprocess.run([need("gccgo"), "-o", program, source], check=True)
    url = f"{server.url}/events?{urlencode({'topic': topic})}"
    with subprocess.Popen([program, url], stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout
        assert next(client.stdout) == "decoded: true\n"
        assert "event: hub.open\n" in client.stdout  # reads up to it
        for data in ("a newcomer's first", *(["the same words again"] * 3), "x"):
            server.publish(data, topic=topic)
            assert f"data: {data}\n" in client.stdout
        server.publish("last", topic=topic, end="1")
        assert "data: last\n" in client.stdout
        assert "hub.bye" in client.stdout.read()
    assert client.returncode == 0  # the trailer is right
