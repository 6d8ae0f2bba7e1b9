"""Globs leave out most names that patterns do not match, and none that they match."""

from __future__ import annotations

import sqlite3

import pytest
import uritemplate
from hypothesis import given, settings
from hypothesis import strategies as st

from webapp.brokers.sqlite.directory import _condition
from webapp.core.globs import Glob, globs_of, narrow
from webapp.core.topics import TopicPatterns

literals = st.lists(st.sampled_from([*"ab/.?*[]é#", "%2F", "%C3%A9"]), max_size=4).map("".join)
expressions = st.sampled_from(["{a}", "{+a}", "{/a*}", "{?a}", "{a:2}", "{;a,b}", "{#b}"])
patterns = st.lists(literals | expressions | literals, min_size=1, max_size=5).map("".join)
values = st.text("ab/é?*[%", max_size=3)


@settings(deadline=None, max_examples=400)
@given(st.lists(patterns, min_size=1, max_size=3), values, values, literals)
def test_no_name_is_left_out_that_a_pattern_matches(
    texts: list[str], first: str, second: str, name: str
) -> None:
    wanted = TopicPatterns(frozenset(texts))
    expanded = [uritemplate.expand(it, a=first, b=second) for it in texts]
    names = sorted({*texts, *expanded, name, *(name + it for it in expanded)})
    prefix = min(it.partition("{")[0] for it in texts)
    globs = globs_of(wanted, prefix)
    matched = [it for it in names if it.startswith(prefix) and wanted.matches(it)]
    found = narrow(names, globs)
    assert [it for it in names if it in found] == found
    assert {*matched} <= {*found}
    assert {*matched} <= {it for it in names if in_sqlite(it, globs)}


def in_sqlite(name: str, globs: list[Glob]) -> bool:
    condition, values = _condition(globs)
    query = f"SELECT {condition} FROM (SELECT :name AS name)"
    [(found,)] = db.execute(query, {**values, "name": name})
    return bool(found)


db = sqlite3.connect(":memory:")


@pytest.mark.parametrize(
    ("texts", "prefix", "expected"),
    [
        (["/users/{id}/orders"], "/users/", [("/users/", "", "/orders")]),
        (["/a/{x}/b/{y}/long/{z}"], "/a/", [("/a/", "/long/", "")]),
        (["/a/{x}", "/a/{x}/b"], "/a/", []),
        (["{x}/b", "a/1"], "", [("", "", "/b"), ("a/1", "", "")]),
        (["{x}/b", "*"], "", []),
        (["a{x}c", "b{x}c"], "b", [("b", "", "c")]),
        ([f"a{{x}}{n}" for n in range(9)], "a", []),
        (["a{x}" + "b" * 5000 + "c{y}" + "d" * 5000 + "e"], "a", [("a", "b" * 16, "d" * 15 + "e")]),
        (["b" * 5000 + "{x}"], "", []),
    ],
)
def test_a_glob_has_the_literals_of_a_pattern(
    texts: list[str], prefix: str, expected: list[tuple[str, ...]]
) -> None:
    assert globs_of(TopicPatterns(frozenset(texts)), prefix) == expected
