"""How drafts are stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.core.events import Draft, HubDraft
from webapp.errors import BadRequest

_FIELDS = ("data", "type", "id", "private", "retry")


def read_as_0_1_0(text: str) -> Draft:
    topics, *rest = json.loads(text)
    return Draft(topics=tuple(topics), **dict(zip(_FIELDS, rest, strict=True)))


@pytest.mark.parametrize("topics", [("t",), ('"ü"', "a\\", "{}")])
def test_version_0_1_0_reads_an_end_as_an_ordinary_event(topics: tuple[str, ...]) -> None:
    draft = Draft(topics=topics, data="[", type="t", id="1", private=True, retry=500, ended=True)
    ordinary = Draft(topics=topics, data="[", type="t", id="1", private=True, retry=500)
    assert Draft.from_json(draft.to_json()) == draft != ordinary
    assert read_as_0_1_0(draft.to_json()) == ordinary == Draft.from_json(ordinary.to_json())


def test_stored_topics_with_other_options_are_read() -> None:
    text = '[{"t":{"unknown":7},"u":0},"",null,null,false,null]'
    assert Draft.from_json(text) == Draft(topics=("t", "u"))
    with pytest.raises(BadRequest):
        Draft.from_json('[{},"",null,null,false,null]')


@pytest.mark.parametrize("rest", [" ", "[]", '\n["t"]'])
def test_a_text_with_more_behind_a_draft_is_damaged(rest: str) -> None:
    text = Draft(topics=("t",)).to_json()
    assert Draft.from_json(text) == Draft(topics=("t",))
    with pytest.raises(ValueError, match="more behind"):
        Draft.from_json(text + rest)


@given(
    st.lists(st.text('t"\\ü☃\x7f/'), min_size=1, max_size=3, unique=True).map(tuple),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from([{}, {"private": True}, {"type": 'a"'}, {"id": "1"}, {"retry": 500}]),
)
def test_the_stored_text_is_json_of_the_fields_in_order(
    topics: tuple[str, ...], data: str, other: dict[str, Any]
) -> None:
    draft = HubDraft(topics=topics, data=data, **other)
    fields = [list(topics), data, draft.type, draft.id, draft.private, draft.retry]
    assert json.loads(draft.to_json()) == fields
    assert draft.to_json() == json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
