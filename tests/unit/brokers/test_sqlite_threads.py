"""While a thread calls SQLite, it waits less for the interpreter than Python lets it by default."""

from __future__ import annotations

import sys
import threading

import gevent
import pytest

from webapp.brokers.sqlite.threads import SqliteThreads

SHORT_S = 0.0005


def test_threads_wait_less_for_the_interpreter_while_calls_run() -> None:
    before, threads = sys.getswitchinterval(), SqliteThreads(1)
    assert before > SHORT_S
    assert threads.call(sys.getswitchinterval) == SHORT_S
    assert sys.getswitchinterval() == before
    with pytest.raises(ZeroDivisionError):
        threads.call(divmod, 1, 0)
    assert sys.getswitchinterval() == before
    threads.close()


def test_they_wait_less_until_the_last_of_several_calls_has_ended() -> None:
    before, one, other = sys.getswitchinterval(), SqliteThreads(1), SqliteThreads(1)
    end = threading.Event()
    waiting = gevent.spawn(one.call, end.wait)
    gevent.sleep(0)
    assert other.call(sys.getswitchinterval) == SHORT_S
    assert sys.getswitchinterval() == SHORT_S
    end.set()
    waiting.get()
    assert sys.getswitchinterval() == before
    one.close()
    other.close()
