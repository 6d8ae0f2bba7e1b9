"""The pages of the documentation and their blocks of code, for the tests that run them."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import NamedTuple

from support.project import ROOT

PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
}
"""Each page's text, by its path in the repository."""

NOT_RUN = {
    ("docs/deploy/fly.md", "sh"): "needs an account; test_deploy checks the file beside it",
    (
        "docs/deploy/systemd.md",
        "sh",
    ): "needs systemd; test_deploy runs the unit",
    ("docs/internals/architecture.md", "text"): "diagrams",
    ("docs/internals/benchmark.md", "sh"): "it takes an hour; test_bench tests its parts",
    ("docs/internals/testing.md", "sh"): "runs the tests that run this one",
    ("docs/operate/logs.md", "text"): "two lines of a log; test_hub expects them",
}
"""The kinds of blocks that no test can run, by page, with the reasons."""


class Block(NamedTuple):
    """A block of code."""

    page: str
    heading: str  # the nearest heading above the block
    kind: str
    code: str


def blocks(page: str, heading: str, *kinds: str) -> list[str]:
    """Return the blocks of a page below a heading, which must be of these kinds.

    :param page: its path below `docs/`, or `README.md`.
    """
    page = page if page in PAGES else f"docs/{page}"
    found = [block for block in _blocks(page) if block.heading == heading]
    assert tuple(block.kind for block in found) == kinds, (page, heading)
    return [block.code for block in found]


def every_block() -> list[Block]:
    """Return the blocks of all pages."""
    return [block for page in PAGES for block in _blocks(page)]


def shell_lines() -> list[str]:
    """Return the lines of all blocks of shell. A line that ends with a backslash is joined with the
    next one.
    """
    found = [re.sub(r"\\\n *", "", it.code) for it in every_block() if it.kind == "sh"]
    return [line for code in found for line in code.splitlines()]


def section(page: str, heading: str) -> str:
    """Return the text of a page from a heading to the next one of any level."""
    return PAGES[f"docs/{page}"].partition(f"# {heading}\n")[2].partition("\n#")[0]


def prose(page: str) -> str:
    """Return a page without its blocks."""
    return re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)


def headings(page: str) -> list[str]:
    """Return the headings of a page."""
    return re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)


@cache
def _blocks(page: str) -> list[Block]:
    found, heading, code = list[Block](), "", list[str]()
    kind: str | None = None
    for line in PAGES[page].splitlines():
        if kind is None and line.startswith("```"):
            kind, code = line.removeprefix("```"), []
        elif kind is None and (match := re.fullmatch(r"#+ (.*)", line)):
            heading = match[1]
        elif line == "```":
            found.append(Block(page, heading, kind or "", "".join(code)))
            kind = None
        else:
            code.append(f"{line}\n")
    assert kind is None, f"{page}: a block is not closed"
    return found


@cache
def read_by_tests() -> set[tuple[str, str]]:
    """Return the pages and headings whose blocks a test reads with `blocks`."""
    found = set()
    tests = ROOT / "tests"
    for path in [*tests.rglob("test_*.py"), *tests.glob("support/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "blocks":
                page, heading = map(ast.literal_eval, node.args[:2])
                found.add((page if page in PAGES else f"docs/{page}", heading))
    return found
