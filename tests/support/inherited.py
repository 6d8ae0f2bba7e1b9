"""Listening sockets that a server inherits, as from systemd."""

from __future__ import annotations

import sys

_ACTIVATE = """
import os, socket, sys
count = int(sys.argv[1])
for number, address in enumerate(sys.argv[2 : 2 + count]):
    host, _, port = address.rpartition(":")
    unix = not port.isdecimal()
    sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    sock.bind(address if unix else (host, int(port)))
    sock.listen()
    os.dup2(sock.fileno(), 103 + number)
for number in range(count):
    os.dup2(103 + number, 3 + number)
os.environ.update(LISTEN_FDS=str(count), LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2 + count], sys.argv[2 + count :])
"""


def inheriting(*addresses: str) -> list[str]:
    """Return what comes before a command, so that it inherits sockets that listen there.

    :param addresses: each a host with a port, or a path.
    """
    return [sys.executable, "-c", _ACTIVATE, str(len(addresses)), *addresses]
