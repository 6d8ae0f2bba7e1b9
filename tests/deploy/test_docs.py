"""The documentation agrees with the code: links, blocks, settings, limits, messages, options."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
from dataclasses import fields
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from support.doc_pages import (
    NOT_RUN,
    PAGES,
    blocks,
    every_block,
    headings,
    prose,
    read_by_tests,
    section,
    shell_lines,
)
from support.programs import need
from support.project import ROOT
from webapp.auth import authorizer, claims, jwks
from webapp.brokers import presence_base
from webapp.cli import main
from webapp.config.setting_names import PREFIX
from webapp.config.settings import Settings
from webapp.core import events
from webapp.monitoring.metrics import OF_CONSOLE
from webapp.presence import changes
from webapp.views import cursors, own_paths, quotas, subscribe_query
from webapp.views.bodies import batch_limits, forms, json_values, multipart

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.doc_pages import Block

# Links

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def links(page: str) -> list[tuple[str, str]]:
    """Return a page's links to files here: the path in the repository, and the anchor."""
    found = []
    for link in LINK.findall(prose(page)):
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            target = (ROOT / page).parent / path if path else ROOT / page
            found.append((os.path.relpath(target, ROOT), anchor))
    return found


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings(page))
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES)
def test_its_links_lead_to_existing_files_and_headings(page: str) -> None:
    for target, anchor in links(page):
        assert (ROOT / target).exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(target), f"{page}: {target}#{anchor}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached, new = set[str](), ["README.md"]
    while new:
        page = new.pop()
        reached.add(page)
        new += [target for target, _ in links(page) if target in PAGES.keys() - reached]
    assert reached == PAGES.keys()


def test_the_index_lists_every_page() -> None:
    listed = {target for target, _ in links("docs/README.md")}
    decisions = {target for target, _ in links("docs/internals/decisions/README.md")}
    pages = {page for page in PAGES if page.startswith("docs/")} - {"docs/README.md"}
    assert pages == {page for page in listed | decisions if page.startswith("docs/")}


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 150


UNCLEAR = re.compile(r"\b(for ever|anew|whoever|one that|none is|is told|hears?|heard|roster)\b")


@pytest.mark.parametrize("page", PAGES)
def test_its_words_are_plain(page: str) -> None:
    assert UNCLEAR.findall(prose(page)) == []


def test_the_words_of_the_code_are_plain() -> None:
    unclear = re.compile(r"\b(for ever|anew|whoever|is told|heard|roster|lest)\b", re.IGNORECASE)
    code = {path: path.read_text() for path in ROOT.glob("webapp/**/*.py")}
    assert {path for path, text in code.items() if unclear.search(text)} == set()


# Blocks

CHECKED = {"sh", "json", "yaml"}  # by the tests below, on any page


def test_every_block_is_run_or_checked_or_listed_with_a_reason() -> None:
    for block in every_block():
        assert block.kind, f"{block.page}: a block has no kind"
        done = (block.page, block.heading) in read_by_tests() or (block.page, block.kind) in NOT_RUN
        assert done or block.kind in CHECKED, f"{block.page}, {block.heading}: {block.kind}"


def test_every_listed_block_exists() -> None:
    assert NOT_RUN.keys() <= {(block.page, block.kind) for block in every_block()}


def of(kind: str) -> list[Any]:
    found = [block for block in every_block() if block.kind == kind]
    return [pytest.param(it, id=f"{it.page}-{it.heading}") for it in found]


@pytest.mark.parametrize("block", of("sh"))
def test_its_shell_is_shell(block: Block) -> None:
    subprocess.run([need("sh"), "-n"], input=block.code, text=True, check=True)


@pytest.mark.parametrize("block", of("python"))
def test_its_python_is_python(block: Block) -> None:
    ast.parse(block.code)


@pytest.mark.parametrize("block", of("json"))
def test_its_json_is_json(block: Block) -> None:
    json.loads(block.code)


@pytest.mark.parametrize("block", of("yaml"))
def test_its_yaml_is_yaml(block: Block) -> None:
    yaml.safe_load(block.code)


# How a line of shell may begin, and which test runs such a line.
SHELL_LINES = {
    "redis-cli --scan": "tests/brokers/redis/test_topic_index",
    "SCRIPT_NAME=": "test_sub_path",
    "TIDINGS_BIND=": "test_docs_run",
    "TIDINGS_JWT_KEY=": "test_docker, without a daemon",
    "TIDINGS_CORS_ORIGINS=": "test_docs_run",
    "TIDINGS_WAVE=": "test_resources, with fewer",
    "FUZZ_SECONDS=": "test_fuzz, for less long",
    "awk ": "test_recipes",
    "cd ": "needs root: the folder is in /srv",
    "chmod ": "needs root: the file is in /etc",
    "curl ": "test_docs_run",
    "docker ": "test_docker, without a daemon",
    "-v tidings:": "test_docker, without a daemon",
    "done": "test_recipes, test_docs_run",
    "echo": "test_reverse_proxy",
    "eval ": "cli/test_token, as the shell does",
    "export TIDINGS_JWT_KEY=": "test_docs_run",
    "export TIDINGS_TOKEN=": "test_docker; elsewhere the variable is that of cli/test_token",
    "export TIDINGS_URL=": "the variables are those of cli/test_token",
    "export TOKEN=": "test_docs_run",
    "fly ": "needs an account",
    "gcloud ": "test_deploy, and needs an account",
    "git push heroku ": "needs an account",
    "gunicorn ": "test_embedded",
    "heroku ": "test_deploy, and needs an account",
    "make ": "test_docs_run",
    "openssl ": "test_docs_run",
    "pipx install .": "needs a registry; test_packaging looks at what would be installed",
    "printf ": "test_hypermedia",
    "sqlite3 ": "test_sqlite, by the same function of SQLite",
    "systemctl ": "test_deploy, as systemd does",
    "tail -F ": "tests/cli, test_recipes",
    "tidings ": "tests/cli",
    ".venv/bin/flask ": "test_recipes",
    ".venv/bin/tidings ": "tests/cli",
    "useradd ": "needs root",
    "while ": "test_recipes, test_docs_run",
}


@pytest.mark.parametrize("line", sorted({line for line in shell_lines() if line.strip()}))
def test_every_line_of_shell_has_a_test(line: str) -> None:
    assert line.lstrip().startswith(tuple(SHELL_LINES)), "add it, and name its test"


def test_its_targets_are_in_the_makefile() -> None:
    wanted = {word for line in shell_lines() for word in re.findall(r"\bmake ([a-z]+)", line)}
    assert {"run", "test"} <= wanted
    for target in wanted:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


# Settings, limits, messages and options

ROWS = dict(
    re.findall(
        r"^\| `((?:TIDINGS_\w+)|PORT|WEB_CONCURRENCY|REDIS_URL|DATABASE_URL)` \|([^|]*)\|",
        PAGES["docs/reference/settings.md"],
        re.MULTILINE,
    )
)


def test_the_table_lists_exactly_the_settings() -> None:
    known = {PREFIX + f.name.upper() for f in fields(Settings) if f.metadata}
    assert set(ROWS) == known | {"PORT", "WEB_CONCURRENCY", "REDIS_URL", "DATABASE_URL"}


@pytest.mark.parametrize("name", sorted(ROWS.keys() - {"REDIS_URL", "DATABASE_URL"}))
def test_the_table_has_the_default_of_the_code(name: str) -> None:
    value = re.fullmatch(r"`(.*)`", ROWS[name].strip())
    default = getattr(Settings(), name.removeprefix(PREFIX).lower())
    if value is None:
        assert default in {None, (), False}, "the table describes another default in words"
    else:
        env = {name: value[1]}
        assert getattr(Settings.from_env(env), name.removeprefix(PREFIX).lower()) == default


@pytest.mark.parametrize("page", PAGES)
def test_the_results_of_a_run_are_those_of_the_benchmark(page: str) -> None:
    for paragraph in prose(page).split("\n\n"):
        if re.search(r"run [A-N]\b.*benchmark\.md\)", paragraph, re.DOTALL):
            for number in re.findall(r"\d+(?:,\d{3})+", paragraph):
                assert number in PAGES["docs/internals/benchmark.md"], paragraph


def test_it_names_only_existing_settings() -> None:
    others = {"TIDINGS_URL", "TIDINGS_TOKEN", "TIDINGS_FIRE", "TIDINGS_WAVE"}
    others |= {"TIDINGS_PORT", "TIDINGS_SERVICE_HOST"}  # ignored, or refused
    for page, text in PAGES.items():
        named = set(re.findall(r"(?<!_)\bTIDINGS_[A-Z_]+\b", text))
        assert {it.removesuffix("_FILE") for it in named} <= ROWS.keys() | others, page


LIMITS = {
    "topics of an event": events.MAX_TOPICS,
    "topic or type": events.MAX_NAME_CHARS,
    "id or cursor": events.MAX_ID_CHARS,
    "events in a JSON array, or of one `hub.publish_many`": batch_limits.MAX_EVENTS,
    "body with a JSON array of several events, or data of one `hub.publish_many`": (
        batch_limits.MAX_BYTES >> 20
    ),
    "topics of all events of one of these": batch_limits.MAX_TOPICS,
    "values in a JSON text": json_values.MAX_VALUES,
    "characters of a number in JSON": json_values._MAX_NUMBER_CHARS,
    "headers of a part of a multipart form": multipart._MAX_HEADER_BYTES >> 10,
    "fields of a form or query": forms._MAX_FIELDS,
    "unfinished bodies and pipe lines of one worker, together": quotas.MAX_UNFINISHED_BODIES,
    "topics of a stream": subscribe_query.MAX_PATTERNS,
    "cursors of a query": cursors.MAX_CURSORS,
    "subscribers that a worker lists in presence": changes.MAX_RECORD_BYTES >> 20,
    "revoked tokens": presence_base.MAX_REVOKED,
    "revoked subjects": presence_base.MAX_REVOKED,
    "topic patterns in one list of a token": claims.MAX_PATTERNS,
    "URI templates among them": claims.MAX_TEMPLATES,
    "`sub`": claims.MAX_TEXT_CHARS,
    "`mercure.payload`": claims.MAX_PAYLOAD_BYTES >> 10,
    "verified tokens that a worker remembers": authorizer._MAX_VERIFIED_TOKENS,
    "requests of one worker that wait for a JWKS": jwks.MAX_WAITING_REQUESTS,
    "keys of a JWKS": jwks.MAX_KEYS,
}


@pytest.mark.parametrize("what", LIMITS)
def test_it_has_the_limit_of_the_code(what: str) -> None:
    [cell] = re.findall(rf"^\| {what} \| (.*) \|$", PAGES["docs/reference/limits.md"], re.MULTILINE)
    assert re.search(r"\d[\d,]*(?<!,)", cell)[0] == f"{LIMITS[what]:,}"  # type: ignore[index]


REASON = re.compile(
    r"""(?<!"hub\.reset",\ )reason(?::\ str)?\ ?=\ ?"(\w+)"|refused\.add\(1,\ "(\w+)"\)""",
    re.VERBOSE,
)


def test_it_lists_the_reasons_of_all_refusals() -> None:
    code = [path.read_text() for path in sorted(ROOT.glob("webapp/**/*.py"))]
    used = {name for text in code for pair in REASON.findall(text) for name in pair if name}
    table = section("operate/metrics.md", "Reasons of refusals")
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == used | {OF_CONSOLE}


def test_the_table_of_grants_has_every_path_of_the_console() -> None:
    table = section("operate/console.md", "Tokens")
    cells = re.findall(r"^\| .* \| (.*) \|$", table, re.MULTILINE)
    named = {path for cell in cells for path in re.findall(r"`(/console/\w+)`", cell)}
    assert named == {path for path in own_paths.PROTECTED if path.startswith("/console/")}


def test_its_example_of_a_check_has_lines_that_the_command_prints() -> None:
    [_, example, _] = blocks("reference/cli.md", "tidings check", "sh", "text", "sh")
    printed = texts()
    for line in example.splitlines():
        name, text = (
            re.split(r" {2,}", line[2:].strip(), maxsplit=1) if line[0] != " " else ("", line)
        )
        fixed = [part.strip(" ,→") for part in re.split(r"[\d.,]+|https?://", text)]
        assert name in printed, line
        assert [part for part in fixed if part not in printed] == [], line


def texts() -> str:
    """Return the strings of the code, which contain all messages of the product."""
    found = [(ROOT / "Makefile").read_text()]
    for path in chain(ROOT.glob("webapp/**/*.py"), [ROOT / "gunicorn.conf.py"]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (it.value if isinstance(it, ast.Constant) else "…" for it in node.values)
                found.append("".join(map(str, parts)))
    return re.sub(r"%(?:\.\d+)?[sd]", "…", "\n".join(found))


def explained() -> set[str]:
    """Return the messages that the page on troubleshooting explains."""
    page = PAGES["docs/operate/troubleshooting.md"]
    cells = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    return {text for cell in cells for text in re.findall(r"`([^`]+)`", cell)}


def test_every_message_that_it_explains_is_in_the_code() -> None:
    others = {"command not found"}  # of the shell
    quoted, said = explained() - others, texts()
    assert len(quoted) > 50
    missing = {it for it in quoted for part in it.split("…") if part.strip() not in said}
    assert missing == set()


def first_arguments(*names: str) -> Iterator[str]:
    """Yield the first argument of all calls of some functions, methods or classes, as a text."""
    for path in sorted(ROOT.glob("webapp/**/*.py")):
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if hasattr(node, "lineno")]
        last: dict[str, ast.expr] = {}
        for node in sorted(nodes, key=lambda node: node.lineno):
            match node:
                case ast.Assign([ast.Name(name)], value):
                    last[name] = value
                case ast.Call(ast.Attribute(_, name) | ast.Name(name), [text, *_]) if name in names:
                    yield template(last.get(text.id, text) if isinstance(text, ast.Name) else text)


def template(node: ast.expr) -> str:
    """Return a text of the code with `…` for its values; nothing, if the node is no text."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(template, node.values))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%(?:\.\d+)?[sd]", "…", node.value)
    return "…" if isinstance(node, ast.FormattedValue) else ""


def is_explained(message: str) -> bool:
    return any(all(part in message for part in text.split("…")) for text in explained())


@pytest.mark.parametrize(
    "names",
    [("warning", "error", "critical"), ("Misconfigured",), ("ServiceUnavailable",)],
    ids=str,
)
def test_it_explains_every_message_for_operators(names: tuple[str, ...]) -> None:
    found = list(first_arguments(*names))
    assert len(found) > 10
    unknown = {
        message for message in found if re.search(r"\w", message) and not is_explained(message)
    }
    assert unknown == set()


def test_each_message_has_a_cause_and_a_remedy() -> None:
    page = PAGES["docs/operate/troubleshooting.md"]
    rows = [row.split(" | ") for row in re.findall(r"^\| (.*) \|$", page, re.MULTILINE)]
    assert all(len(cells) == 3 and all(cell.strip() for cell in cells) for cells in rows)


def test_it_lists_every_option_of_the_command_line() -> None:
    for name, command in main.commands.items():
        text = section("reference/cli.md", f"tidings {name}")
        for parameter in command.params:
            for option in set(parameter.opts) - {"--url", "--token"}:
                assert not option.startswith("-") or f"`{option}`" in text, f"{name} {option}"
        listed = set(re.findall(r"^\| (`-.*?) \|", text, re.MULTILINE))
        known = {option for parameter in command.params for option in parameter.opts}
        assert {it for row in listed for it in re.findall(r"`(.*?)`", row)} <= known


def test_the_architecture_names_every_package() -> None:
    table = section("internals/architecture.md", "Packages")
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`([\w/]+)`", cell)}
    found = {path.parent for path in ROOT.glob("webapp/*/**/__init__.py")}
    assert {str(folder.relative_to(ROOT / "webapp")) for folder in found} == named


def test_the_modules_that_internals_name_exist() -> None:
    for page in (page for page in PAGES if page.startswith("docs/internals/")):
        for path in re.findall(r"((?:\w+/)*\w+\.py)\b", PAGES[page]):
            assert any((ROOT / top / path).exists() for top in ("webapp", "tests", ".")), (
                f"{page}: {path}"
            )


def test_the_page_on_tests_names_every_folder() -> None:
    cells = re.findall(r"^\| (`\w+/`.*?) \|", PAGES["docs/internals/testing.md"], re.MULTILINE)
    folders = {path.parent.name for path in ROOT.glob("tests/*/*.py")}
    assert {name for cell in cells for name in re.findall(r"`(\w+)/`", cell)} == folders


def test_its_pictures_exist() -> None:
    for page, text in PAGES.items():
        for path in re.findall(r"!\[.*?\]\((.*?)\)", text):
            assert ((ROOT / page).parent / path).is_file()
