"""What the event log stores of removals."""

from __future__ import annotations

import json

import pytest

from webapp.core.events import Draft, EventId
from webapp.core.removals import Removal, RemovalEntry, decode, is_same, remnant

PLACE = EventId(9, 0)
REMOVAL = Removal('a"/é', EventId(1, 0), EventId(2, 3))
OWN = Draft(topics=("a", "b"), data="secret", id="own", private=True)
FIELDS_OF_0_1_0 = ("data", "type", "id", "private", "retry")


@pytest.mark.parametrize("text", [REMOVAL.to_json(), remnant(OWN), remnant(Draft(topics=("a",)))])
def test_version_0_1_0_leaves_it_out(text: str) -> None:
    _, *rest = json.loads(text)
    with pytest.raises(ValueError, match="zip"):
        dict(zip(FIELDS_OF_0_1_0, rest, strict=True))


def test_an_entry_says_what_it_removes() -> None:
    entry = decode(PLACE, REMOVAL.to_json())
    assert isinstance(entry, RemovalEntry)
    assert (entry.position, entry.removal, entry.is_hidden) == (PLACE, REMOVAL, True)


def test_of_an_event_with_an_own_id_its_topics_and_a_digest_are_left() -> None:
    left = decode(PLACE, remnant(OWN))
    assert left is not None
    assert (left.draft.topics, left.draft.private, left.draft.data) == (("a", "b"), True, "")
    assert "secret" not in remnant(OWN)
    assert is_same(remnant(OWN), OWN)
    other = Draft(topics=("a", "b"), data="other", id="own", private=True)
    assert not is_same(remnant(OWN), other)
    assert json.loads(remnant(Draft(topics=("a",), data="secret"))) == [
        [],
        "removed",
        None,
        False,
        None,
    ]


@pytest.mark.parametrize("text", ["", "{}", "[]", '["remove", "a", "x", "1-1"]', '["remove"]', "7"])
def test_what_is_damaged_is_neither(text: str) -> None:
    assert decode(PLACE, text) is None
