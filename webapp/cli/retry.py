"""What a failed request means, and the waits between tries."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ..backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_WAIT_S = 30.0


class PermanentFailure(click.ClickException):
    """The hub refuses, or there is no hub: another try would fail too.

    :param status: of the response; 0: there was none.
    :param problem: the problem document of the response (RFC 9457).
    """

    def __init__(
        self, message: str, status: int = 0, problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem or {}


class TopicsEnded(PermanentFailure):
    """All topics of a stream have ended: nothing more comes."""

    def __init__(self) -> None:
        super().__init__("All topics have ended.")


@dataclass(eq=False)
class TemporaryFailure(Exception):
    """The hub does not answer, or asks for another try later.

    :param wait_s: seconds that the hub wants to be left alone.
    :param unprocessed: whether the hub has certainly not processed the request.
    :param published: how many lines of the request it has published nevertheless.
    """

    message: str
    wait_s: float = 0
    unprocessed: bool = False
    published: int = 0


class Retry(Backoff):
    """Waits before each new try, and reports on stderr why it waits.

    :param patience_s: seconds after the first failure until it gives up.
    :param first_s: seconds of the first wait.
    """

    def __init__(self, patience_s: float = float("inf"), first_s: float = 0.5) -> None:
        super().__init__(first_s, _LONGEST_WAIT_S)
        self._patience_s = patience_s
        self._deadline = 0.0
        self._reported = ""

    def wait(self, failure: TemporaryFailure) -> None:
        """Wait before the next try.

        :raises PermanentFailure: the failures have lasted for too long.
        """
        now = time.monotonic()
        if not self.failures:
            self._deadline = now + self._patience_s
        if now >= self._deadline:
            message = f"{failure}."
            raise PermanentFailure(message)
        pause = max(failure.wait_s, self.next())
        if failure.message != self._reported:
            self._reported = failure.message
            click.echo(f"{failure}; trying again", err=True)
        time.sleep(min(pause, self._deadline - now))

    def reset(self) -> bool:
        """Count a success, and report it if there were failures before it."""
        if recovered := super().reset():
            click.echo("connected again", err=True)
        self._reported = ""
        return recovered
