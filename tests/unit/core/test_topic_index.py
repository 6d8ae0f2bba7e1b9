"""The names in a window's index by topic: sorted in short steps, and exact."""

from __future__ import annotations

import random
from typing import cast

import pytest

from webapp.core import topic_index
from webapp.core.events import Draft, Event, EventId
from webapp.core.globs import Glob
from webapp.core.window import Window


@pytest.mark.parametrize("seed", range(5))
def test_the_names_are_those_of_the_events_that_are_there(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_index, "_SORTED_NAMES", 3)
    monkeypatch.setattr(topic_index, "_EXAMINED_NAMES", 4)
    chance = random.Random(seed)
    window, topics = Window(EventId(1, 0), 20, 1 << 30), list[str]()
    for number in range(500):
        topic = f"t/{chance.randrange(15)}"
        draft = Draft(topics=(topic,), data="", private=chance.random() < 0.5)
        window.append([Event(EventId(2, number), draft)])
        window.trim()
        topics = [*topics, topic][-20:]
        if chance.random() < 0.2:
            for _ in window.sort_names():
                pass
            page = window.names("t/", "t/1", 5)
            expected = [it for it in sorted(set(topics)) if it > "t/1"]
            assert page.names == expected[:5]
            assert (page.upto is None) == (len(expected) < 5)
            found, last = list[str](), cast("str | None", "")
            while last is not None:
                names, last = window.names("t/", last, 2, [Glob("t/", "", "1")])
                found += names
            assert found == [it for it in sorted(set(topics)) if it.endswith("1")]


def test_a_page_compares_a_bounded_number_of_names_with_all_globs_together() -> None:
    window = Window(EventId(1, 0), 10_000, 1 << 30)
    drafts = [Draft(topics=(f"t/{number}",), data="") for number in range(1000, 2500)]
    window.append([Event(EventId(2, number), draft) for number, draft in enumerate(drafts)])
    assert list(window.sort_names())
    globs = [Glob("t/", "", it) for it in ("x", "y", "z", "w")]
    assert window.names("t/", "", 9, globs) == ([], "t/1249")
    assert window.names("t/", "", 9, globs[:1]) == ([], "t/1999")


def test_names_are_sorted_in_short_steps() -> None:
    window = Window(EventId(1, 0), 10_000, 1 << 30)
    drafts = [Draft(topics=(f"t/{number}",), data="") for number in range(1000)]
    window.append([Event(EventId(2, number), draft) for number, draft in enumerate(drafts)])
    assert len(list(window.sort_names())) >= 4
    assert list(window.sort_names()) == []
