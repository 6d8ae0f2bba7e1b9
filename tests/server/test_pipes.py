"""Pipes: each publisher has a few, a silent one makes room, and ends when its token does."""

from __future__ import annotations

import json
import signal
import socket
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from support.server import serving
from support.tokens import KEY
from support.waiting import PATIENCE, given_time, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.server import Server

pytestmark = pytest.mark.slow

EACH, ALL, FILES = 2, 5, 256


def token(**claims: Any) -> str:
    return jwt.encode({"mercure": {"publish": ["*"]}, **claims}, KEY)


class OpenPipe:
    """A pipe that has sent one line, and whose last line is not complete."""

    def __init__(self, server: Server, bearer_token: str = "") -> None:
        self._sock = socket.create_connection((server.host, server.port), PATIENCE)
        head = "POST /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        head += "Content-Type: application/x-ndjson\r\n"
        if bearer_token:
            head += f"Authorization: Bearer {bearer_token}\r\n"
        lines = '{"data": "x"}\n{"da'
        self._sock.sendall(f"{head}\r\n{len(lines):x}\r\n{lines}\r\n".encode())

    def end(self) -> None:
        """Complete the line and the body."""
        self._sock.sendall(b'9\r\nta": "y"}\r\n0\r\n\r\n')

    def answer(self) -> tuple[int, Any]:
        """Return the status and the document."""
        said = b""
        while not said.endswith(b"}\n"):
            piece = self._sock.recv(1 << 16)
            assert piece, said
            said += piece
        return int(said.split(b" ")[1]), json.loads(said.partition(b"\r\n\r\n")[2])

    def close(self) -> None:
        self._sock.close()


def published(server: Server) -> int:
    """Return how many events are published; 0 also while the log is ahead of the window."""
    with server.listen(last=9_999) as stream:
        return json.loads(stream.next().data)["replay"] or 0


@pytest.fixture(name="hub", scope="module")
def _hub(serve: Callable[..., Server]) -> Server:
    limits = {"TIDINGS_MAX_PIPES": str(ALL), "TIDINGS_MAX_PIPES_PER_PUBLISHER": str(EACH)}
    return serve(TIDINGS_JWT_KEY=KEY, TIDINGS_DEMO="0", **limits)


@pytest.fixture(name="opened")
def _opened(hub: Server) -> Iterator[Callable[[str], OpenPipe]]:
    """Open a pipe, and await that its first line is published."""
    with ExitStack() as stack:

        def opened(bearer_token: str) -> OpenPipe:
            before = published(hub)
            pipe = stack.enter_context(closing(OpenPipe(hub, bearer_token)))
            until(lambda: published(hub) > before, "the first line is published")
            return pipe

        yield opened


def refused(hub: Server, bearer_token: str) -> tuple[int, Any]:
    with closing(OpenPipe(hub, bearer_token)) as pipe:
        return pipe.answer()


def test_a_publisher_has_a_few_pipes_and_all_together_have_some(
    hub: Server, opened: Callable[[str], OpenPipe]
) -> None:
    pipes = [opened(token(sub=name)) for name in "aabb"]
    status, document = refused(hub, token(sub="a"))
    assert (status, document["reason"]) == (429, "publisher_pipes")
    assert (document["published"], document["last_id"]) == (0, None)
    pipes.append(opened(token(sub="c")))
    status, document = refused(hub, token(sub="c"))
    assert (status, document["reason"]) == (503, "pipes")
    pipes[0].end()
    status, document = pipes[0].answer()
    assert (status, document["published"]) == (200, 2)
    pipes[0].close()
    pipes[0] = opened(token(sub="a"))
    for pipe in pipes:
        pipe.end()
        assert pipe.answer()[0] == 200


def test_a_silent_pipe_ends_with_its_token_and_reports_its_count(
    hub: Server,
) -> None:
    def answer(seconds: float) -> tuple[int, Any]:
        return refused(hub, token(sub="d", exp=time.time() + seconds))

    status, document = given_time(answer, lambda found: found[1].get("published") == 1)
    assert (status, document["title"], document["published"]) == (401, "Unauthorized", 1)
    assert document["last_id"]


def test_a_silent_pipe_ends_when_its_token_is_revoked(
    hub: Server, opened: Callable[[str], OpenPipe]
) -> None:
    bearer_token = token(sub="e")
    pipe = opened(bearer_token)
    answer = hub.http.post(
        "/.well-known/mercure/revocations",
        data={"token": bearer_token},
        headers={"Authorization": f"Bearer {token(sub='f')}"},
    )
    assert answer.status_code == 204
    status, document = pipe.answer()
    assert (status, document["published"]) == (401, 1)


def test_a_pipe_that_ends_because_the_hub_stops_is_told_to_send_the_rest(
    serve: Callable[..., Server],
) -> None:
    server = serve(TIDINGS_DEMO="0")
    with closing(OpenPipe(server)) as pipe:
        until(lambda: published(server) == 1, "the first line is published")
        server.process.send_signal(signal.SIGHUP)
        status, document = pipe.answer()
    assert (status, document["reason"], document["published"]) == (503, "drain", 1)
    assert "through a new pipe" in document["remedy"]
    with server.listen(last_event_id="earliest") as stream:
        assert stream.messages(1)[0].id == document["last_id"]


def test_silent_pipes_close_when_no_files_are_left(
    tmp_path: Path,
) -> None:
    limit = ["sh", "-c", f'ulimit -n {FILES} && exec "$0" "$@"']
    env = {"TIDINGS_DEMO": "0", "TIDINGS_MAX_PIPES": "0", "TIDINGS_MAX_PIPES_PER_PUBLISHER": "0"}
    with (
        serving(["-b", "127.0.0.1:0"], env, tmp_path / "log", limit) as server,
        ExitStack() as all_,
    ):
        first = all_.enter_context(closing(OpenPipe(server)))
        until(lambda: published(server) == 1, "the first line is published")
        for _ in range(FILES):
            all_.enter_context(closing(OpenPipe(server)))
        status, document = first.answer()
        assert (status, document["reason"], document["published"]) == (503, "connections", 1)
        assert document["last_id"]
        for path in ("/healthz", "/readyz"):
            answer = server.http.get(path, headers={"Connection": "close"})
            assert answer.status_code == 200
        assert "Traceback" not in server.log
