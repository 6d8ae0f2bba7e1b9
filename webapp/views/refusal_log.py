"""A line in the hub's log for each kind of refused token or page, without the token."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..core.escaping import escape
from ..limited_lines import LimitedLines
from .client_address import client

if TYPE_CHECKING:
    from flask import Request

    from ..errors import TidingsError

logger = logging.getLogger(__name__)

_STATUSES = {401, 403}


class RefusalLog:
    """Writes each line once a minute, and counts the refusals that it does not write."""

    def __init__(self) -> None:
        self._lines = LimitedLines()

    def note(self, error: TidingsError, request: Request) -> None:
        """Log a refusal with 401 or 403."""
        if error.status not in _STATUSES:
            return
        sender = escape(client(request.remote_addr)) or "-"
        path = f"method={escape(request.method)} path={escape(request.path)}"
        line = f"client={sender} status={error.status} {path} detail={error.detail}"
        if found := self._lines.admit(line):
            logger.info("refused: %s", found)
