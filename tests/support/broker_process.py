"""A broker in a process of its own, with gevent's patched sockets, driven from a test.

The process is what a worker is to the log. The test calls the broker's methods by name and may
leave a call running; errors come back as what they are.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from webapp.brokers.base import Gap
    from webapp.core.events import Event

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 15  # seconds


class BrokerProcess:
    """A process with one broker, and the presence store beside it.

    :param settings: as in the environment: `TIDINGS_BROKER_URL` and limits.
    """

    def __init__(self, **settings: str) -> None:
        ours, theirs = socket.socketpair()
        measured = {k: v for k, v in os.environ.items() if k.startswith("COVERAGE")}
        self.process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno())],
            env={**measured, "PYTHONPATH": str(ROOT), **settings},
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._orders = ours
        self._numbers = count()
        self._running: dict[int, Future[Any]] = {}
        self._followed: Queue[list[Event] | Gap] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def start(self, method: str, *args: Any, **options: Any) -> Future[Any]:
        """Begin a call."""
        number, future = next(self._numbers), Future[Any]()
        self._running[number] = future
        self._orders.sendall(pickle.dumps((number, method, args, options)))
        return future

    def __getattr__(self, method: str) -> Any:
        return lambda *args, **options: self.start(method, *args, **options).result(PATIENCE)

    def follow(self, after: Any) -> Iterator[list[Event] | Gap]:
        """Begin to follow, at once; return what the broker's follower yields."""
        self.start("follow", after)
        return iter(partial(self._followed.get, timeout=PATIENCE), None)

    def stop(self) -> None:
        """Close the broker and end its process, if it still runs."""
        if self._orders.fileno() < 0:
            return
        self._orders.shutdown(socket.SHUT_WR)
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self._orders.close()

    def _read(self) -> None:
        with self._orders.makefile("rb") as answers:
            self._take(answers)

    def _take(self, answers: BinaryIO) -> None:
        while answer := _load(answers):
            number, result, error = answer
            if number is None:
                self._followed.put(result)
            elif error:
                self._running.pop(number).set_exception(error[0](*error[1:3], **error[3]))
            else:
                self._running.pop(number).set_result(result)


Connect = Callable[..., BrokerProcess]
"""Start a process: `connect(url, HISTORY_EVENTS=10)`."""


@contextmanager
def broker_processes() -> Iterator[Callable[..., BrokerProcess]]:
    """Start processes: `connect(url, HISTORY_EVENTS=10)`; all end afterwards."""
    processes: list[BrokerProcess] = []

    def connect(url: str, **limits: Any) -> BrokerProcess:
        settings = {f"TIDINGS_{name}": str(value) for name, value in limits.items()}
        processes.append(BrokerProcess(TIDINGS_BROKER_URL=url, **settings))
        return processes[-1]

    yield connect
    for process in processes:
        process.stop()


def _load(file: BinaryIO) -> Any:
    try:
        return pickle.load(file)
    except (EOFError, OSError, ValueError, pickle.UnpicklingError):  # the process has ended
        return None


def _serve(orders: socket.socket) -> None:
    import gevent
    from gevent.lock import RLock

    from webapp.brokers import connect, connect_presence
    from webapp.config.settings import Settings
    from webapp.errors import TidingsError

    settings = Settings.from_env(os.environ)
    broker = connect(settings)
    store = connect_presence(settings, broker)
    file = orders.makefile("rb")

    answering = RLock()

    def answer(*message: Any) -> None:
        # In one piece: several calls answer at once, and one may have to wait for the reader.
        with answering:
            orders.sendall(pickle.dumps(message))

    def call(number: int, method: str, args: Any, options: Any) -> None:
        try:
            if method == "follow":
                for found in broker.follow(*args):
                    answer(None, found, None)
            else:
                asked = broker if hasattr(broker, method) else store
                answer(number, getattr(asked, method)(*args, **options), None)
        except TidingsError as error:
            answer(number, None, (type(error), error.detail, error.remedy, error.extra))

    while order := _load(file):
        gevent.spawn(call, *order)
    store.close()
    broker.close()


if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()
    _serve(socket.socket(fileno=int(sys.argv[1])))
