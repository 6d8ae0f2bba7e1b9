"""Names of fields: which are known, and which look like a known one."""

from __future__ import annotations

import pytest

from webapp.errors import BadRequest
from webapp.views.bodies.field_names import TOPIC_LIST, FieldNames

NAMES = FieldNames(
    "There is no parameter",
    ("topic", "id", "private", "last_event_id"),
    ".",
    {"topic": TOPIC_LIST},
)
LOOK_ALIKES = {
    "topic": (
        *("topic[a]", "topic[0][1]", "topic[", "filter[topic]", "Topic", "TOPICS", "topics"),
        *("topi", "ttopic", "tpoic", "topik", " topic", "topic\ufeff", "amp;topic"),
        *("match", "Match_pattern"),
    ),
    "id": ("id[]", "Id", "ids", "data[id]"),
    "private": ("privat", "Private", "pirvate", "privates", "private[]", "amp;private", "privaet"),
    "last_event_id": ("lastEventIds", "last-event-id[]", "lasteventd", "Last_Event-Idd"),
}


@pytest.mark.parametrize(
    ("name", "near"), [(name, near) for near, names in LOOK_ALIKES.items() for name in names]
)
def test_a_name_that_looks_like_a_known_one_is_refused_with_the_known_one(
    name: str, near: str
) -> None:
    with pytest.raises(BadRequest) as raised:
        NAMES.settle({name: ["x"]})
    assert f'Did you mean "{near}"?' in raised.value.remedy


@pytest.mark.parametrize(
    "name",
    [
        "utm_source",
        "ngsw-bypass",
        "_",
        "",
        "i",
        "ix",
        "iid",
        "_id",
        "last",
        "tonics",
        "top",
        "x" * 9000,
    ],
)
def test_another_name_is_refused_only_if_names_are_strict(name: str) -> None:
    assert NAMES.settle({name: ["x"], "id": ["1"]}) == {name: ["x"], "id": ["1"]}
    with pytest.raises(BadRequest):
        NAMES.settle({name: ["x"], "id": ["1"]}, strict=True)


def test_values_under_an_alias_follow_in_the_order_in_which_they_came() -> None:
    fields = {"topic[1]": ["a"], "topic": ["b"], "topic[]": ["c", "d"], "id": ["1"]}
    assert NAMES.settle(fields, strict=True) == {"topic": ["a", "b", "c", "d"], "id": ["1"]}
