"""What one client sends costs that client: others have their turns meanwhile."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

from support.waiting import PATIENCE, one_of_three

if TYPE_CHECKING:
    from support.server import Server

PIPELINED = 6000  # some 300 of them fit into what a server receives at once


def test_requests_of_one_connection_are_served_in_turns(server: Server) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def others_served() -> int:
        """Return how many requests of others were answered before all that came in one piece."""
        last = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        with socket.create_connection((server.host, server.port), PATIENCE) as client:
            sender = threading.Thread(target=client.sendall, args=[request * PIPELINED + last])
            subscriber = threading.Thread(target=lambda: [*iter(lambda: client.recv(1 << 16), b"")])
            sender.start()
            subscriber.start()
            count = 0
            while subscriber.is_alive():
                assert server.http.get("/healthz").status_code == 200
                count += 1
            sender.join()
        return count

    assert one_of_three(others_served, lambda count: count > 100) > 100  # or one a piece, 20
