"""How long the server takes to answer others while it is busy with its subscribers.

`probe.py PORT PUBLISH` asks for /healthz and publishes to a topic without subscribers, by turns,
until its standard input ends; then it prints the longest times in milliseconds. It does little, so
that it waits for the server only.
"""

from __future__ import annotations

import json
import select
import sys
import time
from http.client import HTTPConnection

_GAP_S = 0.01  # between two requests


def took(connection: HTTPConnection, method: str, path: str, body: str | None = None) -> float:
    """Return how long an answer took, in milliseconds."""
    started = time.monotonic()
    connection.request(method, path, body)
    answer = connection.getresponse()
    answer.read()
    if answer.status >= 300:
        sys.exit(f"{path} was answered with {answer.status}")
    return (time.monotonic() - started) * 1000


def main(port: str, publish: str) -> None:
    connection = HTTPConnection("127.0.0.1", int(port))
    healthz_ms, publishing_ms, ended = list[float](), list[float](), False
    while not ended:  # once at least, however short the run is
        healthz_ms.append(took(connection, "GET", "/healthz"))
        publishing_ms.append(took(connection, "POST", publish, "x"))
        ended = bool(select.select([sys.stdin], [], [], _GAP_S)[0])
    found = {"healthz": healthz_ms, "publish": publishing_ms}
    result = {name: sorted(times)[int(0.99 * len(times))] for name, times in found.items()}
    result |= {f"{name} most": max(times) for name, times in found.items()}
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
