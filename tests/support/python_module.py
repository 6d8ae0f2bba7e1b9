"""Run `python -m MODULE` as a fork of a process that has imported other packages already.

A start of gunicorn takes a third of a second of CPU, much of it for imports. The fork then does
what an interpreter does: it sets its environment, folder, files and arguments, and runs the module.
The fork itself imports `webapp`, after gevent has patched the process where it does so, and
gunicorn, whose modules read the environment and the current folder. It only need not read their
code from files.
"""

from __future__ import annotations

import atexit
import gc
import os
import pickle
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from functools import cache
from importlib import import_module
from importlib.machinery import SourceFileLoader
from io import FileIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType

_ROOT = Path(__file__).parent.parent.parent
_IMPORTED = (
    "gunicorn.app.wsgiapp",
    "gunicorn.arbiter",
    "gunicorn.workers.ggevent",
    "gevent.events",
    "gevent.subprocess",
    "gevent.threading",
    "webapp.app",
    "webapp.brokers.sqlite.broker",
    "webapp.cli",
    "webapp.server.temporary_folder",
    "webapp.server.worker",
)
_IMPORTED_AGAIN = ("gunicorn", "redis", "webapp")
_REQUEST_BYTES = 1 << 20
_NUMBER_BYTES = 4
_STANDARD_FILES = (0, 1, 2)
_READ_BY_THE_INTERPRETER = ("LANG", "LC_", "PYTHON")  # when it starts


def start_module(
    *command: str, env: dict[str, str], prefix: Sequence[str] = (), **options: Any
) -> subprocess.Popen[bytes]:
    """Run `python -m COMMAND`: as a fork, or by an interpreter of its own where that makes a
    difference.

    :param prefix: begins the command.
    :param options: those of `Popen`.
    """
    if prefix or _of_the_interpreter(env) != _of_the_interpreter(_environment()):
        return subprocess.Popen([*prefix, sys.executable, "-m", *command], env=env, **options)
    return PythonModule(*command, env=env, **options)


def _of_the_interpreter(env: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in env.items() if k.startswith(_READ_BY_THE_INTERPRETER)}


def _environment() -> dict[str, str]:
    """Return the environment of the process that forks."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


class PythonModule(subprocess.Popen[bytes]):
    """A process that runs a module.

    :param module: its name.
    :param arguments: what follows it on the command line.
    :param options: those of `Popen`; `env` must be there.
    """

    def __init__(self, module: str, *arguments: str, **options: Any) -> None:
        super().__init__(["python", "-m", module, *arguments], **options)

    def _execute_child(self, *given: Any) -> None:
        """Ask for a fork, where `Popen` would fork itself."""
        arguments, _, _, _, _, folder, environment = given[:7]
        pipes, is_new_session = given[10:16], given[21]
        files = [_end(pipes[0], 0), _end(pipes[3], 1), _end(pipes[5], 2)]
        order = (arguments[2:], folder, environment, is_new_session)
        self._reports, theirs = socket.socketpair()
        with theirs:
            _forking_process().request(pickle.dumps(order), [*files, theirs.fileno()])
        self.pid = _receive(self._reports)
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _try_wait(self, flags: int) -> tuple[int, int]:
        """Return its process id and its status as `os.waitpid` would."""
        if flags and not select.select([self._reports], [], [], 0)[0]:
            return 0, 0
        with self._reports:
            return self.pid, _receive(self._reports)

    def _internal_poll(self, *_ignored: Any, **_options: Any) -> int | None:
        if self.returncode is None and self._reports.fileno() >= 0:
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class _ForkingProcess:
    """The process that has imported what is slow."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                env=_environment(),
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self._close)

    def request(self, order: bytes, files: list[int]) -> None:
        socket.send_fds(self._requests, [order], files)

    def _close(self) -> None:
        self._requests.close()
        self._process.wait()


@cache
def _forking_process() -> _ForkingProcess:
    return _ForkingProcess()


def _receive(reports: socket.socket) -> int:
    number = reports.recv(_NUMBER_BYTES)
    if len(number) != _NUMBER_BYTES:  # without this, 0 would be its process id or status
        message = "The process that reports of a fork has ended."
        raise ChildProcessError(message)
    return int.from_bytes(number, "big")


def _end(file: int, standard: int) -> int:
    return file if file >= 0 else standard


def _fork_for_each_request(requests: socket.socket) -> list[str]:
    """Return in each fork, with the module and its arguments; at the end without."""
    while True:
        request, files, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 4)
        if not request:
            return []
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            return _fork_and_report(request, *files)
        for file in files:
            os.close(file)


def _fork_and_report(request: bytes, *files: int) -> list[str]:
    """Return in a fork. This process reports its process id, and its status when it has ended."""
    *standard, reports = files
    if pid := os.fork():
        for file in (*standard, *_STANDARD_FILES):
            os.close(file)
        _report(reports, pid)
        _report(reports, os.waitpid(pid, 0)[1])
        os._exit(0)
    os.close(reports)
    for file, number in zip(standard, _STANDARD_FILES, strict=True):
        os.dup2(file, number)
        os.close(file)
    arguments, folder, variables, is_new_session = pickle.loads(request)
    if is_new_session:
        os.setsid()
    if folder:
        os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    return list(arguments)


def _report(reports: int, number: int) -> None:
    os.write(reports, number.to_bytes(_NUMBER_BYTES, "big"))


def _unbuffered(file: int, errors: str = "strict") -> TextIOWrapper:
    return TextIOWrapper(FileIO(file, "w", closefd=False), errors=errors, write_through=True)


def _run(module: str, *arguments: str) -> None:
    """Run a module as `python -m` does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin = TextIOWrapper(FileIO(0, closefd=False))
    sys.stdout, sys.stderr = _unbuffered(1), _unbuffered(2, "backslashreplace")
    sys.path.insert(0, str(Path.cwd()))
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):  # the interpreter prints it
            raise
        _exit(int(end.code or 0))


def _exit(code: int) -> NoReturn:
    """End as an interpreter does, but do not free all objects: each would be copied for that."""
    threading._shutdown()  # type: ignore[attr-defined] # await the threads
    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        if not file.closed:
            file.flush()
    os._exit(code)


def _import() -> None:
    """Import what forks need. Its objects are not for their garbage collector, which would make
    each fork copy the memory of all of them.
    """
    _keep_code()
    sys.path.insert(0, str(_ROOT))
    for name in _IMPORTED:
        import_module(name)
    sys.path.remove(str(_ROOT))
    for name in [it for it in sys.modules if it.partition(".")[0] in _IMPORTED_AGAIN]:
        del sys.modules[name]
    gc.collect()
    gc.freeze()


def _keep_code() -> None:
    """Keep the code of each module in memory, by its file, for who imports the module again."""
    load = SourceFileLoader.get_code
    codes: dict[tuple[int, ...], CodeType | None] = {}

    def get_code(loader: SourceFileLoader, name: str) -> CodeType | None:
        file = Path(loader.path).stat()
        key = file.st_dev, file.st_ino, file.st_mtime_ns
        if key not in codes:
            codes[key] = load(loader, name)
        return codes[key]

    SourceFileLoader.get_code = get_code  # type: ignore[assignment]


if __name__ == "__main__":
    _import()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the processes that report leave nothing behind
    with socket.socket(fileno=int(sys.argv[1])) as own:
        command = _fork_for_each_request(own)
    if command:
        _run(*command)
