"""gunicorn's loggers, whose access log cannot be forged by a request."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from gunicorn.glogging import Logger


class AccessLogger(Logger):
    """gunicorn's loggers, with one access log line for a request whatever its path decodes to."""

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> Any:
        """Return the values that the access log's format may name."""
        atoms = super().atoms(resp, req, environ, request_time)
        return {**atoms, "U": quote(atoms["U"] or "", safe="/:@!$&'()*+,;=")}
