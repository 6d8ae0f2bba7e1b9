"""The README is true: its commands run, its table has every setting, its picture is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import fields
from typing import TYPE_CHECKING

import jwt
import pytest
from conftest import KEY, PATIENCE, ROOT, need

from webapp.settings import PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Server

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
ROWS = dict(
    re.findall(
        r"^\| `((?:TIDINGS_\w+)|PORT|WEB_CONCURRENCY|REDIS_URL)` \|([^|]*)\|", README, re.MULTILINE
    )
)


def test_the_table_has_every_setting_and_no_other() -> None:
    known = {PREFIX + f.name.upper() for f in fields(Settings) if f.metadata}
    assert set(ROWS) == known | {"PORT", "WEB_CONCURRENCY", "REDIS_URL"}


@pytest.mark.parametrize("name", sorted(ROWS.keys() - {"REDIS_URL"}))
def test_the_table_tells_the_true_default(name: str) -> None:
    told = re.fullmatch(r"`(.*)`", ROWS[name].strip())
    default = getattr(Settings(), name.removeprefix(PREFIX).lower())
    if told is None:
        assert default in {None, (), False}, "a default that is not told in words"
    else:
        env = {name: told[1]}
        assert getattr(Settings.from_env(env), name.removeprefix(PREFIX).lower()) == default


LINES = [line for block in BLOCKS for line in block.splitlines() if line.startswith("curl ")]
CURLS = [line for line in LINES if "$TOKEN" not in line]
WITH_TOKEN = [line for line in LINES if "$TOKEN" in line]


@pytest.mark.parametrize("command", CURLS)
def test_its_curls_work_as_written(server: Server, command: str) -> None:
    here = command.partition("  #")[0].replace("localhost:8000", f"localhost:{server.port}")
    if "-d" in command.split() or "--data-binary" in command:
        assert re.fullmatch(r"(\d+-\d+\n?)+", said(here))
    else:
        told = streamed(here, '"topics": ')
        assert "event: hub.open" in told
        assert ("/users/{id}" in told) == ("/users/{id}" in command)


@pytest.fixture(name="keyed", scope="module")
def _keyed(serve: Callable[..., Server]) -> Server:
    return serve(TIDINGS_JWT_KEY=KEY)


@pytest.mark.parametrize("command", WITH_TOKEN)
def test_its_curls_with_a_token_work_as_written(keyed: Server, command: str) -> None:
    here = command.replace("localhost:8000", f"localhost:{keyed.port}")
    token = jwt.encode({"mercure": {"publish": ["*"], "subscribe": ["*"]}}, KEY)
    if "-gN" in command:
        assert "event: hub.open" in streamed(here, '"active": true', TOKEN=token)  # of itself
        return
    told, _, status = said(f"{here} -w ' %{{http_code}}'", TOKEN=token).rpartition(" ")
    if "-X DELETE" in command or "-d" in command.split():
        assert (told, status) == ("", "204")
    else:
        assert (json.loads(told)["type"], status) == ("Subscriptions", "200")


def said(command: str, **env: str) -> str:
    """Run a curl that ends."""
    need("curl")
    return subprocess.run(
        [*need_shell(), f"{command} -sS"],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout


def streamed(command: str, wanted: str, **env: str) -> str:
    """Run a curl that goes on for ever, until it has printed what is wanted."""
    need("curl")
    told = ""
    with subprocess.Popen(
        [*need_shell(), f"exec {command} -sS --max-time {PATIENCE}"],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        text=True,
    ) as curl:
        assert curl.stdout
        while wanted not in told:
            line = curl.stdout.readline()
            assert line, f"it ended after {told!r}"
            told += line
        curl.kill()
    return told


def need_shell() -> list[str]:
    return [need("sh"), "-c"]


def test_its_pipe_publishes_as_it_is_written(server: Server) -> None:
    [block] = [block for block in BLOCKS if block.startswith("while sleep 1;")]
    here = block.replace("localhost:8000", f"localhost:{server.port}").replace(
        "sleep 1", "sleep 0.1"
    )
    with server.listen() as stream:
        pipe = subprocess.Popen(
            [*need_shell(), here], start_new_session=True, stderr=subprocess.DEVNULL
        )
        assert all(re.fullmatch(r"\d\d:\d\d:\d\d", data) for data in stream.take(3))
        subprocess.run(["kill", "--", f"-{pipe.pid}"], check=True)
        pipe.wait()


def test_its_picture_and_files_are_there() -> None:
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).is_file()
    for name in re.findall(r"─ (\w+(?:/\w+)?\.py)", README):
        assert (ROOT / "webapp" / name).is_file()
    assert {"make run\n", "make test\n"} <= set(BLOCKS)
