"""gunicorn's response to a request for a stream."""

from __future__ import annotations

from gunicorn.http import wsgi


class StreamResponse(wsgi.Response):
    """A response that is a stream: it does not say whether its connection stays open."""

    def default_headers(self) -> list[str]:
        """Return the header's first lines, without `Connection`."""
        lines: list[str] = super().default_headers()
        return [line for line in lines if not line.startswith("Connection:")]
