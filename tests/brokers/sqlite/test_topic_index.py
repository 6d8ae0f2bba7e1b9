"""The index by topic of a file says what its event log has, whatever happens to the file.

`INDEX_SEEDS=20` tries more of what may happen.
"""

from __future__ import annotations

import json
import os
import random
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from support.sqlite_file import is_intact, opened
from support.sqlite_log_0_1_0 import OldLog
from webapp.brokers.base import decode_events, stopping
from webapp.brokers.sqlite import directory, topic_index, topic_reader, topic_search
from webapp.brokers.sqlite.broker import SqliteBroker
from webapp.brokers.sqlite.indexer import Indexer
from webapp.brokers.sqlite.log_table import LogTable
from webapp.brokers.sqlite.rows import decode_row, encode_row, from_key, to_key
from webapp.core.events import Draft, EventId
from webapp.core.globs import Glob
from webapp.errors import Conflict, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MANY = 1 << 30
END = EventId(1 << 60, 0)
TOPICS = ["a", "a/1", "a/2", "a/é", "b", "B", "c'\"\\", "🎈", "a%", "a_", 'x"],["y']
DAMAGE: list[Any] = [
    "[" * 5000,
    "",
    "{}",
    "[[]]",
    '["a"]',
    '[["a"],"truncated',
    '{"0":["a"]}',
    b"\xff\x00",
    "[[1,2],3]",
    "[{},2,3,4,5,6]",
]


class File:
    """An event log in a file, its index, and what must be in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.old = OldLog(path)
        self.table = LogTable(path, 10**6, 1 << 40, 10**6)
        self.index = topic_index.TopicIndex(self.table.database)
        self.reader = topic_reader.TopicReader(self.table.database)
        self.directory = directory.Directory(self.table.database)
        self.model: list[tuple[EventId, Draft]] = []

    def append(self, drafts: Sequence[Draft]) -> list[EventId] | None:
        [found] = self.table.append([list(map(encode_row, drafts))]).keys
        positions = None if isinstance(found, Conflict) else list(map(from_key, found))
        return self.note(drafts, positions)

    def append_as_old(self, drafts: Sequence[Draft]) -> list[EventId] | None:
        return self.note(drafts, self.old.append(drafts))

    def note(self, drafts: Sequence[Draft], found: list[EventId] | None) -> list[EventId] | None:
        known = dict(self.model)
        known |= dict(zip(found or (), drafts, strict=False))
        self.model = sorted(known.items())
        return found

    def trim(self, rows: int) -> None:
        self.old.trim(rows)
        floor = self.table.bounds().floor
        self.model = [it for it in self.model if it[0] > floor]

    def damage(self, position: EventId, text: Any) -> None:
        with opened(self.path) as db:
            db.execute("UPDATE events SET draft = ? WHERE place = ?", (text, to_key(position)))
        self.model = [it for it in self.model if it[0] != position]

    def catch_up(self) -> None:
        while self.index.step() is not None:
            pass

    def after(self, position: EventId, max_bytes: int, topics: list[str]) -> list[EventId]:
        found = list[EventId]()
        while True:
            page, upto, bounds = self.reader.after(position, max_bytes, topics)
            found += [it.position for it in decode_events(page.rows, decode_row)]
            if upto >= bounds.head:
                return found
            assert upto > position
            position = upto

    def before(
        self, position: EventId, limit: int, max_bytes: int, topics: list[str]
    ) -> list[EventId]:
        found = list[EventId]()
        start: EventId | None = position
        while start and len(found) < limit:
            page, start = self.reader.before(start, limit - len(found), max_bytes, topics)
            found[:0] = [it.position for it in decode_events(page.rows, decode_row)]
        return found


@pytest.fixture(name="file")
def _file(path: Path) -> File:
    return File(path)


@pytest.fixture(name="small")
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make steps, segments and pages small, so that few events fill many."""
    for module, name, value in (
        (topic_index, "STEP_ROWS", 7),
        (topic_index, "_STEP_ENTRIES", 12),
        (topic_index, "_SEGMENT_ENTRIES", 5),
        (topic_index, "STEP_BYTES", 1000),
        (topic_search, "_FIRST_LOOKUPS", 1),
        (topic_search, "_MAX_LOOKUPS", 6),
        (topic_reader, "_PAGE_ROWS", 5),
        (topic_reader, "_FETCH_ROWS", 2),
        (directory, "_LOOKED_AT", 3),
    ):
        monkeypatch.setattr(module, name, value)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(int(os.environ.get("INDEX_SEEDS", "2"))))
def test_whatever_happens_to_a_file_its_index_says_what_it_has(file: File, seed: int) -> None:
    chance = random.Random(seed)
    numbers = iter(range(10**6))
    for _ in range(150):
        drafts = [random_draft(chance, next(numbers)) for _ in range(chance.choice([1, 1, 2, 9]))]
        chance.choice([file.append, file.append, file.append_as_old])(drafts)
        if chance.random() < 0.5:
            file.index.step()
        if chance.random() < 0.1:
            file.trim(chance.choice([1, 5, 30]))
        if chance.random() < 0.1:  # it is never in the index
            file.append([Draft(topics=("a", "b"))])
            file.damage(file.model[-1][0], chance.choice(DAMAGE))
        check(file, chance)
    file.catch_up()
    check(file, chance)
    assert is_intact(file.path)
    assert counts(file.path)["topics"] == len({it for _, d in file.model for it in d.topics})
    file.trim(10**6)
    file.catch_up()
    assert set(counts(file.path).values()) == {0}


def test_a_step_is_bounded_in_events_bytes_and_entries(file: File) -> None:
    """Publishers wait for it."""
    few, many = ("a",), tuple(f"topic {number}" for number in range(1000))
    file.old.append([Draft(topics=few)] * 4100)
    assert file.index.step() is not None
    assert counts(file.path) == {"topics": 1, "segments": 1, "posts": 4000}
    file.catch_up()
    file.old.append([Draft(topics=few, data="x" * 100_000)] * 50)
    assert file.index.step() is not None
    assert 4100 < counts(file.path)["posts"] <= 4121
    file.catch_up()
    file.old.append([Draft(topics=many)] * 9)
    assert file.index.step() is not None
    assert counts(file.path)["posts"] == 4150 + 4000
    file.catch_up()
    assert counts(file.path)["posts"] == 4150 + 9000
    page = file.directory.page("topic", "", 2000, ()).entries
    assert [it.events for it in page] == [9] * 1000


def test_a_page_is_of_a_bounded_number_of_names(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.append([Draft(topics=tuple(f"t/{number}" for number in range(100, 120)))])
    file.catch_up()
    monkeypatch.setattr(directory, "_LOOKED_AT", 30)  # 15 names with each of two globs
    globs = [Glob("t/", "", "4"), Glob("t/", "", "8")]
    first = file.directory.page("t/", "", 9, globs)
    assert ([it.topic for it in first.entries], first.upto) == (
        ["t/104", "t/108", "t/114"],
        "t/114",
    )
    second = file.directory.page("t/", "t/114", 9, globs)
    assert ([it.topic for it in second.entries], second.upto) == (["t/118"], None)


def test_one_process_at_a_time_runs_many_steps(file: File) -> None:
    file.old.append([Draft(topics=("a",))] * 9000)
    first = file.index.step()
    second = file.index.step(first)
    assert first
    assert second
    assert first < second
    assert file.index.step(first) is None  # another process has run the second step
    assert counts(file.path)["posts"] == 8000


def test_of_two_processes_that_run_steps_only_one_writes(file: File) -> None:
    """So publishers never wait for two steps in a row."""
    file.old.append([Draft(topics=("a",))] * 9000)
    one, other = file.index.prepare_step(), topic_index.TopicIndex(file.table.database)
    second = other.prepare_step()
    assert one
    assert second
    assert one.commit()
    before = counts(file.path)
    assert second.commit() is None  # and it runs no further step
    assert counts(file.path) == before


def test_what_a_listing_would_walk_through_for_each_page_is_indexed_first(tmp_path: Path) -> None:
    old = OldLog(tmp_path / "log.db")
    names = [f"topic {number:04}" for number in range(2100)]
    old.append([Draft(topics=(name,)) for name in names])
    log = SqliteBroker(tmp_path / "log.db", MANY, MANY, 3600)
    index = topic_index.TopicIndex(log._table.database)
    reads: list[Callable[[], object]] = [
        partial(log.topics, "", "", 10),
        partial(log.newest, names[:1000], END, public=True),
    ]
    for read in reads:
        old.append([Draft(topics=(name,)) for name in names])
        read()
        assert not index.is_behind()
    log.close()


def test_a_listing_walks_through_events_that_cannot_be_indexed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.brokers.sqlite.indexer._PATIENCE_S", 0)
    old = OldLog(tmp_path / "log.db")
    old.append([Draft(topics=("t",))] * 300)
    log = SqliteBroker(tmp_path / "log.db", MANY, MANY, 3600)
    log._indexer = Indexer(topic_index.TopicIndex(log._table.database), log._read, unavailable)
    assert [it.events for it in log.topics("", "", 10).entries] == [300]
    log.close()


def unavailable(*_: object) -> None:
    raise stopping()


def test_publishers_do_not_wait_while_a_step_is_prepared(file: File) -> None:
    file.append([Draft(topics=("a",))] * 300)
    commits = list[str]()

    def read(function: Callable[..., Any], *values: Any) -> Any:
        result = function(*values)
        file.append([Draft(topics=("b",))])
        return result

    def write(function: Callable[..., Any], *values: Any) -> Any:
        commits.append(function.__name__)
        return function(*values)

    Indexer(file.index, read, write)._run_steps()
    assert commits == ["commit"]
    assert counts(file.path)["posts"] == 300
    file.catch_up()
    assert counts(file.path)["posts"] == 301


def test_a_step_that_cannot_be_committed_is_prepared_again(file: File) -> None:
    file.append([Draft(topics=("a",))] * 300)
    step = file.index.prepare_step()
    assert step
    with opened(file.path) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(ServiceUnavailable):
            step.commit()
        db.execute("ROLLBACK")
    assert file.index.step() is None
    assert counts(file.path)["posts"] == 300


def random_draft(chance: random.Random, number: int) -> Draft:
    topics = chance.choices(TOPICS, k=chance.choice([1, 1, 1, 2, 4]))  # one may be there twice
    own = f"own {number % 7}" if chance.random() < 0.1 else None
    retry = chance.choice([None, None, 5000])
    private = chance.random() < 0.3
    data = "x" * chance.choice([1, 300])
    return Draft(topics=tuple(topics), data=data, id=own, private=private, retry=retry)


def check(file: File, chance: random.Random) -> None:
    """Compare some answers with those of a walk through what the log has."""
    model = file.model
    topics = [*chance.sample(TOPICS, chance.choice([1, 2, 5])), "nobody's"]
    position = chance.choice(model)[0] if model else END
    size = chance.choice([1, 700, MANY])
    has = [it for it, draft in model if not {*topics}.isdisjoint(draft.topics)]
    assert file.after(position, size, topics) == [it for it in has if it > position]
    assert file.before(position, 8, size, topics) == [it for it in has if it < position][-8:]
    for public in (False, True):
        expected = [newest(model, it, position, public=public) for it in topics]
        assert file.directory.newest(topics, position, public=public) == expected
    prefix, after = chance.choice(["", "", "a", "a/", "x"]), chance.choice(["", "a", "a/1", "🎈"])
    listed = [it for it in entries(model) if it[0].startswith(prefix) and it[0] > after]
    assert file.directory.page(prefix, after, 4, ()).entries == listed[:4]
    page = file.directory.page(prefix, after, 4, [Glob("a/", "", "1"), Glob("", "b", "")])
    upto = page.upto or "\U0010ffff"
    wanted = [it for it in listed if it[0] == "a/1" or "b" in it[0]]
    assert page.entries == [it for it in wanted if it[0] <= upto]


def newest(
    model: list[tuple[EventId, Draft]], topic: str, before: EventId, *, public: bool
) -> EventId | None:
    found = (
        it
        for it, draft in model
        if topic in draft.topics and it < before and not (public and draft.private)
    )
    return max(found, default=None)


def entries(model: list[tuple[EventId, Draft]]) -> list[tuple[Any, ...]]:
    found = []
    for topic in sorted({topic for _, draft in model for topic in draft.topics}):
        every = [it for it, draft in model if topic in draft.topics]
        public = [it for it, draft in model if topic in draft.topics and not draft.private]
        found.append((topic, every[-1], len(every), max(public, default=None), len(public)))
    return found


def counts(path: Path) -> dict[str, int]:
    with opened(path) as db:
        tables = ("topics", "segments", "posts")
        return {it: db.execute(f"SELECT count(*) FROM {it}").fetchone()[0] for it in tables}


@pytest.mark.usefixtures("small")
def test_a_search_ends_with_the_newest_event_of_its_topics(file: File) -> None:
    """And not with the newest segment: a subscriber of quiet topics missed little."""
    file.append([Draft(topics=("quiet",))] * 3)
    for _ in range(20):
        file.append([Draft(topics=("loud",))] * 6)
        file.catch_up()
    statements = list[str]()
    with file.table.database.snapshot() as db:
        segments = db.execute("SELECT count(*) FROM segments").fetchone()[0]
        search = topic_search.TopicSearch(db, ["quiet", "unknown"], 100)
        db.set_trace_callback(statements.append)
        found = search.after(0)
        db.set_trace_callback(None)
    assert segments > 15
    assert found == ([to_key(position) for position, _ in file.model[:3]], search.state.upto)
    assert sum("CROSS JOIN segments" in it for it in statements) == 1


def test_of_events_that_a_page_has_no_room_for_few_are_looked_at(file: File) -> None:
    """Events of a topic lie far apart, so each costs a read of the file."""
    file.append([Draft(topics=("a",), data="x" * 5000)] * 300)
    file.catch_up()
    keys, statements = [to_key(position) for position, _ in file.model], list[str]()
    with file.table.database.snapshot() as db:
        db.set_trace_callback(statements.append)
        pages = [
            topic_reader._fetch(db, topic_reader._FIRST, keys, 20_000),
            topic_reader._fetch(db, topic_reader._LAST, keys[::-1], 20_000),
        ]
        db.set_trace_callback(None)
    assert [len(page.rows) for page in pages] == [4, 4]
    assert [page.end for page in pages] == [file.model[3][0], file.model[-4][0]]
    looked_at = [json.loads(it) for it in re.findall(r"json_each\('(.*?)'\)", str(statements))]
    assert [len(some) for some in looked_at] == [64, 64]


def test_the_size_of_an_event_counts_its_alternate_topics_in_the_index(tmp_path: Path) -> None:
    file = File(tmp_path / "log")
    for number in range(40):
        file.append([Draft(topics=tuple(f"{number}/{topic}" for topic in range(1000)))])
    file.catch_up()
    with opened(file.path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        [(counted,)] = db.execute("SELECT sum(size) FROM events")
    assert 0.7 < counted / file.path.stat().st_size < 1.4
    file.table.close()
