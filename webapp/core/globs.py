"""Globs of topic patterns: the literals of a pattern, and anything between.

A broker leaves out the names that no glob matches, which costs it little. The hub then compares the
other names with the patterns. A glob matches all names that its pattern matches: a literal
matches only itself, and topics are compared as they are written.

To look for a text in a name can take the product of their lengths, and strangers choose both. So of
a long literal, a glob has a short part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .topics import TopicPatterns

_MAX_GLOBS = 8  # each is compared with each name
_MAX_CHARS = 4000  # of a glob
_LITERAL_CHARS = 16  # of a middle or tail


class Glob(NamedTuple):
    """A name matches that begins with `head`, ends with `tail`, and has `middle` between. Brokers
    may take more names: those in which these overlap.
    """

    head: str
    middle: str
    """The first letters of the longest literal between head and tail; empty: there is none."""
    tail: str


def globs_of(patterns: TopicPatterns, prefix: str) -> list[Glob]:
    """Return globs of which one matches each name that begins with a prefix and is matched by the
    patterns. None: all names may match.
    """
    globs = {
        _glob(*it.literals)
        for it in patterns.templates
        if it.head.startswith(prefix) or prefix.startswith(it.head)
    }
    globs |= {Glob(it, "", "") for it in patterns.exact if it.startswith(prefix)}
    has_use = not patterns.has_everything and len(globs) <= _MAX_GLOBS
    return sorted(globs) if has_use and all(_is_useful(it, prefix) for it in globs) else []


def _is_useful(glob: Glob, prefix: str) -> bool:
    matches_all = prefix.startswith(glob.head) and not glob.middle and not glob.tail
    return not matches_all and sum(map(len, glob)) <= _MAX_CHARS


def _glob(head: str, *others: str) -> Glob:
    middle = max(others[:-1], key=len, default="")
    return Glob(head, middle[:_LITERAL_CHARS], others[-1][-_LITERAL_CHARS:])


def narrow(names: list[str], globs: Sequence[Glob]) -> list[str]:
    """Return the names that globs may match, in their order."""
    if not globs:
        return names
    first, *others = [_with_literals(names, it) for it in globs]
    if not others:
        return first
    found = set(first).union(*others)
    return [it for it in names if it in found]


def _with_literals(names: list[str], glob: Glob) -> list[str]:
    # A list at a time, as the conditions are cheaper than a call.
    head, middle, tail = glob
    names = [it for it in names if it.endswith(tail) and it.startswith(head)]
    return [it for it in names if middle in it] if middle else names
