"""A line in the hub's log for each kind of refused token or page, without the token."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

from ..core.escaping import escape
from .client_address import client

if TYPE_CHECKING:
    from flask import Request

    from ..errors import TidingsError

logger = logging.getLogger(__name__)

_STATUSES = {401, 403}
_INTERVAL_S = 60.0
_MAX_LINES = 20  # in an interval: anybody can be refused at any rate


class RefusalLog:
    """Writes each line once a minute, and counts the refusals that it does not write."""

    def __init__(self) -> None:
        self._since = float("-inf")
        self._lines = set[str]()
        self._left_out = 0

    def note(self, error: TidingsError, request: Request) -> None:
        """Log a refusal with 401 or 403."""
        if error.status not in _STATUSES:
            return
        if (now := monotonic()) - self._since > _INTERVAL_S:
            self._since = now
            self._lines.clear()
        sender = escape(client(request.remote_addr)) or "-"
        path = f"method={escape(request.method)} path={escape(request.path)}"
        line = f"client={sender} status={error.status} {path} detail={error.detail}"
        if line in self._lines or len(self._lines) >= _MAX_LINES:
            self._left_out += 1
            return
        self._lines.add(line)
        more, self._left_out = self._left_out, 0
        logger.info("refused: %s%s", f"left_out={more} " if more else "", line)
