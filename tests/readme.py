"""The README's code blocks, for the tests that run them."""

from __future__ import annotations

import re

from conftest import ROOT

README = (ROOT / "README.md").read_text()


def blocks(title: str, *kinds: str) -> list[str]:
    """Return the code blocks of a section (###), which must be of these kinds."""
    text = README.partition(f"\n### {title}\n")[2].partition("\n##")[0]
    found = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    assert tuple(kind for kind, _ in found) == kinds
    return [code for _, code in found]
