"""The command line, as a user calls it."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import jwt
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from support.cli import COMMAND, tidings
from support.doc_pages import shell_lines
from support.project import ROOT, environment
from support.signing_keys import ED, P256, RSA, pem
from support.tokens import KEY
from webapp.cli import main
from webapp.config.settings import Settings
from webapp.core.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from support.server import Server

pytestmark = pytest.mark.slow


def token_id(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_token_that_it_makes_is_good_and_it_says_what_it_grants(
    serve: Callable[..., Server],
) -> None:
    env = {"TIDINGS_JWT_KEY": KEY, "TIDINGS_JWT_AUDIENCE": "hub", "TIDINGS_JWT_ISSUER": "me"}
    server = serve(**env)
    made = tidings("token", "--publish", "news", "-s", "/users/{id}", "--expires", "5m", **env)
    token = made.stdout.strip()
    for topic, status in (("news", 200), ("other", 403)):
        answer = server.http.post("/events", data={"topic": topic}, headers=token_id(token))
        assert answer.status_code == status
    told = tidings("token", token).stdout
    assert "may publish to  news" in told
    assert "may read        /users/{id}" in told
    assert re.search(r"in (300|29\d|28\d) s", told)
    assert "HS256" in told


@pytest.mark.parametrize("key", [RSA, P256, ED], ids=["RSA", "P-256", "Ed25519"])
def test_it_signs_with_a_private_key(
    serve: Callable[..., Server], tmp_path: Path, key: Any
) -> None:
    private = tmp_path / "private.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    made = tidings("token", "--publish", "*", "--key", str(private), "--expires", "never")
    server = serve(TIDINGS_JWT_KEY=pem(key))
    answer = server.http.post("/events", data={"data": "x"}, headers=token_id(made.stdout.strip()))
    assert answer.status_code == 200
    assert "never" in tidings("token", made.stdout.strip()).stdout


@pytest.mark.parametrize(
    ("arguments", "env", "remedy"),
    [
        ((), {"TIDINGS_JWT_KEY": KEY}, "--publish '*'"),
        (("-p", "*"), {}, "TIDINGS_JWT_KEY"),
        (("-p", "*"), {"TIDINGS_JWT_KEY": pem(RSA)}, "--key"),
        (("-p", "*", "--expires", "soon"), {"TIDINGS_JWT_KEY": KEY}, "15s, 5m, 2h, 7d"),
        (("-p", "*"), {"TIDINGS_JWT_KEY": "short"}, "openssl rand -hex 32"),
        (("nonsense",), {}, "no token"),
    ],
)
def test_what_it_cannot_do_it_says_with_a_remedy(
    arguments: tuple[str, ...], env: dict[str, str], remedy: str
) -> None:
    done = tidings("token", *arguments, **env)
    assert done.returncode != 0
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "remedy"), [("pkcs8.der", "openssl pkey -inform DER"), ("empty", "no key to sign")]
)
def test_a_file_that_holds_no_key_is_not_replaced_by_the_secret(
    tmp_path: Path, name: str, remedy: str
) -> None:
    (tmp_path / name).write_bytes(b"" if name == "empty" else b"\x30\x2e\xff")
    asked = ("token", "-p", "*", "--key", str(tmp_path / name))
    done = tidings(*asked, TIDINGS_JWT_KEY=KEY)
    assert (done.returncode, done.stdout) == (1, "")
    assert remedy in done.stderr


def test_a_foreign_token_cannot_write_to_the_terminal() -> None:
    claims = {"mercure": {"publish": ["\x1b[2Jx"]}, "exp": 10**20}
    told = tidings("token", jwt.encode(claims, KEY)).stdout
    assert "may publish to  \\x1b[2Jx\n" in told
    assert "ends            100000000000000000000, which no clock will show\n" in told
    assert "\x1b" not in told


COMMANDS = re.findall(
    r"^(?:.*\| |\.venv/bin/|)tidings ([a-z]+ [^|\n]*)", "\n".join(shell_lines()), re.MULTILINE
)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_docs_know_its_commands_and_options(line: str) -> None:
    arguments = shlex.split(line, comments=True)
    assert CliRunner().invoke(main, [*arguments, "--help"]).exit_code == 0


def test_it_tells_the_version_of_the_project() -> None:
    assert tidings("--version").stdout == f"tidings, version {__version__}\n"


def test_it_completes_what_the_shell_asks_for() -> None:
    asked = {"_TIDINGS_COMPLETE": "bash_complete", "COMP_WORDS": "tidings pub", "COMP_CWORD": "1"}
    assert tidings(**asked).stdout == "plain,publish\n"


@pytest.mark.parametrize("command", [(), ("publish",), ("tail",), ("token",)], ids=" ".join)
def test_its_help_has_examples(command: tuple[str, ...]) -> None:
    told = tidings(*command, "--help")
    assert told.returncode == 0
    assert "Examples:\n    tidings" in told.stdout or "Examples:\n    export" in told.stdout


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("ftp://hub.example", "https://hub.example"),
        ("https://", "https://hub.example"),
        ("https://hub.example:port", "https://hub.example"),
        ("https://hub..example", "https://hub.example"),
        ("https://hub.example/\nevents", "https://hub.example"),
        ("https://me:secret@hub.example", "TIDINGS_TOKEN"),
        ("https://hub.example/events?authorization=secret", "TIDINGS_TOKEN"),
    ],
)
def test_a_url_that_is_none_is_a_wrong_command_line(url: str, remedy: str) -> None:
    done = CliRunner(env={"TIDINGS_URL": url}).invoke(main, ["publish", "x"])
    assert done.exit_code == 2
    assert remedy in done.stderr
    assert "secret" not in done.stderr


def test_a_hub_starts_in_a_shell_that_has_the_command_lines_variables() -> None:
    settings = Settings.from_env({"TIDINGS_URL": "https://hub.example", "TIDINGS_TOKEN": "x"})
    assert settings == Settings.from_env({})


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("publish --follow <&-", 0, "published 0 events"),
        ("publish <&-", 0, ""),
        ("publish x >&-", 0, ""),
        ("publish x >/dev/full", 1, "No space left"),
        ("tail --last 1 -n 1 >/dev/full", 1, "No space left"),
        ("tail --last 1 -n 1 >&-", 0, ""),
    ],
)
def test_closed_or_full_ends_of_it_are_no_reason_to_crash(
    server: Server, command: str, code: int, said: str
) -> None:
    server.publish("x")
    env = environment({"TIDINGS_URL": server.url})
    line = f"{' '.join(COMMAND)} {command}"
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, env=env, stderr=-1, text=True, check=False)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
