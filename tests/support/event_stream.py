"""A server of streams, as a hub may be that is not ours."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def event_stream(*events: str) -> Iterator[tuple[str, list[str]]]:
    """Send each client the same events, and end its stream.

    Yield the URL, and the cursors of the requests so far.
    """
    body = "\n\n".join([*events, ""]).encode()
    cursors: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cursors.append(self.headers.get("Last-Event-ID", "").encode("latin-1").decode())
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", cursors
        finally:
            server.shutdown()
            thread.join(PATIENCE)
