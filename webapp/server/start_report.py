"""Log lines at the start: where the hub is, who may use it, and warnings."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ..config.startup import startup_message

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from gunicorn.glogging import Logger

    from ..config.settings import Settings
    from ..core.events import EventId

_MAX_CLOCK_ERROR_S = 3600
_END_S = 2  # in which the master ends the workers that wait
# gunicorn's master imports this before it forks. The worker that reads the byte logs the refusal.
_refusal_turn, _byte_in = os.pipe()
os.set_blocking(_refusal_turn, False)
os.write(_byte_in, b"1")


def await_refusal_turn() -> None:
    """Return in one of the workers that start together. The others would log the same refusal: they
    wait until gunicorn's master ends them. It fails if it sees the exit status of two.
    """
    with suppress(BlockingIOError):
        if os.read(_refusal_turn, 1):
            return
    time.sleep(_END_S)
    sys.exit(1)


def log_greeting(log: Logger, settings: Settings, addresses: Iterable[Any], *, tls: bool) -> None:
    """Log where the hub is, and who may use it."""
    log.info(startup_message(settings, addresses, tls=tls))
    if settings.port is not None and settings.broker_url.startswith("sqlite:"):
        log.warning(
            "The event log is a file of this machine: a redeploy may erase it, and another machine"
            " has another one. To keep it, set TIDINGS_BROKER_URL to a Redis or a PostgreSQL."
        )


def check_clock(log: Logger, head: EventId) -> None:
    """Warn if events are newer than the clock: ages, `since` and trimming need the clock."""
    ahead_s = head.ms / 1000 - time.time()
    if ahead_s > _MAX_CLOCK_ERROR_S:
        message = "The newest event is %.0f hours newer than this machine's clock. Correct it."
        log.warning(message, ahead_s / 3600)
