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
