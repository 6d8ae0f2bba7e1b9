"""The command `tidings` as a whole: its options, its help, its exit codes."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.cli import COMMAND, tidings, within_test
from support.doc_pages import PAGES, every_block, shell_lines
from support.faulty_network import canned_server
from support.programs import need
from support.project import ROOT, environment
from webapp.cli.proxy import Proxy, https_proxy
from webapp.config.settings import Settings
from webapp.core.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

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
    "command", [(), ("serve",), ("publish",), ("tail",), ("token",), ("check",)], ids=" ".join
)
def test_its_help_has_examples(command: tuple[str, ...]) -> None:
    done = within_test(*command, "--help")
    assert done.exit_code == 0
    assert re.search(r"Examples:\n    (tidings|export)", done.output)
    assert "Default: TIDINGS_URL" in done.output or command in {("token",), ("serve",)}


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


WITH_BYTE = """
BYTE ; publish BYTE ; publish x --topic BYTE ; publish x --type BYTE ; publish x --id BYTE
publish x --retry BYTE ; publish x --patience BYTE ; publish --follow --topic BYTE
publish --follow --ndjson --type BYTE ; publish x --url BYTE ; publish x --token BYTE
tail BYTE ; tail --from BYTE ; tail --since BYTE ; tail --last BYTE ; tail --count BYTE
tail --silence BYTE ; token BYTE ; token -p BYTE ; token -s BYTE ; token -p x --expires BYTE
token -p x --subject BYTE ; token -p x --key BYTE ; check BYTE ; check --wait BYTE
--url BYTE tail ; --token BYTE tail ; tail --BYTE
"""


def test_arguments_that_are_not_utf_8_are_refused_with_one_line() -> None:
    for command in re.split(r"[;\n]", WITH_BYTE.strip()):
        words = [word.replace("BYTE", "caf\udce9") for word in command.split()]
        done = within_test(*words, TIDINGS_URL="http://127.0.0.1:1")
        assert done.exit_code == 2, command
        assert re.fullmatch(r"Error: Argument \d has the byte 0xE9\. .*\n", done.stderr), command


@pytest.mark.parametrize("locale", ["C.UTF-8", "C", "POSIX"])
def test_bytes_are_refused_in_each_locale(locale: str) -> None:
    env = environment({"LC_ALL": locale})
    done = subprocess.run(
        [*COMMAND, "publish", b"caf\xe9"], cwd=ROOT, env=env, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert re.fullmatch(rb"Error: Argument 2 has the byte 0xE9\. .*\n", done.stderr)


@pytest.mark.slow
def test_arguments_and_output_have_the_locales_encoding(
    server: Server, topic: str, tmp_path: Path
) -> None:
    name = "de_DE.ISO-8859-1"  # Debian's package locales has its source
    command = [need("localedef"), "-i", "de_DE", "-f", "ISO-8859-1", str(tmp_path / name)]
    subprocess.run(command, check=True, capture_output=True)
    env = environment({"LC_ALL": name, "LOCPATH": str(tmp_path), "TIDINGS_URL": server.url})

    def run(*arguments: str | bytes) -> bytes:
        line = [*COMMAND, *arguments]
        return subprocess.run(line, cwd=ROOT, env=env, stdout=-1, check=True).stdout

    run("publish", "--topic", topic, b"caf\xe9")
    server.publish("5 €, ü", topic=topic)
    with server.listen(topic=topic, last=2) as stream:
        assert stream.take(1) == ["café"]
    assert run("tail", topic, "--last", "2", "-n", "2") == b"caf\xe9\n5 \\u20ac, \xfc\n"


def test_a_cursor_of_two_lines_is_refused() -> None:
    done = within_test("tail", "--from", "1-1\nX-Header: x")
    assert done.exit_code == 2
    assert "one line" in done.stderr


HTTPS_HUB = {"TIDINGS_URL": "https://hub.example", "NO_PROXY": ""}


@pytest.mark.parametrize(
    ("proxy", "why"),
    [
        ("http://me:secret@proxy.example:port", "is not the URL of a proxy"),
        ("http://", "is not the URL of a proxy"),
        ("http://caf\udce9", "is not the URL of a proxy"),
        ("https://me:secret@proxy.example", "begins with https://, which is not supported"),
        ("socks5://me:secret@proxy.example:1080", "begins with socks5://, which is not"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_without_its_secrets(proxy: str, why: str) -> None:
    done = within_test("publish", "x", HTTPS_PROXY=proxy, **HTTPS_HUB)
    assert done.exit_code == 2
    assert f"HTTPS_PROXY {why}" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("url", "port", "sent"),
    [
        ("http://proxy.example:3128", 3128, {}),
        ("proxy.example", 80, {}),
        ("http://me:p%40ss%C3%A9@proxy.example", 80, {"Proxy-Authorization": "Basic bWU6cEBzc8Op"}),
    ],
)
def test_it_logs_in_at_a_proxy(
    monkeypatch: pytest.MonkeyPatch, url: str, port: int, sent: dict[str, str]
) -> None:
    monkeypatch.setenv("https_proxy", url)
    monkeypatch.setenv("no_proxy", "")
    assert https_proxy("hub.example") == Proxy("proxy.example", port, sent)
    monkeypatch.setenv("no_proxy", "hub.example")
    assert https_proxy("hub.example") is None


def test_it_does_not_try_again_what_a_proxy_refuses() -> None:
    with canned_server(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n") as proxy:
        done = within_test("tail", https_proxy=proxy, **HTTPS_HUB)
    assert done.exit_code == 1
    assert "The proxy of HTTPS_PROXY answers 407" in done.stderr


def test_a_redirect_to_an_invalid_url_is_reported() -> None:
    with canned_server(
        b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n"
    ) as url:
        done = within_test("tail", TIDINGS_URL=url)
    assert done.exit_code == 1
    assert "It is at an invalid URL now." in done.stderr


def test_each_page_with_a_command_says_where_the_command_is() -> None:
    command = re.compile(r"(^|\| |\()tidings ", re.MULTILINE)
    for page in {block.page for block in every_block() if command.search(block.code)}:
        assert re.search(r"cli\.md|shell\.md|The `tidings` command", PAGES[page]), page


def test_options_before_a_command_and_the_environment_name_the_hub() -> None:
    env = {"TIDINGS_URL": "https://env.example/?a=b", "TIDINGS_TOKEN": "two words"}
    assert "not allowed in a token" in within_test("tail", **env).stderr
    assert "ends with its path" in within_test("--token", "x", "tail", **env).stderr
    assert "is like https" in within_test("--url", "a b", "--token", "x", "tail", **env).stderr
    both = ("--url", "a b", "--token", "x", "tail", "--url", "https://hub.example/?a=b")
    assert "ends with its path" in within_test(*both, **env).stderr
