from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING
from weakref import ref

import gevent
from gevent import GreenletExit, getcurrent
from gevent.event import Event

from webapp.server import greenlet_pool
from webapp.server.greenlet_pool import GreenletPool

if TYPE_CHECKING:
    import pytest

user: ContextVar[str] = ContextVar("user")


def all_others_run() -> None:
    gevent.sleep(0)
    gevent.sleep(0)


def test_calls_one_after_another_share_a_greenlet_and_no_context_variable() -> None:
    pool, greenlets, users = GreenletPool(), set[object](), list[str]()

    def serve(name: str) -> None:
        users.append(user.get("nobody"))
        user.set(name)
        greenlets.add(getcurrent())

    for name in "abc":
        pool.spawn(serve, name)
        all_others_run()
    assert (len(greenlets), users) == (1, ["nobody"] * 3)


def test_calls_at_the_same_time_have_a_greenlet_each_and_few_of_them_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(greenlet_pool, "_MAX_IDLE_GREENLETS", 2)
    pool, go, running = GreenletPool(), Event(), set[object]()

    def wait() -> None:
        running.add(getcurrent())
        go.wait()

    for _ in range(5):
        pool.spawn(wait)
    all_others_run()
    assert len(running) == 5
    go.set()
    all_others_run()
    assert sum(not greenlet.dead for greenlet in running) == 2  # type: ignore[attr-defined] # of greenlets


def test_an_idle_greenlet_keeps_nothing_of_its_last_call() -> None:
    class Connection:
        pass

    pool, connection = GreenletPool(), Connection()
    found = ref(connection)
    pool.spawn(id, connection)
    del connection
    all_others_run()
    assert found() is None


def test_an_error_is_logged_and_the_greenlet_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    pool, served = GreenletPool(), list[int]()

    def fail(error: BaseException) -> None:
        raise error

    pool.spawn(fail, ValueError("a bug"))
    all_others_run()
    pool.spawn(fail, GreenletExit())
    all_others_run()
    pool.spawn(served.append, 1)
    all_others_run()
    assert served == [1]
    assert capsys.readouterr().err.count("ValueError: a bug") == 1
