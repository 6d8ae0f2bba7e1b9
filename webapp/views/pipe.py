"""An NDJSON body that is published as its lines arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webapp.errors import TidingsError, Unavailable
from webapp.pace import give_way, paced
from webapp.views import bodies

if TYPE_CHECKING:
    from collections.abc import Callable

    from webapp.events import Draft, Event


class Pipe:
    """An NDJSON body: what came before a bad line stays published and is counted.

    :param step: how many lines are published together.
    """

    def __init__(
        self, append: Callable[[list[Draft]], list[Event]], default: str | None, step: int
    ) -> None:
        self.line = 0  # how many were looked at
        self.published = 0
        self.last_id: str | None = None
        self._append = append
        self._default = default
        self._step = step

    def take(self, lines: list[bytes]) -> None:
        """Publish some lines together.

        :raises TidingsError: a line cannot be published; the problem document says which.
        """
        for start in range(0, len(lines), self._step):
            drafts, failure = self._drafts(lines[start : start + self._step])
            if drafts:
                self._publish(drafts)
            if failure:
                raise failure
            give_way()  # thousands of lines may have come at once

    def _drafts(self, lines: list[bytes]) -> tuple[list[tuple[int, Draft]], TidingsError | None]:
        drafts = []
        for line in paced(lines):
            self.line += 1
            try:
                if line.strip():
                    drafts.append((self.line, bodies.parse_line(line, self._default)))
            except TidingsError as error:
                error.extra["line"] = self.line
                return drafts, error
        return drafts, None

    def _publish(self, drafts: list[tuple[int, Draft]]) -> None:
        try:
            self._note(self._append([draft for _, draft in drafts]))
        except TidingsError as error:
            # What is unavailable may have been published, and must not be published twice.
            if len(drafts) == 1 or isinstance(error, Unavailable):
                error.extra["line"] = drafts[0][0]
                raise
            middle = len(drafts) // 2
            for half in paced((drafts[:middle], drafts[middle:])):  # to the one that is to blame
                self._publish(half)

    def _note(self, events: list[Event]) -> None:
        self.published += len(events)
        self.last_id = events[-1].id
