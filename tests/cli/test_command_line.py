"""The command `tidings` as a whole: its options, its help, its exit codes."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.cli import COMMAND, tidings, within_test
from support.doc_pages import shell_lines
from support.project import ROOT, environment
from webapp.config.settings import Settings
from webapp.core.version import __version__

if TYPE_CHECKING:
    from support.server import Server

COMMANDS = re.findall(
    r"^(?:.*\| |\.venv/bin/|)tidings ([a-z]+ [^|\n]*)", "\n".join(shell_lines()), re.MULTILINE
)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_in_the_docs_exist(line: str) -> None:
    arguments = shlex.split(line, comments=True)
    assert within_test(*arguments, "--help").exit_code == 0


def test_it_prints_the_version() -> None:
    assert within_test("--version").output == f"tidings, version {__version__}\n"


def test_it_completes_words_for_the_shell() -> None:
    asked = {"_TIDINGS_COMPLETE": "bash_complete", "COMP_WORDS": "tidings pub", "COMP_CWORD": "1"}
    assert tidings(**asked).stdout == "plain,publish\n"


@pytest.mark.parametrize(
    "command", [(), ("publish",), ("tail",), ("token",), ("check",)], ids=" ".join
)
def test_its_help_has_examples(command: tuple[str, ...]) -> None:
    done = within_test(*command, "--help")
    assert done.exit_code == 0
    assert re.search(r"Examples:\n    (tidings|export)", done.output)
    assert "Default: TIDINGS_URL" in done.output or command == ("token",)


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
def test_a_wrong_url_is_refused_without_its_secrets(url: str, remedy: str) -> None:
    done = within_test("publish", "x", TIDINGS_URL=url)
    assert done.exit_code == 2
    assert remedy in done.stderr
    assert "secret" not in done.stderr


def test_the_hub_ignores_the_variables_of_the_command() -> None:
    settings = Settings.from_env({"TIDINGS_URL": "https://hub.example", "TIDINGS_TOKEN": "x"})
    assert settings == Settings.from_env({})


@pytest.mark.slow
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
def test_closed_or_full_standard_streams_do_not_crash_it(
    server: Server, command: str, code: int, said: str
) -> None:
    server.publish("x")
    env = environment({"TIDINGS_URL": server.url})
    line = f"{' '.join(COMMAND)} {command}"
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, env=env, stderr=-1, text=True, check=False)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [("publish", "\udcff"), ("publish", "x", "-t", "\udcff"), ("tail", "\udcff")]
)
def test_arguments_that_are_not_utf_8_are_refused(
    server: Server, arguments: tuple[str, ...]
) -> None:
    done = within_test(*arguments, TIDINGS_URL=server.url)
    assert done.exit_code == 2
    assert "not UTF-8" in done.stderr


def test_a_cursor_of_two_lines_is_refused() -> None:
    done = within_test("tail", "--from", "1-1\nX-Header: x")
    assert done.exit_code == 2
    assert "one line" in done.stderr


def test_a_wrong_proxy_is_refused() -> None:
    url = {"TIDINGS_URL": "https://hub.example", "NO_PROXY": ""}
    done = within_test("publish", "x", HTTPS_PROXY="http://proxy.example:port", **url)
    assert done.exit_code == 2
    assert "HTTPS_PROXY is not the URL of a proxy" in done.stderr


def test_options_before_a_command_and_the_environment_name_the_hub() -> None:
    env = {"TIDINGS_URL": "https://env.example/?a=b", "TIDINGS_TOKEN": "two words"}
    assert "not allowed in a token" in within_test("tail", **env).stderr
    assert "ends with its path" in within_test("--token", "x", "tail", **env).stderr
    assert "is like https" in within_test("--url", "a b", "--token", "x", "tail", **env).stderr
    both = ("--url", "a b", "--token", "x", "tail", "--url", "https://hub.example/?a=b")
    assert "ends with its path" in within_test(*both, **env).stderr
