"""Removes events from the event log, in short calls of the script: see removals.lua."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent

from ...errors import ServiceUnavailable
from ..base import Removed
from ..steps import Steps
from .page import parse_position

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core.removals import Removal

_TOO_MANY = b"!"
_WAIT = -2  # the answer to a step that did nothing; -1: there is more to do
_WAIT_S = 0.1


class Remover:
    """Removes events.

    :param call: calls a verb of the script; it is sent once.
    :param when_whole: calls a function until it does not return None, and has the index built.
    """

    def __init__(
        self,
        call: Callable[..., Any],
        when_whole: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self._call = call
        self._when_whole = when_whole
        self._steps = Steps()

    def remove(self, removal: Removal) -> Removed:
        """Remove events; see `Broker.remove`.

        :raises ServiceUnavailable: too many removals go on.
        """
        names = removal.topic, str(removal.first), str(removal.last)
        position = self._when_whole(lambda: self._step("begin_removal", *names))
        if position == _TOO_MANY:
            detail = "Many removals are being done."
            raise ServiceUnavailable(detail, "Try again in a moment.")
        if not position:
            return Removed(0, None)
        return Removed(self._finish(position.decode()), parse_position(position))

    def _finish(self, position: str) -> int:
        while True:
            answer: int = self._step("removal_step", position)
            if answer >= 0:
                return answer
            if answer == _WAIT:
                gevent.sleep(_WAIT_S)

    def _step(self, verb: str, *values: str) -> Any:
        with self._steps.turn():
            return self._call(verb, *values)
