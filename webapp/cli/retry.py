"""What ends a command, and what it waits for."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_WAIT = 30.0  # seconds
_MOST_TRIES = 16  # that count


class PermanentFailure(click.ClickException):
    """The hub refuses, or is none: trying again would not help.

    :param status: of the answer; 0: there was none.
    :param about: its problem document.
    """

    def __init__(
        self, message: str, status: int = 0, about: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.about = about or {}


class TemporaryFailure(Exception):
    """The hub does not answer, or says: later.

    :param wait: seconds after which it wants to be asked again.
    :param certain: nothing of what was sent has been read.
    """

    def __init__(
        self, message: str, *, wait: float = 0, certain: bool = False, published: int = 0
    ) -> None:
        super().__init__(message)
        self.wait = wait
        self.certain = certain
        self.published = published


class Backoff:
    """Waits longer each time, and says so once.

    :param patience: seconds after which it gives up.
    :param base: seconds of the first wait.
    """

    def __init__(self, patience: float = float("inf"), base: float = 0.5) -> None:
        self.base = base
        self._patience = patience
        self._tries = 0
        self._since = 0.0
        self._said = ""

    def wait(self, away: TemporaryFailure) -> None:
        """Wait before the next try.

        :raises Failed: it has gone on for too long.
        """
        now = time.monotonic()
        self._since = self._since if self._tries else now
        if now - self._since >= self._patience:
            raise PermanentFailure(f"{away}.")
        longest = min(_MOST_WAIT, self.base * 2**self._tries)
        pause = max(away.wait, longest * random.uniform(0.5, 1))  # noqa: S311 - no secret
        self._tries = min(self._tries + 1, _MOST_TRIES)
        if str(away) != self._said:
            self._said = str(away)
            click.echo(f"{away}; trying again", err=True)
        time.sleep(min(pause, max(0.0, self._since + self._patience - now)))

    def done(self) -> None:
        """Say that it is over, if there was something."""
        if self._tries:
            click.echo("connected again", err=True)
        self._tries, self._said = 0, ""
