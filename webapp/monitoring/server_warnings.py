"""The newest warnings of the server's log: of gunicorn's master and all workers of a machine."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import NamedTuple

from .metrics_folder import find_folder
from .recent_entries import RecentEntries

_MAX_WARNINGS, _MAX_CHARS = 50, 500
_MAX_LINES_PER_S = 5  # that a process notes


class LoggedWarning(NamedTuple):
    """A line of the log."""

    time: float
    """Unix seconds."""
    level: str
    pid: int
    text: str
    """Without a traceback."""


class WarningHandler(logging.Handler):
    """Notes warnings and errors, at most some in a second, and shares them at once: a process that
    logs an error may end with it, and gunicorn's master has no loop.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._entries = RecentEntries(
            LoggedWarning, "warnings.json", find_folder, _MAX_WARNINGS, _MAX_CHARS
        )
        self._second, self._noted = 0, 0

    def emit(self, record: logging.LogRecord) -> None:
        """Note a line."""
        if self._is_only_handler(record.name) and logging.lastResort:
            logging.lastResort.handle(record)  # what Python does where there is no handler
        try:
            if self._admit(int(record.created)):
                self._note(record)
                self.share()
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)

    def share(self) -> None:
        """Let all workers see what could not be shared at once. An error is not logged: that would
        be a warning that cannot be shared.
        """
        with suppress(OSError):
            self._entries.share()

    def read(self) -> list[LoggedWarning]:
        """Return the warnings, the newest first."""
        return list(self._entries.read().values())[::-1]

    def _admit(self, second: int) -> bool:
        if second != self._second:
            self._second, self._noted = second, 0
        self._noted += 1
        return self._noted <= _MAX_LINES_PER_S

    def _note(self, record: logging.LogRecord) -> None:
        pid = record.process or os.getpid()
        key = f"{pid}-{record.created}"
        self._entries.note(key, LoggedWarning(record.created, record.levelname, pid, _text(record)))

    def _is_only_handler(self, name: str) -> bool:
        logger: logging.Logger | None = logging.getLogger(name)
        while logger:
            if any(it is not self for it in logger.handlers):
                return False
            logger = logger.parent if logger.propagate else None
        return True


def _text(record: logging.LogRecord) -> str:
    """Return the message, and the kind of an error: its own text may have anything in it."""
    text = " ".join(record.getMessage()[: 4 * _MAX_CHARS].split())
    error = record.exc_info and record.exc_info[1]
    return f"{text} ({type(error).__name__})" if error else text


server_warnings = WarningHandler()
"""The handler of this process. A process has one log."""
