"""What operators read about refused requests: the newest requests, and a log line for each kind of
refused token or page, without the token.
"""

from __future__ import annotations

import logging
from time import time
from typing import TYPE_CHECKING

from ..core.escaping import escape
from ..limited_lines import LimitedLines
from ..monitoring.recent_refusals import RefusedRequest
from .client_address import client

if TYPE_CHECKING:
    from flask import Request

    from ..errors import TidingsError
    from ..monitoring.recent_refusals import RecentRefusals

logger = logging.getLogger(__name__)

_STATUSES = {401, 403}


class RefusalLog:
    """Writes each line once a minute, and counts the refusals that it does not write.

    :param recent: gets the newest refusals.
    """

    def __init__(self, recent: RecentRefusals) -> None:
        self._lines = LimitedLines()
        self._recent = recent

    def note(self, error: TidingsError, request: Request, *, is_console: bool = False) -> None:
        """Note a refusal, and log one with 401 or 403.

        :param is_console: whether it is of the console itself: it is only logged.
        """
        if not is_console:
            self._recent.add(_refused_request(error, request))
        if error.status not in _STATUSES:
            return
        sender = escape(client(request.remote_addr)) or "-"
        path = f"method={escape(request.method)} path={escape(request.path)}"
        line = f"client={sender} status={error.status} {path} detail={error.detail}"
        if found := self._lines.admit(line):
            logger.info("refused: %s", found)


def _refused_request(error: TidingsError, request: Request) -> RefusedRequest:
    return RefusedRequest(
        time(),
        error.reason,
        error.status,
        request.method,
        request.path,
        client(request.remote_addr),
        error.subject or "",
        error.detail,
        error.remedy,
        tuple(error.extra.get("asked", ())),
        tuple(error.extra.get("granted", ())),
    )
