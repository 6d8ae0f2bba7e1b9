"""What every event log promises of events that expire."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from support.broker_process import broker_processes
from support.events import MANY, all_topics, contents, next_events
from support.redis_server import running_redis
from support.waiting import until
from webapp.core.events import Draft, EventId
from webapp.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.broker_process import BrokerProcess
    from webapp.core.events import Event

END = EventId(1 << 60, 0)
SOON = 1000  # milliseconds: the shortest there is


@contextmanager
def new_log(broker: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """Return the URL of a new log."""
    if broker == "postgres":
        yield request.getfixturevalue("postgres").new_log()
    elif broker == "redis":
        with running_redis("redis-server", folder) as server:
            yield server.url
    else:
        yield {"memory": "memory://"}.get(broker, f"sqlite:///{folder}/log.db")


@pytest.fixture(name="log", params=["memory", "sqlite", "redis", "postgres"])
def _log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerProcess]:
    """A process with a new log of 60 events."""
    with new_log(request.param, request, tmp_path) as url, broker_processes() as connect:
        yield connect(url, HISTORY_EVENTS=60)


def draft(*topics: str, data: str = "", **fields: Any) -> Draft:
    return Draft(topics=topics, data=data, **fields)


def await_expiry(log: BrokerProcess, event: Event) -> None:
    assert event.expires == event.position.ms + (event.draft.ttl or 0)
    until(lambda: log.now() > event.expires, "it has expired")


def is_expired(log: BrokerProcess, event: Event) -> bool:
    """Whether it is too late to look for an event that expires soon, on a slow machine."""
    return bool(log.now() >= event.position.ms + SOON)


def test_an_expired_event_is_in_no_read_from_then_on(log: BrokerProcess) -> None:
    start = log.bounds().head
    follower = log.follow(start)
    a, b, c, d = log.append(
        [
            draft("a", data="1"),
            draft("a", "b", data="2", ttl=SOON, private=True),
            draft("c", "a", data="3"),
            draft("d", data="4", ttl=SOON),
        ]
    )
    assert contents(next_events(follower, 4)) == ["1", "2", "3", "4"]
    assert contents(log.read_topics(start, MANY, ["b"]).events) == ["2"] or is_expired(log, b)
    assert [it[0] for it in all_topics(log)] == ["a", "b", "c", "d"] or is_expired(log, d)
    await_expiry(log, d)
    kept = [a.position, c.position]
    assert [it.position for it in log.read(start, MANY)] == kept
    assert [it.position for it in log.before(END, 2, MANY)] == kept
    page = log.read_page(start, MANY)
    assert ([it.position for it in page.events], page.upto >= c.position) == (kept, True)
    assert [it.position for it in log.read_topics(start, MANY, ["b", "a"]).events] == kept
    assert log.read_topics(start, MANY, ["b"]).events == []
    assert [it.position for it in log.before_topics(END, 2, MANY, ["a", "b", "d"])] == kept
    assert [it for it in log.read_at([b.position, d.position], MANY) if not it.is_hidden] == []
    assert log.newest(["a", "b", "d"], END, public=False) == [c.position, None, None]
    assert all_topics(log) == [
        ("a", c.position, 2, c.position, 2),
        ("c", c.position, 1, c.position, 1),
    ]


def test_the_event_before_an_expired_one_is_the_newest_again(log: BrokerProcess) -> None:
    old, new = log.append([draft("a"), draft("a", ttl=SOON)])
    assert log.newest(["a"], END, public=True) == [new.position] or is_expired(log, new)
    await_expiry(log, new)
    assert log.newest(["a"], END, public=True) == [old.position]
    assert all_topics(log) == [("a", old.position, 1, old.position, 1)]


def test_an_expired_position_is_held(log: BrokerProcess) -> None:
    [event] = log.append([draft("a", data="x", id="mine", ttl=SOON)])
    [newer] = log.append([draft("a", data="y", ttl=60_000)])
    await_expiry(log, event)
    assert all_topics(log) == [("a", newer.position, 1, newer.position, 1)]  # it was removed
    for id_ in ("mine", str(event.position)):
        assert log.position_of(id_) == event.position
    assert log.positions_of("mine", None, 9) == [event.position]
    assert contents(log.read(event.position, MANY)) == ["y"]
    [again] = log.append([draft("a", data="x", id="mine")])
    assert again.position == event.position
    with pytest.raises(Conflict):
        log.append([draft("a", data="other", id="mine")])


def test_a_ttl_is_no_part_of_the_content(log: BrokerProcess) -> None:
    for topics in (("a",), ('/q"\\/', "b")):
        first = draft(*topics, data="x", id=f"mine {topics[0][:1]}", ttl=60_000)
        [event] = log.append([first])
        for ttl in (None, 90_000, 60_000):
            again = draft(*topics, data="x", id=first.id, ttl=ttl)
            assert log.append([again])[0].position == event.position
        with pytest.raises(Conflict):
            log.append([draft(*topics, data="other", id=first.id, ttl=60_000)])
    [plain] = log.append([draft("c", id="plain")])
    assert log.append([draft("c", id="plain", ttl=60_000)])[0].position == plain.position


def test_an_expired_end_opens_its_topics_again(log: BrokerProcess) -> None:
    [end] = log.append([draft("a", "b", ended=True, ttl=SOON)])
    assert is_refused(log, draft("b")) or is_expired(log, end)
    await_expiry(log, end)
    assert "a" not in {it[0] for it in all_topics(log)}
    assert log.ends(["a", "b"]) == [None, None]
    assert len(log.append([draft("b")])) == 1


def is_refused(log: BrokerProcess, published: Draft) -> bool:
    try:
        log.append([published])
    except Conflict:
        return True
    return False


def test_many_expire_at_once(log: BrokerProcess) -> None:
    start = log.bounds().head
    several = [draft(f"t{number % 7}", ttl=SOON) for number in range(25)]
    events = log.append([*several, draft("t0", data="stays")])
    await_expiry(log, events[-2])
    assert contents(log.read(start, MANY)) == ["stays"]
    assert [it.topic for it in all_topics(log)] == ["t0"]
    assert log.read_page(start, 1).upto >= events[-1].position


@pytest.mark.parametrize("broker", ["sqlite", "redis", "postgres"])
def test_another_process_sees_the_same(
    broker: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with new_log(broker, request, tmp_path) as url, broker_processes() as connect:
        one, other = connect(url), connect(url)
        start = one.bounds().head
        [event] = one.append([draft("a", data="x", ttl=SOON)])
        found = other.read(start, MANY)
        seen = [(it.draft.data, it.expires) for it in found] == [("x", event.expires)]
        assert seen or is_expired(other, event)
        await_expiry(other, event)
        assert other.read(start, MANY) == []
        assert one.newest(["a"], END, public=True) == [None]
        late = connect(url)
        assert late.position_of(str(event.position)) == event.position
        one.append([draft("a", data="new")])
        batch = next(it for it in late.follow(start) if isinstance(it, list))
        assert contents(batch) == ["new"]


def test_what_is_trimmed_before_it_expires_leaves_nothing(log: BrokerProcess) -> None:
    follower = log.follow(log.bounds().head)
    for number in range(200):
        log.append([draft("a", f"t{number}", ttl=60_000)])
    next_events(follower, 200)
    until(lambda: len(all_topics(log)) < 190, "it is trimmed")
    [event] = log.append([draft("b", ttl=SOON)])
    await_expiry(log, event)
    found = {it.topic for it in all_topics(log)}
    assert {"a", "t199"} <= found
    assert not {"b", "t0"} & found
