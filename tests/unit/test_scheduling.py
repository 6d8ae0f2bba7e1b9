"""What one publisher sends is checked in slices of time, however many topics and lines it has."""

from __future__ import annotations

import json
import sys
import threading
import time
import unicodedata
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gevent
import pytest

from support.waiting import PATIENCE
from webapp import scheduling
from webapp.auth.authorizer import Authorizer, Grant
from webapp.config.settings import Settings
from webapp.core.events import Draft, check_name
from webapp.errors import BadRequest, ContentTooLarge, Forbidden
from webapp.scheduling import IdleClock, RequestSlice, cooperative
from webapp.views import publish
from webapp.views.bodies import json_values, ndjson
from webapp.views.bodies.ndjson import NdjsonPublisher

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPICS = 300


class Turns:
    """Counts how often others may run, of work whose every step takes all of its slice."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        monkeypatch.setattr(scheduling, "_SLICE_S", -1)
        monkeypatch.setattr(scheduling.request_turns, "pause", self._count)

    def _count(self) -> None:
        self.count += 1


@pytest.fixture(name="turns")
def _turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    return Turns(monkeypatch)


def test_each_topic_of_one_event_lets_others_run(turns: Turns) -> None:
    draft = Draft(topics=tuple(f"/users/{number}" for number in range(TOPICS)))
    Authorizer(Settings()).check_topics(Grant(publish=frozenset({"/users/{id}"})), [draft])
    assert turns.count >= TOPICS


def test_a_topic_of_many_events_is_checked_once(turns: Turns) -> None:
    drafts = [Draft(topics=("/users/1", "/users/2")) for _ in range(TOPICS)]
    Authorizer(Settings()).check_topics(Grant(publish=frozenset({"/users/{id}"})), drafts)
    assert turns.count <= 2


def test_the_size_of_each_large_event_is_checked_in_slices(turns: Turns) -> None:
    settings = Settings()
    many = [Draft(topics=("t",), data="x" * settings.max_event_bytes)] * 8
    publish.check_limits(many, settings)
    assert turns.count >= len(many)


def test_each_event_of_a_large_batch_lets_others_run(turns: Turns) -> None:
    batch = json.dumps([{"data": "x" * 300}] * TOPICS).encode()
    assert len(json_values.several(batch)) == TOPICS
    assert turns.count >= TOPICS


@pytest.mark.parametrize("value", ["0.1", "12", '"text"', "null", "[]", '{"a":[]}'])
def test_each_value_of_a_large_event_lets_others_run(turns: Turns, value: str) -> None:
    data = f"[{','.join([value] * 10_000)}]"
    for text in (data, f'{{ "a" : [ {data} ] }}'):
        event = json_values.one(text.encode())
        assert turns.count >= 10_000
        assert json_values.to_json(event) == text.replace(" ", "")
        assert turns.count >= 20_000
        turns.count = 0


def test_each_value_of_a_large_item_lets_others_run(turns: Turns) -> None:
    large = {"data": {str(number): "text" for number in range(10_000)}}
    body = json.dumps([{"data": "small"}, large, 7]).encode()
    found = json_values.several(body)
    assert found == [({"data": "small"}, False), (large, True), (7, False)]
    assert turns.count >= 10_000


def test_a_large_event_may_be_nested_two_hundred_levels_deep() -> None:
    text = "[" * 200 + '"' + "x" * 20_000 + '"' + "]" * 200
    assert json_values.to_json(json_values.one(text.encode())) == text


@pytest.mark.parametrize("part", ['"', "\\\\", ",", "[", '\\"'])
def test_counting_the_values_of_a_large_text_lets_others_run(turns: Turns, part: str) -> None:
    text = json.dumps({"data": part * 1_000_000})
    assert json_values.one(text.encode())[0] == {"data": part * 1_000_000}
    assert turns.count >= len(text) // (64 << 10)


@pytest.mark.parametrize(
    "text", ["[" * 100_001, "[" + '"",' * 100_002, '{"a":"' + '","b":"' * 200_000, "{" * 100_001]
)
def test_a_text_of_too_many_values_is_refused(text: str) -> None:
    with pytest.raises(ContentTooLarge):
        json_values.one(text.encode())


def to_draft(value: json_values.Value) -> Draft:
    return Draft(topics=("t",), data=value[0]["data"])


def test_lines_that_fail_one_by_one_let_others_run(turns: Turns) -> None:
    def refuse(drafts: list[Draft]) -> Any:
        if len(drafts) > 1 or drafts[0].data == "bad":
            detail = "It is bad."
            raise Forbidden(detail, "Leave it out.")
        return [SimpleNamespace(id="1")]

    lines = [b'{"data": "%b"}' % (b"x" * (2 << 10))] * TOPICS + [b'{"data": "bad"}']
    pipe = NdjsonPublisher(refuse, to_draft, len(lines))
    with pytest.raises(Forbidden) as raised:
        pipe.publish_lines(lines)
    assert (pipe.published, raised.value.extra["line"]) == (TOPICS, TOPICS + 1)
    assert turns.count >= 2 * TOPICS  # each line is read, and then published


def test_a_flood_of_line_feeds_is_taken_apart_a_little_at_a_time(turns: Turns) -> None:
    class Body:
        def iter_chunks(self, _: object) -> Iterator[bytes]:
            yield b"\n" * (1 << 20)

    request: Any = SimpleNamespace(environ={"wsgi.input": Body()})
    lots = list(ndjson.lines(request, 1000, bool, lambda _: None))
    assert sum(map(len, lots)) == (1 << 20) + 1
    assert max(map(len, lots)) <= 64 << 10
    NdjsonPublisher(lambda _: [], to_draft, 500).publish_lines(lots[0])
    assert turns.count >= len(lots[0]) // 500


def test_two_kilobytes_of_small_lines_let_others_run(turns: Turns) -> None:
    line = b'{"data": "%b"}' % (b"x" * 50)
    pipe = NdjsonPublisher(lambda _: [SimpleNamespace(id="1")], to_draft, 500)  # type: ignore[list-item]
    pipe.publish_lines([line] * 500)
    assert turns.count >= 500 * len(line) // (2 << 10) - 1


def test_lines_are_published_together_in_equal_parts() -> None:
    parts = list[int]()

    def append(drafts: list[Draft]) -> Any:
        parts.append(len(drafts))
        return [SimpleNamespace(id="1")] * len(drafts)

    pipe = NdjsonPublisher(append, to_draft, 500)
    for count in (0, 1, 500, 501, 1001):
        pipe.publish_lines([b'{"data": "x"}'] * count)
    # A rest of one event would count as a single event, for which other pipes wait.
    assert parts == [1, 500, 251, 250, 334, 334, 333]


def test_no_topic_or_type_holds_what_cannot_be_seen() -> None:
    refused = set()
    for letter in map(chr, range(sys.maxunicode + 1)):
        try:
            if not letter.isprintable() and unicodedata.category(letter) != "Cs":
                check_name("topic", letter)
        except BadRequest:
            refused.add(letter)
    found = {unicodedata.category(letter) for letter in refused}
    assert found <= {"Cc", "Cf", "Cn"}  # some are of a newer Unicode than this Python's
    letters = map(chr, range(sys.maxunicode + 1))
    assert {it for it in letters if unicodedata.category(it) in {"Cc", "Cf"}} <= refused


def test_one_greenlet_passes_in_each_turn_of_the_loop_in_order() -> None:
    turns, passed = scheduling.Turns(0), list[tuple[int, int]]()

    def enter(number: int) -> None:
        turns.wait()
        passed.append((gevent.get_hub().loop.iteration, number))

    gevent.joinall([gevent.spawn(enter, number) for number in range(20)])
    assert [number for _, number in passed] == list(range(20))
    assert len({turn for turn, _ in passed}) == 20
    gevent.sleep(0.001)
    enter(20)
    enter(21)
    assert passed[20][0] < passed[21][0]


def test_they_pass_before_the_loop_of_a_thread_has_turned_once() -> None:
    passed = []

    def pass_twice() -> None:
        turns = scheduling.Turns(slice_s=0)
        for _ in range(2):
            turns.wait()
            passed.append(gevent.get_hub().loop.iteration)

    thread = threading.Thread(target=pass_twice, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert passed == [0, 1]


def test_greenlets_pass_in_one_turn_of_the_loop_while_its_time_lasts() -> None:
    turns, passed = scheduling.Turns(10), list[int]()

    def enter() -> None:
        turns.wait()
        passed.append(gevent.get_hub().loop.iteration)

    gevent.joinall([gevent.spawn(enter) for _ in range(20)])
    assert len(set(passed)) == 1
    turns.slice_s = 0
    gevent.joinall([gevent.spawn(enter) for _ in range(20)])
    turns.slice_s = 10
    assert len(set(passed)) == 21


def test_of_many_requests_one_works_in_each_turn_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scheduling, "_SLICE_S", -1)
    worked: list[int] = []

    def request() -> None:
        for _ in cooperative(range(5), RequestSlice()):
            worked.append(gevent.get_hub().loop.iteration)  # noqa: PERF401 - it yields meanwhile

    gevent.joinall([gevent.spawn(request) for _ in range(10)])
    first, rest = worked[:10], worked[10:]  # each request may begin at once
    assert len(set(rest)) == len(rest) == 40
    assert max(first) <= min(rest)


def test_who_is_killed_while_it_waits_does_not_keep_the_others() -> None:
    turns = scheduling.Turns(0)
    waiting = [gevent.spawn(turns.pause) for _ in range(4)]
    gevent.sleep(0)
    gevent.killall([waiting[0], waiting[2]])
    gevent.joinall(waiting, timeout=PATIENCE)
    assert all(it.dead for it in waiting)


def test_idle_is_the_time_in_which_the_process_does_not_run() -> None:
    clock = IdleClock()
    clock.restart()
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        pass
    busy = clock.seconds()
    time.sleep(0.1)
    assert busy < 0.025
    assert clock.seconds() - busy > 0.05
    clock.restart()
    assert clock.seconds() < 0.025


def test_idle_time_is_known_without_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise FileNotFoundError

    monkeypatch.setattr("os.open", fail)
    clock = IdleClock()
    clock.restart()
    time.sleep(0.1)
    assert clock.seconds() > 0.05
