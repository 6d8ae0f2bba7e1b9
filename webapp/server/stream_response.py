"""gunicorn's response to a request for a stream."""

from __future__ import annotations

from gunicorn import util
from gunicorn.http import wsgi


class StreamResponse(wsgi.Response):
    """A response that is a stream: it does not say whether its connection stays open."""

    def default_headers(self) -> list[str]:
        """Return the header's first lines, without `Connection`."""
        major, minor = self.req.version  # type: ignore[misc] # of a request it is known
        lines = [
            f"HTTP/{major}.{minor} {self.status}\r\n",
            f"Server: {self.version}\r\n",
            f"Date: {util.http_date()}\r\n",
        ]
        return [*lines, "Transfer-Encoding: chunked\r\n"] if self.chunked else lines

    def write(self, data: bytes) -> None:
        """Send a frame, the first one together with the header."""
        if self.headers_sent or self._omits_body:  # type: ignore[attr-defined] # newer than what mypy knows
            super().write(data)
            return
        lines = self.default_headers() + [f"{name}: {value}\r\n" for name, value in self.headers]
        header = f"{''.join(lines)}\r\n".encode("latin-1")
        self.headers_sent = True
        self.sent += len(data)
        self.sock.sendall(header + (b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data))
