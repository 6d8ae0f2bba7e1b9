"""A broker in a process of its own, with gevent's patched sockets, driven from a test.

The process is what a worker is to the log. The test calls the broker's methods by name and may
leave a call running; errors come back as what they are.

The processes are forks of one that has imported the brokers, because an import takes a quarter of a
second of CPU.
"""

from __future__ import annotations

import atexit
import gc
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import cache, partial
from itertools import count
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from webapp.brokers.base import Followed

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 60  # seconds


class ForkedProcess:
    """A process that is not a child of this one.

    :param pid: its process id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def send_signal(self, sig: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, sig)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def wait(self) -> None:
        """Await its end."""
        deadline = time.monotonic() + PATIENCE
        with suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                os.kill(self.pid, 0)
                time.sleep(0.001)
            raise TimeoutError


class ForkingProcess:
    """The process that has imported the brokers."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair()
        measured = {k: v for k, v in os.environ.items() if k.startswith("COVERAGE")}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                env={**measured, "PYTHONPATH": str(ROOT)},
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self.close)

    def fork(self, orders: socket.socket, settings: dict[str, str]) -> ForkedProcess:
        """Start a broker."""
        socket.send_fds(self._requests, [pickle.dumps(settings)], [orders.fileno()])
        return ForkedProcess(int(self._requests.recv(100)))

    def close(self) -> None:
        """End it."""
        self._requests.close()
        self._process.wait(PATIENCE)


@cache
def _forking_process() -> ForkingProcess:
    return ForkingProcess()


class BrokerProcess:
    """A process with one broker, and the presence store beside it.

    :param settings: as in the environment: `TIDINGS_BROKER_URL` and limits.
    """

    def __init__(self, **settings: str) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = _forking_process().fork(theirs, settings)
        self._orders = ours
        self._numbers = count()
        self._running: dict[int, Future[Any]] = {}
        self._followed: Queue[Followed] = Queue()
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

    def follow(self, after: Any) -> Iterator[Followed]:
        """Begin to follow, at once; return what the broker's follower yields."""
        self.start("follow", after)
        return iter(partial(self._followed.get, timeout=PATIENCE), None)

    def stop(self) -> None:
        """Close the broker and end its process, if it still runs."""
        if self._orders.fileno() < 0:
            return
        self._orders.shutdown(socket.SHUT_WR)
        self.process.wait()
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


def _fork_brokers(requests: Any) -> None:
    """Fork a process for each request: the settings, and the socket of its orders."""
    from gevent.monkey import get_original

    # So that the forks have imported all of them.
    import webapp.brokers.redis.presence
    import webapp.brokers.sqlite.broker
    import webapp.brokers.sqlite.presence

    with suppress(ImportError):  # psycopg is an extra of the package
        import webapp.brokers.postgres.broker
        import webapp.brokers.postgres.presence  # noqa: F401

    # gevent's own functions would watch the children in an event loop, which the forks would share.
    fork, handle = get_original("os", "fork"), get_original("signal", "signal")
    handle(signal.SIGCHLD, signal.SIG_IGN)  # those that end leave nothing behind
    gc.collect()
    gc.freeze()  # forks need not look at what was imported, and so copy it
    while True:
        settings, descriptors, _, _ = socket.recv_fds(requests, 1 << 16, 1)
        if not settings:
            return
        if pid := fork():
            requests.send(b"%d" % pid)
            os.close(descriptors[0])
            continue
        handle(signal.SIGCHLD, signal.SIG_DFL)
        requests.close()
        os.environ.clear()
        os.environ.update(pickle.loads(settings))
        _serve(socket.socket(fileno=descriptors[0]))
        atexit._run_exitfuncs()
        os._exit(0)  # the interpreter would free, and so copy, all that was imported


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
    from _socket import socket as blocking_socket

    from gevent import monkey

    monkey.patch_all()
    # It waits for requests without gevent's hub, so that each fork has one of its own.
    _fork_brokers(blocking_socket(fileno=int(sys.argv[1])))
