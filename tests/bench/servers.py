"""The servers that are compared, each as a process of its own, and what they use."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from publisher import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
_START_TIMEOUT_S = 60  # until a server answers its first subscriber
SETTLE_S = 0.2  # after which a server has nothing left to do
_ACCEPT = "Accept: text/event-stream"
_NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
_CHANNEL = "nchan_channel_id bench; nchan_message_buffer_length 1000; nchan_message_timeout 10m;"
_NGINX = """
daemon off; worker_processes 1; worker_rlimit_nofile {files}; pid nginx.pid; error_log stderr;
load_module {module}; {user}
events {{ worker_connections {files}; }}
http {{
  access_log off; keepalive_requests 1000000; nchan_shared_memory_size 256m;
  client_body_temp_path .; proxy_temp_path .; fastcgi_temp_path .; uwsgi_temp_path .;
  scgi_temp_path .;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /sub {{
      nchan_subscriber eventsource; nchan_subscriber_first_message newest; {channel}
    }}
    location = /pub {{ nchan_publisher http; {channel} }}
  }}
}}
"""


@dataclass(frozen=True)
class Server:
    """How to start a server on a port, in a scratch folder, and its paths."""

    command: Callable[[int, Path], list[str]]
    subscribe: str = "/events"
    publish: str = "/events"
    folder: Path = ROOT


def gunicorn(app: str, *arguments: str) -> Callable[[int, Path], list[str]]:
    command = [sys.executable, "-m", "gunicorn", app, *arguments]
    return lambda port, _: [*command, f"--bind=127.0.0.1:{port}"]


def nginx(port: int, scratch: Path) -> list[str]:
    user = "user root;" if os.geteuid() == 0 else ""
    conf = _NGINX.format(port=port, module=_NCHAN, user=user, files=files(), channel=_CHANNEL)
    (scratch / "nginx.conf").write_text(conf)
    return [shutil.which("nginx") or "nginx", "-p", str(scratch), "-c", "nginx.conf"]


def files() -> int:
    """Return how many files a process may open."""
    return os.sysconf("SC_OPEN_MAX")


SERVERS = {
    "tidings": Server(
        gunicorn("watched:app", f"--pythonpath={HERE}"),
        "/events?topic=bench",
        "/events?topic=bench",
    ),
    "naive": Server(
        gunicorn("naive:app", "-k=gevent", "--worker-connections=100000", "--no-control-socket"),
        folder=HERE,
    ),
    "bare": Server(lambda port, _: [sys.executable, str(HERE / "bare.py"), str(port)]),
    "nchan": Server(nginx, "/sub", "/pub"),
}


def missing(name: str) -> str:
    """Return why a server cannot be run here, or nothing."""
    if name == "nchan" and not (shutil.which("nginx") and _NCHAN.exists()):
        return "Debian's nginx and libnginx-mod-nchan are not installed"
    return ""


def environment(settings: dict[str, str]) -> dict[str, str]:
    """Return this process's environment with no settings but these."""
    ours = ("TIDINGS_", "PORT", "WEB_CONCURRENCY", "REDIS_URL", "GUNICORN_CMD_ARGS")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | settings


@contextmanager
def running(server: Server, workers: int = 1, **settings: str) -> Iterator[tuple[int, int]]:
    """Run a server whose workers answer subscribers; give its process and port; then kill it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = environment(settings | {"WEB_CONCURRENCY": str(workers)})
    with TemporaryDirectory() as scratch, (Path(scratch) / "log").open("w+") as log:
        process = subprocess.Popen(
            server.command(port, Path(scratch)),
            cwd=server.folder,
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            if not answers(port, server.subscribe, workers):
                log.seek(0)
                sys.exit(f"{process.args!r} does not answer:\n{log.read()}")
            time.sleep(SETTLE_S)
            yield process.pid, port
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(port: int, path: str, workers: int) -> bool:
    """Await each worker's first answer to a subscriber: a listening socket alone says little."""
    ask = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{_ACCEPT}\r\n\r\n".encode()
    until, found = time.monotonic() + _START_TIMEOUT_S, set[bytes]()
    while len(found) < workers and time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), _START_TIMEOUT_S) as sock:
                sock.sendall(ask)
                head = sock.recv(1 << 16)
        except OSError:
            head = b""
        if b" 200 " in head[:20]:
            found.add(worker(head))
        else:
            time.sleep(0.02)
    return len(found) == workers


def used(root: int) -> tuple[Counter[int], int]:
    """Return the nanoseconds of CPU of each process of a tree, and the memory of all: PSS, which
    counts what is shared once.
    """
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stats[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended
    tree = [root]
    for parent in tree:  # it grows on the way
        tree += [pid for pid, stat in stats.items() if int(stat[1]) == parent]
    return Counter({pid: cpu(pid) for pid in tree}), sum(map(pss, tree))


def cpu(pid: int) -> int:
    """Return what its threads have run, exactly: the kernel's ticks are a fortieth of a run."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in threads)


def pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
