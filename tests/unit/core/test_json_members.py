"""A member of a JSON object that is there twice is always noticed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.core.json_members import RepeatedMembers, have_clear_names, to_object

NAMES = st.sampled_from(["data", "private", 'a"b', "a/b", "é", "", "topic"])
VALUES: Any = st.recursive(
    st.none() | st.text('a:"\\{}, ', max_size=5) | NAMES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)


def written(name: str, how: int) -> str:
    """Return a name as JSON, in one of its spellings."""
    if how == 1:
        return '"' + "".join(f"\\u{ord(letter):04x}" for letter in name) + '"'
    text = json.dumps(name, ensure_ascii=how == 2)
    return text.replace("/", "\\/") if how == 3 else text


@given(st.lists(st.tuples(NAMES, st.integers(0, 3), VALUES), max_size=4))
def test_an_object_with_clear_names_has_no_member_twice(
    members: list[tuple[str, int, Any]],
) -> None:
    parts = [f"{written(name, how)} : {json.dumps(value)}" for name, how, value in members]
    text = "{" + ",".join(parts) + "}"
    exact = json.loads(text, object_pairs_hook=to_object)
    assert not (have_clear_names(json.loads(text), text) and isinstance(exact, RepeatedMembers))


@pytest.mark.parametrize(
    "text",
    ['{"topic":"a","data":"x"}', '{"data": {"id": 7, "at": "10:30"}, "topic": "a"}', "[1]", "{}"],
)
def test_usual_events_have_clear_names(text: str) -> None:
    assert have_clear_names(json.loads(text), text)
