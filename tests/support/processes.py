"""What processes take, as Linux says."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from support.waiting import until


def _stat(pid: int) -> list[str]:
    return system(f"/proc/{pid}/stat").rpartition(")")[2].split()


def state(pid: int) -> str:
    """Return one letter, as `T` for a process that was stopped."""
    return _stat(pid)[0]


def kill(pid: int) -> None:
    """Kill a process and await its end, which a busy kernel carries out a moment later."""
    os.kill(pid, signal.SIGKILL)
    await_end(pid)


def await_end(pid: int) -> None:
    """Await that a process has ended, and so has closed its files."""

    def ended() -> bool:
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            with suppress(FileNotFoundError):  # or it has just ended, or this is no Linux
                stat = Path(f"/proc/{pid}/stat").read_text()
                return stat.rpartition(")")[2].split()[0] in "ZX"
            return False
        return True

    until(ended, "the process has ended")


def cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has taken."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def system(path: str) -> str:
    """Return what Linux says; elsewhere, skip."""
    if Path(path).exists():
        return Path(path).read_text()
    message = f"there is no {path}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def settle(pid: int) -> float:
    """Await that a process is idle for most of half a second. Return its CPU seconds so far."""

    def idle() -> float:
        began, before = time.monotonic(), cpu(pid) + _waited(pid)
        time.sleep(0.5)
        busy = cpu(pid) + _waited(pid) - before
        return cpu(pid) if busy < 0.5 * (time.monotonic() - began) else 0

    seconds: float = until(idle, "it has nothing to do")
    return seconds


def _waited(pid: int) -> float:
    """Return the seconds for which a process had something to do, and others had the CPU."""
    file = Path(f"/proc/{pid}/schedstat")
    return int(file.read_text().split()[1]) / 1e9 if file.exists() else 0.0


def memory(pid: int) -> int:
    """Return the bytes that a process takes, its share of what others use as well."""
    found = re.search(r"^Pss: +(\d+) kB", system(f"/proc/{pid}/smaps_rollup"), re.MULTILINE)
    return int(cast("re.Match[str]", found)[1]) << 10


def sockets(pid: int) -> int:
    """Return how many sockets a process has open."""
    count = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            count += str(file.readlink()).startswith("socket:")
    return count
