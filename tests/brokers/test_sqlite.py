"""The log in a file: several processes at once, and everything that files do to one."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from gevent.queue import Queue

from support.broker_process import Remote, remotes
from support.programs import need
from support.waiting import until
from webapp.brokers.base import Gap
from webapp.brokers.sqlite.broker import SqliteBroker
from webapp.brokers.sqlite.follower import FollowerQueue
from webapp.brokers.sqlite.log_table import LogTable
from webapp.brokers.sqlite.rows import encode_row
from webapp.brokers.sqlite.wakeup import WakeupSocket
from webapp.core.events import Draft, Event, EventId
from webapp.errors import Conflict, Misconfigured, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Connect = Callable[..., Remote]

pytestmark = pytest.mark.slow

MANY = 1 << 30


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "log.db"


@pytest.fixture(name="connect")
def _connect(path: Path) -> Iterator[Connect]:
    """Start processes that share a log: `connect(HISTORY_EVENTS=10)`."""
    with remotes() as start:

        def connect(at: Path = path, **limits: Any) -> Remote:
            return start(f"sqlite:///{at}", **limits)

        yield connect


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file as any other program would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield db


def remove(path: Path) -> None:
    """Remove the file, and what lies beside it."""
    for file in path.parent.glob(f"{path.name}*"):
        if file.is_file():
            file.unlink()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file as another program's transaction would."""
    with opened(path) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


@contextmanager
def still(log: Remote) -> Iterator[None]:
    """Keep a process from doing anything."""
    log.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, log.process.pid, os.WSTOPPED)
    try:
        yield
    finally:
        log.process.send_signal(signal.SIGCONT)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let no other thread of this process have its turn as long as this one computes."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[None]:
    """Mount a file system of its own."""
    mount = need("mount")
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    folder.mkdir(exist_ok=True)
    subprocess.run([mount, *arguments, str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def drafts(*data: str, **fields: Any) -> list[Draft]:
    return [Draft(topics=("t",), data=d, **fields) for d in data]


def contents(events: list[Event]) -> list[str]:
    return [event.draft.data for event in events]


def numbers(count: int, start: int = 0) -> list[str]:
    return [str(number) for number in range(start, start + count)]


def taken(follower: Iterator[list[Event] | Gap], count: int) -> list[Event]:
    found: list[Event] = []
    while len(found) < count:
        batch = next(follower)
        assert not isinstance(batch, Gap), batch
        found += batch
    return found


def everything(log: Remote) -> list[Event]:
    position = log.bounds().floor
    found: list[Event] = []
    while page := log.read(position, MANY):
        found += page
        position = page[-1].position
    return found


def fill(log: Remote, part: list[Draft]) -> int:
    """Publish until the disk is full; return how many were answered."""
    for answered in range(0, 1_000_000, len(part)):
        try:
            log.append(part)
        except ServiceUnavailable as error:
            assert "full" in str(error)  # noqa: PT017 - how many it takes is not known
            return answered
    pytest.fail("the disk is never full")


def intact(path: Path) -> bool:
    with opened(path) as db:
        db.execute("BEGIN")  # it may be trimmed meanwhile
        [(answer,)] = db.execute("PRAGMA integrity_check")
        [(floor, nth, total)] = db.execute("SELECT floor, nth, total FROM log")
        rows = db.execute("SELECT place, nth, total, size FROM events ORDER BY place").fetchall()
    for row in rows:
        assert floor < row[0]
        nth, total, floor = nth + 1, total + row[3], row[0]
        assert row[1:3] == (nth, total)
    return bool(answer == "ok")


# Several processes


def test_processes_that_open_a_new_file_at_once_share_it(connect: Connect, path: Path) -> None:
    logs = [connect() for _ in range(4)]
    asked = [log.start("append", drafts(str(number))) for number, log in enumerate(logs)]
    positions = [future.result(15)[0].position for future in asked]
    assert len(set(positions)) == 4
    assert [event.position for event in everything(logs[0])] == sorted(positions)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_empty_file_becomes_a_log(connect: Connect, path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    assert connect().append(drafts("a"))


def test_every_process_sees_one_order(connect: Connect, path: Path) -> None:
    logs = [connect() for _ in range(3)]
    start = logs[0].bounds().head
    followers = [log.follow(start) for log in logs]
    asked = [
        log.start("append", drafts(f"{name}-{number}"))
        for number in range(200)
        for name, log in enumerate(logs)
    ]
    orders = [contents(taken(follower, 600)) for follower in followers]
    assert orders[0] == orders[1] == orders[2]
    assert len(set(orders[0])) == 600
    events = [future.result(15)[0] for future in asked]
    assert orders[0] == contents(sorted(events, key=lambda event: event.position))
    assert intact(path)


def test_an_own_id_that_processes_race_for_is_appended_once(connect: Connect) -> None:
    logs = [connect() for _ in range(4)]
    start = logs[0].bounds().head
    for number in range(50):
        same = drafts("the same", id=f"own {number}")
        asked = [log.start("append", same) for log in logs for _ in range(2)]
        assert len({future.result(15)[0].position for future in asked}) == 1
    found = everything(logs[0])
    assert [event.id for event in found] == [f"own {number}" for number in range(50)]
    assert contents(taken(logs[3].follow(start), 50)) == ["the same"] * 50


@pytest.mark.parametrize("folder", ["short", "/".join(["long" * 10] * 5)])
def test_another_process_is_woken_and_need_not_look(
    connect: Connect, tmp_path: Path, folder: str
) -> None:
    at = tmp_path / folder / "log.db"
    here, there = connect(at), connect(at)
    follower = there.follow(here.bounds().head)
    here.append(drafts("first"))
    taken(follower, 1)
    started = time.monotonic()
    for number in numbers(30):
        here.append(drafts(number))
        assert contents(taken(follower, 1)) == [number]
    assert time.monotonic() - started < 10  # looking once a second would take 30


def test_the_bells_of_the_dead_are_taken_away(connect: Connect, path: Path) -> None:
    here, there, other = connect(), connect(), connect()
    bells = path.with_name("log.db.wake")
    for log in (here, there, other):
        log.bounds()
    assert len(list(bells.iterdir())) == 3
    there.process.kill()
    there.process.wait()
    here.append(drafts("a"))
    until(lambda: len(list(bells.iterdir())) == 2, "the dead one's bell is gone")
    other.stop()
    assert len(list(bells.iterdir())) == 1


def test_a_bell_that_was_hung_just_now_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "webapp.brokers.sqlite.wakeup._CLOCK_STEP_NS", 60_000_000_000
    )  # the machine may be busy
    folder, now = tmp_path / "bells", time.time_ns()
    rung: list[int] = []
    bells = [WakeupSocket(folder, partial(rung.append, number)) for number in range(2)]
    for number in range(2, 5):
        os.utime(folder, ns=(now, now))  # a clock that is too coarse to tell
        bells[0].notify()
        bells.append(WakeupSocket(folder, partial(rung.append, number)))
        os.utime(folder, ns=(now, now))
        bells[0].notify()
        with gevent.Timeout(15):
            while number not in rung:
                gevent.sleep(0.001)
    for bell in bells:
        bell.close()


def test_a_follower_is_handed_what_is_new_for_as_long_as_it_keeps_up() -> None:
    queue = FollowerQueue(EventId(1, 0))
    queue.stale = False
    for number in range(1, 10):
        event = Event(EventId(1, number), Draft(topics=("t",), data="x" * 100_000))
        queue.push(queue.position, [event])
        assert queue.take() == [event]
    queue.push(queue.position, [event] * 3)
    assert queue.stale  # it does not


def test_drafts_of_concurrent_publishers_share_a_transaction(connect: Connect, path: Path) -> None:
    log = connect()
    log.append(drafts("first", id="taken"))
    wal = path.with_name("log.db-wal")
    before = wal.stat().st_size
    with locked(path):
        asked = [log.start("append", drafts(number)) for number in numbers(50)]
        refused = log.start("append", [*drafts("half"), *drafts("other", id="taken")])
        assert log.bounds()  # they have been read when this was answered
    assert contents([future.result(15)[0] for future in asked]) == numbers(50)
    with pytest.raises(Conflict):
        refused.result(15)
    first, *others = contents(everything(log))
    assert first == "first"
    assert sorted(others, key=int) == numbers(50)  # they came at once: in any order
    pages = (wal.stat().st_size - before) / 4096
    assert pages < 25  # each alone would write two


def test_a_killed_process_loses_nothing_that_was_answered(connect: Connect, path: Path) -> None:
    log, other = connect(), connect()
    follower = other.follow(other.bounds().head)
    asked = [log.start("append", drafts(number)) for number in numbers(3000)]
    until(lambda: sum(it.done() for it in asked) > 300, "some were answered")  # in any order
    log.process.kill()
    log.process.wait()
    log._reader.join()
    answered = [future.result() for future in asked if future.done()]
    assert len(answered) > 300
    found = everything(other)
    assert {event.position for [event] in answered} <= {event.position for event in found}
    assert len(set(contents(found))) == len(found)
    assert contents(taken(follower, len(found))) == contents(found)
    assert intact(path)
    assert other.append(drafts("and on"))


def test_a_log_goes_on_where_it_was_after_a_restart(connect: Connect) -> None:
    log = connect()
    events = log.append(drafts("a", "b", id=None))
    log.stop()
    again = connect()
    assert again.bounds().head == events[-1].position
    assert [event.position for event in everything(again)] == [event.position for event in events]
    assert again.append(drafts("c"))[0].position > events[-1].position


def test_places_never_go_backwards_with_the_clock(connect: Connect, path: Path) -> None:
    log = connect()
    log.bounds()
    future = (time.time_ns() // 1_000_000 + 86_400_000) << 20
    with opened(path) as db:
        db.execute("UPDATE log SET floor = ?", (future - 1,))
    first, second = log.append(drafts("a", "b"))
    assert second.position == EventId(future >> 20, 1)
    assert first.position == EventId(future >> 20, 0)  # its sequence was full: it carries


# Trimming


@pytest.mark.parametrize(
    "limits", [{"HISTORY_EVENTS": 500}, {"HISTORY_BYTES": 100_000}, {"HISTORY_AGE": "2s"}]
)
def test_the_log_is_trimmed_while_followers_go_on(
    connect: Connect, path: Path, limits: dict[str, Any]
) -> None:
    here, there = connect(**limits), connect(**limits)
    start = here.bounds().floor
    followers = [here.follow(start), there.follow(start)]
    sizes = []
    for part in range(40):
        data = [f"{number:0100}" for number in range(part * 100, part * 100 + 100)]
        (here, there)[part % 2].append(drafts(*data))
        for follower in followers:
            assert contents(taken(follower, 100)) == data
        if "HISTORY_AGE" in limits:
            time.sleep(0.1)  # they grow old, but not before their followers have them
        sizes.append(path.stat().st_size + path.with_name("log.db-wal").stat().st_size)
    floor = until(lambda: (f := here.bounds().floor) > start and f, "it is trimmed")
    assert here.position_of(str(start)) is None
    assert there.position_of(str(floor)) == floor or here.bounds().floor > floor
    assert sizes[-1] < 9 << 20
    if "HISTORY_AGE" in limits:
        until(lambda: not everything(there), "a quiet log is trimmed, too")
        assert here.bounds().floor == here.bounds().head > start
    assert intact(path)


def test_the_file_stops_growing(connect: Connect, path: Path) -> None:
    log = connect(HISTORY_EVENTS=2000)
    sizes = []
    for _ in range(30):
        log.append(drafts(*["x" * 1000] * 1000))
        sizes.append(path.stat().st_size)
    assert sizes[-1] <= max(sizes[:20])
    assert sizes[-1] < 12 << 20
    wal = path.with_name("log.db-wal")
    until(lambda: log.append(drafts("x")) and wal.stat().st_size < 12 << 20, "the burst is over")


def test_the_write_ahead_log_stops_growing_although_somebody_always_reads(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.brokers.sqlite.database._MAX_WAL_BYTES", 8 << 20)
    file, written = LogTable(path, 10, 1 << 30, 3600), threading.Event()
    row = encode_row(Draft(topics=("t",), data="x" * 1_000_000))
    file.append([[row]])

    def read() -> None:
        opened = (closing(sqlite3.connect(path, isolation_level=None)) for _ in range(2))
        with next(opened) as one, next(opened) as other:
            one.execute("BEGIN")
            for old, new in cycle([(one, other), (other, one)]):
                new.execute("BEGIN")
                new.execute("SELECT draft FROM events ORDER BY place LIMIT 2").fetchall()
                old.execute("COMMIT")  # there is always one that reads
                if written.is_set():
                    return

    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read)
        for _ in range(20):
            file.append([[row]])
        written.set()
        reading.result()
    wal = path.with_name(path.name + "-wal")
    assert wal.stat().st_size < 16 << 20
    file.close()


def test_the_newest_event_stays_however_large(connect: Connect) -> None:
    log = connect(HISTORY_BYTES=1000)
    log.append(drafts("small"))
    [event] = log.append(drafts("x" * 5000))
    until(lambda: len(everything(log)) == 1, "the other is trimmed")
    assert log.position_of(str(event.position))


def test_the_own_id_at_the_floor_is_a_place_and_no_obstacle(connect: Connect) -> None:
    log = connect(HISTORY_EVENTS=1)
    positions = [log.append(drafts(own, id=own))[0].position for own in ("one", "two", "three")]
    until(lambda: log.bounds().floor == positions[1], "two are trimmed")
    assert [log.position_of(own) for own in ("one", "two", "three")] == [None, *positions[1:]]
    assert log.append(drafts("other", id="two"))[0].position > positions[2]


def test_a_follower_that_was_overtaken_is_told(connect: Connect) -> None:
    here, there = connect(HISTORY_EVENTS=100), connect(HISTORY_EVENTS=100)
    follower = there.follow(there.bounds().head)
    here.append(drafts("seen"))
    taken(follower, 1)
    with still(there):
        for _ in range(20):
            here.append(drafts(*numbers(100)))
        until(lambda: len(everything(here)) <= 110, "it is trimmed")
    gap = next(follower)
    assert isinstance(gap, Gap)
    assert gap.reason == "aged"
    assert gap.position == here.bounds().floor
    assert contents(taken(follower, 100))[-1] == "99"


def test_a_follower_of_another_log_is_told(connect: Connect) -> None:
    log = connect()
    [event] = log.append(drafts("a"))
    follower = log.follow(EventId(event.position.ms + 60_000, 0))
    assert next(follower) == Gap(event.position, "unknown")
    log.append(drafts("b"))
    assert contents(taken(follower, 1)) == ["b"]


def test_a_file_that_was_removed_is_begun_anew(connect: Connect, path: Path) -> None:
    here, there = connect(), connect()
    follower = there.follow(here.bounds().head)
    here.append(drafts("lost"))
    taken(follower, 1)
    with still(there):  # it would make another file meanwhile
        remove(path)
    gap = next(follower)
    assert isinstance(gap, Gap)
    assert gap.position == here.bounds().floor
    here.append(drafts("new"))
    assert contents(taken(follower, 1)) == ["new"]
    assert contents(everything(here)) == ["new"]
    assert intact(path)


def test_a_copy_that_was_made_while_it_grew_can_be_put_back(connect: Connect, path: Path) -> None:
    log, copy = connect(), path.with_name("copy.db")
    [kept] = log.append(drafts("kept"))
    with opened(path) as db, opened(copy) as other:
        db.backup(other)
    [lost] = log.append(drafts("lost"))
    log.stop()
    remove(path)
    copy.rename(path)
    log = connect()
    assert contents(everything(log)) == ["kept"]
    assert (log.position_of(str(kept.position)), log.position_of(str(lost.position))) == (
        kept.position,
        None,
    )
    [new] = log.append(drafts("new"))
    assert new.position > lost.position
    assert intact(path)


# What the file may be


@pytest.mark.parametrize(("version", "said"), [(99, "newer version"), (1, "before the first")])
def test_a_file_of_another_version_is_refused(
    connect: Connect, path: Path, version: int, said: str
) -> None:
    connect().bounds()
    with opened(path) as db:
        db.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(Misconfigured, match=said):
        connect().bounds()


def test_another_programs_database_is_left_alone(connect: Connect, path: Path) -> None:
    path.parent.mkdir()
    with opened(path) as db:
        db.execute("CREATE TABLE mine (a)")
    before = path.read_bytes()
    with pytest.raises(Misconfigured, match="another program's"):
        connect().bounds()
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused(connect: Connect, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"a text, not a database\n" * 1000)
    with pytest.raises(Misconfigured, match="not an SQLite database"):
        connect().bounds()
    with pytest.raises(Misconfigured, match="names a folder"):
        connect(path.parent).bounds()
    with pytest.raises(Misconfigured, match="cannot be opened"):
        connect(path / "log.db").bounds()


def test_a_file_that_cannot_be_written_is_refused(
    connect: Connect, path: Path, tmp_path: Path
) -> None:
    connect().append(drafts("a"))
    view = tmp_path / "view"
    with mounted(view, "--bind", str(path.parent)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(view)], check=True)
        with pytest.raises(Misconfigured, match="cannot be"):
            connect(view / "log.db").bounds()


def test_a_damaged_file_is_told(connect: Connect, path: Path) -> None:
    log = connect()
    log.append(drafts(*numbers(100)))
    log.stop()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(ServiceUnavailable, match="damaged"):
        connect().bounds()


def test_a_damaged_event_is_left_out(connect: Connect, path: Path) -> None:
    log = connect()
    start = log.bounds().head
    events = log.append(drafts(*numbers(6)))
    damage: list[Any] = ["no draft", '["t"]', "7\n7", b"\xff\xfe"]
    with opened(path) as db:
        for event, text in zip(events[1:5], damage, strict=True):
            key = event.position.ms << 20 | event.position.seq
            db.execute("UPDATE events SET draft = ? WHERE place = ?", (text, key))
    assert contents(log.read(start, MANY)) == ["0", "5"]
    assert contents(log.before(EventId(1 << 60, 0), 10, MANY)) == ["0", "5"]
    assert contents(taken(log.follow(start), 2)) == ["0", "5"]
    assert contents(log.read(start, 1)) == ["0"]
    assert contents(log.read(events[0].position, 1)) == ["5"]


# While it runs


def test_a_locked_file_stops_publishers_for_as_long_as_it_is(connect: Connect, path: Path) -> None:
    log = connect()
    follower = log.follow(log.bounds().head)
    log.append(drafts("before"))
    with locked(path):
        asked = [log.start("append", drafts(number)) for number in numbers(3)]
        for future in asked:
            with pytest.raises(ServiceUnavailable, match="locked"):
                future.result(15)
        assert contents(everything(log)) == ["before"]
    log.append(drafts("after"))
    assert contents(everything(log)) == contents(taken(follower, 2)) == ["before", "after"]


def test_a_full_disk_stops_publishers_until_there_is_room(connect: Connect, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "size=2m", "none"):
        log = connect(disk / "log.db")
        start = log.bounds().head
        follower = log.follow(start)
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 1_000_000)
        part = drafts(*["x" * 10_000] * 5)
        answered = fill(log, part)
        assert len(everything(log)) == answered
        with pytest.raises(ServiceUnavailable, match="full"):
            log.append(part)
        ballast.unlink()
        log.append(drafts("room"))
        assert contents(taken(follower, answered + 1))[-1] == "room"
        assert intact(disk / "log.db")
        log.stop()


def test_a_file_that_is_away_for_a_while_is_waited_for(connect: Connect, path: Path) -> None:
    here, there = connect(), connect()
    follower = there.follow(here.bounds().head)
    here.append(drafts("before"))
    taken(follower, 1)
    with still(there):  # it would make another file meanwhile
        away = path.rename(path.with_name("away"))
        path.mkdir()
    for log in (here, there):
        with pytest.raises(ServiceUnavailable, match="names a folder"):
            log.append(drafts("refused"))
        with pytest.raises(ServiceUnavailable, match="names a folder"):
            log.bounds()
    with still(there):
        path.rmdir()
        away.rename(path)
    here.append(drafts("after"))
    assert contents(taken(follower, 1)) == ["after"]
    assert contents(everything(there)) == ["before", "after"]
    assert intact(path)


def test_a_disk_that_fails_stops_publishers_until_it_works(connect: Connect, path: Path) -> None:
    log = connect()
    follower = log.follow(log.bounds().head)
    log.append(drafts("before"))
    size = path.with_name("log.db-wal").stat().st_size
    process = log.process.pid
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size + 5000, resource.RLIM_INFINITY))
    with pytest.raises(ServiceUnavailable, match="SQLITE_IOERR"):
        log.append(drafts("x" * 100_000))
    assert contents(everything(log)) == ["before"]
    resource.prlimit(process, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    log.append(drafts("after"))
    assert contents(everything(log)) == contents(taken(follower, 2)) == ["before", "after"]
    assert intact(path)


def test_a_closed_log_refuses_and_its_followers_end(path: Path) -> None:
    log = SqliteBroker(path, 10, 1000, 60)
    found: Queue[list[Event] | Gap] = Queue()
    start = log.bounds().head
    followers = [gevent.spawn(lambda: list(map(found.put, log.follow(start)))) for _ in range(2)]
    log.append(drafts("a"))
    for _ in followers:
        assert contents(taken(iter([found.get(timeout=15)]), 1)) == ["a"]
    log.close()
    log.close()
    assert len(gevent.joinall(followers, timeout=15)) == 2
    for call in (log.bounds, lambda: log.append(drafts("a"))):
        with pytest.raises(ServiceUnavailable, match="stopping"):
            call()
    assert list(path.with_name("log.db.wake").iterdir()) == []


# Without a thread


class Threads:
    """A log in this process, and how often its commits went through the thread."""

    def __init__(self, path: Path) -> None:
        self.log = SqliteBroker(path, 1000, MANY, 3600)
        self._ask = self.log._committer._run
        self.log._committer._run = self._counted
        self.asked = 0
        while not self.took(self.append, 0):
            pass  # the first goes through it anyhow

    def _counted(self, *values: Any) -> Any:
        self.asked += 1
        return self._ask(*values)

    def append(self, *data: str) -> list[Event]:
        return self.log.append(drafts(*data or ("a",)))

    def took(self, publish: Callable[..., object], asked: int) -> bool:
        """Publish; return whether the thread was asked that often."""
        before = self.asked
        publish()
        return self.asked - before == asked


@pytest.fixture(name="threads")
def _threads(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Threads]:
    monkeypatch.setattr(
        "webapp.brokers.sqlite.inline_commit.InlineCommitPolicy.SLOW_S", 60
    )  # the machine may be busy
    threads = Threads(path)
    yield threads
    threads.log.close()


def test_what_is_small_and_alone_is_committed_without_a_thread(
    threads: Threads, path: Path
) -> None:
    follower = threads.log.follow(threads.log.bounds().head)
    new = [threads.append(str(number))[0] for number in range(20)]
    assert threads.took(lambda: new.extend(threads.append("x", "y")), 0)
    assert [event.position for event in taken(follower, 22)] == [event.position for event in new]
    with opened(path) as db:  # for every process
        kept = db.execute("SELECT draft FROM events ORDER BY place DESC LIMIT 22").fetchall()
    assert [text for (text,) in reversed(kept)] == [event.draft.to_json() for event in new]
    assert threads.took(lambda: threads.append(*["a"] * 11), 1)
    assert threads.took(lambda: threads.append("x" * (32 << 10)), 1)
    with pytest.raises(Conflict):
        threads.log.append([*drafts("1", id="own"), *drafts("2", id="own")])
    [first, again] = [threads.log.append(drafts("1", id="own"))[0] for _ in range(2)]
    assert first.position == again.position
    assert intact(path)


def test_a_locked_file_is_left_to_the_thread(threads: Threads, path: Path) -> None:
    database = threads.log._table._database
    quick = database._impatient
    with locked(path):
        asked, began = threads.asked, time.monotonic()
        publishers = [gevent.spawn(threads.append, name) for name in ("a", "behind it")]
        while threads.asked == asked:
            gevent.sleep(0.01)
        assert time.monotonic() - began < 2  # the loop waits for nobody; a thread does for 5 s
    assert database._impatient is quick
    for publisher in publishers:
        assert publisher.get(timeout=15)
    assert contents(threads.log.before(EventId(1 << 42, 0), 2, MANY)) == ["a", "behind it"]
    assert threads.took(threads.append, 0)


def test_after_a_commit_that_waited_for_the_disk_the_thread_has_its_turn(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = threads.log._table
    commit = file.try_append
    committed = commit([encode_row(draft) for draft in drafts("a")])  # which may wait for the disk

    def computing(_: Any) -> Any:
        until = time.monotonic() + 0.01
        while time.monotonic() < until:
            pass
        return committed

    def waiting(rows: Any) -> Any:
        time.sleep(0.01)
        return commit(rows)

    monkeypatch.setattr("webapp.brokers.sqlite.inline_commit.InlineCommitPolicy.SLOW_S", 0.002)
    monkeypatch.setattr("webapp.brokers.sqlite.inline_commit.InlineCommitPolicy.PAUSE_FACTOR", 1e9)
    monkeypatch.setattr(file, "try_append", computing)
    with undisturbed():
        assert threads.took(threads.append, 0)
    monkeypatch.setattr(file, "try_append", waiting)
    assert threads.took(threads.append, 0)
    assert threads.took(threads.append, 1)


def test_a_file_that_was_removed_takes_no_more_without_a_thread(
    threads: Threads, path: Path
) -> None:
    for file in path.parent.glob("log.db*"):
        if file.is_file():
            file.unlink()
    assert threads.took(threads.append, 1)
    assert threads.took(threads.append, 0)
    assert len(threads.log.before(EventId(1 << 42, 0), 5, MANY)) == 2


def test_now_and_then_the_thread_moves_the_write_ahead_log(threads: Threads, path: Path) -> None:
    wal = path.with_name("log.db-wal")
    for _ in range(1500):
        threads.append("x" * 4000)
    assert wal.stat().st_size < 12 << 20
