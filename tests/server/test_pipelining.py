"""What one client sends costs that client: others have their turns meanwhile."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from select import select
from typing import TYPE_CHECKING

from support.waiting import PATIENCE, one_of_three

if TYPE_CHECKING:
    from support.server import Server

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
AT_ONCE = 400  # connections
PIPELINED = 6000  # some 300 of them fit into what a server receives at once


def test_requests_of_one_connection_are_served_in_turns(server: Server) -> None:
    def others_served() -> int:
        """Return how many requests of others were answered before all that came in one piece."""
        last = REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        with socket.create_connection((server.host, server.port), PATIENCE) as client:
            sender = threading.Thread(target=client.sendall, args=[REQUEST * PIPELINED + last])
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


def test_requests_that_arrive_at_once_do_not_delay_another_address(server: Server) -> None:
    address = (server.host, server.port)

    def others_served() -> int:
        """Return how many requests of another address were answered before all of these."""
        with ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection(address, PATIENCE, ("127.0.0.2", 0)))
                for _ in range(AT_ONCE)
            ]
            for client in clients:  # each has a greenlet that waits for a request
                client.sendall(REQUEST)
                client.recv(1 << 16)
            for client in clients:
                client.sendall(REQUEST.replace(b"/healthz", b"/openapi.json"))
            count = 0
            while select(clients, [], [], 0)[0] != clients:
                assert server.http.get("/healthz").status_code == 200
                count += 1
        return count

    assert one_of_three(others_served, lambda count: count > 20) > 20  # or two or three
