"""An NDJSON body that is published as its lines arrive."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import ServiceUnavailable, TidingsError, TooManyRequests
from ..scheduling import cooperative, yield_to_loop
from . import bodies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..core.events import Draft, Event


class PipeQuota:
    """How many pipes are open, in all and for each publisher.

    :param most: pipes in all; 0: any number.
    :param most_each: pipes of one publisher; 0: any number.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._open: Counter[str] = Counter()

    @contextmanager
    def slot(self, publisher: str) -> Iterator[None]:
        """Count a pipe while it lasts.

        :raises TooMany: the publisher has as many as it may.
        :raises Unavailable: there are as many as may be.
        """
        if self._most_each and self._open[publisher] >= self._most_each:
            detail = f"This publisher has TIDINGS_MAX_PIPES_PER_PUBLISHER, {self._most_each}, open."
            remedy = "End one, send more events through each, or raise the setting."
            raise TooManyRequests(detail, remedy, wait=1, reason="publisher_pipes")
        if self._most and self._open.total() >= self._most:
            detail = f"There are TIDINGS_MAX_PIPES, {self._most}, open."
            raise ServiceUnavailable(
                detail, "Come back later, or raise the setting.", reason="pipes"
            )
        self._open[publisher] += 1
        try:
            yield
        finally:
            self._open[publisher] -= 1
            if not self._open[publisher]:
                del self._open[publisher]


class NdjsonPublisher:
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
            yield_to_loop()  # thousands of lines may have come at once

    def _drafts(self, lines: list[bytes]) -> tuple[list[tuple[int, Draft]], TidingsError | None]:
        drafts = []
        for line in cooperative(lines):
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
            if len(drafts) == 1 or isinstance(error, ServiceUnavailable):
                error.extra["line"] = drafts[0][0]
                raise
            middle = len(drafts) // 2
            for half in cooperative(
                (drafts[:middle], drafts[middle:])
            ):  # to the one that is to blame
                self._publish(half)

    def _note(self, events: list[Event]) -> None:
        self.published += len(events)
        self.last_id = events[-1].id
