"""The command `tidings`: as a process, to its end or beside the test, or within the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from click.testing import CliRunner

from support.project import ROOT, environment
from support.python_module import start_module
from support.waiting import PATIENCE, one_of_three
from webapp.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from click.testing import Result

COMMAND = [sys.executable, "-m", "webapp"]


def shell_environment(folder: Path, **env: str) -> dict[str, str]:
    """Make a shell's environment in which `tidings` is a command."""
    command = folder / "bin" / "tidings"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\ncd {ROOT}\nexec {" ".join(COMMAND)} "$@"\n')
    command.chmod(0o755)
    return environment({**env, "PATH": f"{command.parent}:{os.environ['PATH']}"})


def tidings(
    *arguments: str, stdin: str | bytes = b"", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    pipe = stdin.encode() if isinstance(stdin, str) else stdin
    with _started(*arguments, **env) as process:
        out, err = (it.decode() for it in process.communicate(pipe, 4 * PATIENCE))
    assert "Traceback" not in err, err
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _started(*arguments: str, **env: str) -> subprocess.Popen[bytes]:
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return start_module("webapp", *arguments, cwd=ROOT, env=environment(env), **pipes)


def within_test(*arguments: str, **env: str) -> Result:
    """Run it in this process, which takes milliseconds, without any setting but `env`."""
    unset = {name: None for name in os.environ if name.startswith("TIDINGS_")}
    result = CliRunner(env={**unset, **env}).invoke(main, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def check(
    *arguments: str, right: Callable[[subprocess.CompletedProcess[str]], bool], **env: str
) -> subprocess.CompletedProcess[str]:
    """Run `tidings check`, for which an event is late after a second."""
    return one_of_three(partial(tidings, "check", *arguments, **env), right)


def succeeded(done: subprocess.CompletedProcess[str]) -> bool:
    return done.returncode == 0


class Running:
    """A command that runs; what it says is gathered as it comes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.out = self.err = ""
        assert process.stdout is not None
        assert process.stderr is not None
        self._threads = [
            threading.Thread(target=self._gather, args=("out", process.stdout)),
            threading.Thread(target=self._gather, args=("err", process.stderr)),
        ]
        for thread in self._threads:
            thread.start()

    def _gather(self, name: str, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                setattr(self, name, getattr(self, name) + line.decode())

    @property
    def lines(self) -> list[str]:
        """What it printed so far."""
        return self.out.splitlines()

    def write(self, text: str) -> None:
        """Write to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def end(self, sig: int | None = None) -> int:
        """Close its stdin, or send it a signal; return its exit code."""
        if sig is not None:
            self.process.send_signal(sig)
        elif self.process.stdin is not None:
            self.process.stdin.close()
        return self.wait()

    def wait(self) -> int:
        """Await its end and return its exit code."""
        code = self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        return code


@contextmanager
def background(*arguments: str, **env: str) -> Iterator[Running]:
    """Run it beside the test."""
    process = _started(*arguments, **env)
    running = Running(process)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        running.wait()
        if process.stdin is not None:
            process.stdin.close()
