"""A server of text/event-stream that is no hub, and of pages beside it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

from support.project import ROOT
from support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator


class Plain(BaseHTTPRequestHandler):
    """Sends `parts` at /stream, and ends at /stream?end; `refuse` has the statuses of the next
    answers. Anywhere else is an empty page, and the module as /tidings.js.
    """

    protocol_version = "HTTP/1.1"
    refuse: ClassVar[list[int]]
    parts: ClassVar[list[bytes]]
    kinds: ClassVar[list[str]]
    asked: ClassVar[list[tuple[str, str | None]]]
    tokens: ClassVar[list[str | None]]
    pages: ClassVar[dict[str, bytes]]
    over: ClassVar[threading.Event]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if not self.path.startswith("/stream"):
            kind = "text/javascript" if self.path.endswith(".js") else "text/html"
            self.answer(200, kind, self.pages.get(self.path, b""))
            return
        self.asked.append((self.path, self.headers["Last-Event-ID"]))
        self.tokens.append(self.headers["Authorization"])
        if self.refuse:
            self.answer(self.refuse.pop(0), "text/html")
            return
        self.send_response(200)
        for kind in self.kinds:
            self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        self.end_headers()
        with suppress(ConnectionError):
            for part in self.parts:
                self.wfile.write(part)
                time.sleep(0.002)  # so that it arrives by itself
        if "end" not in self.path:
            self.over.wait(PATIENCE)

    def answer(self, status: int, kind: str, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def plain_server() -> Iterator[tuple[str, type[Plain]]]:
    """Serve; yield the URL, and the handler with what it sends and was asked."""

    class Mine(Plain):
        refuse: ClassVar[list[int]] = []
        parts: ClassVar[list[bytes]] = []
        kinds: ClassVar[list[str]] = ["text/event-stream"]
        asked: ClassVar[list[tuple[str, str | None]]] = []
        tokens: ClassVar[list[str | None]] = []
        pages: ClassVar[dict[str, bytes]] = {
            "/tidings.js": (ROOT / "webapp" / "static" / "tidings.js").read_bytes()
        }
        over = threading.Event()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Mine)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", Mine
    finally:
        Mine.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
