"""Which connections of a worker end when it has no files left."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gevent
from gevent.socket import socketpair

from webapp.config.settings import Settings
from webapp.server.open_connections import OpenConnections
from webapp.server.stream_counts import StreamCounts


def test_a_connection_that_waits_for_its_client_to_close_makes_room() -> None:
    ended: list[str] = []
    refused: Any = SimpleNamespace(add=lambda _, reason: ended.append(reason))
    connections = OpenConnections(Settings(), 100, 60, StreamCounts(None), refused)
    client, server = socketpair()
    with client:
        connection = connections.add(server)
        connection.send_last(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        closing = gevent.spawn(connection.close)
        gevent.idle()
        connections.free_files(1)
        closing.get(timeout=10)
    assert ended == ["connections"]
