"""A worker's connections that wait for their clients, in the order in which they are closed."""

from __future__ import annotations

from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")


class Waiters(Generic[T]):
    """Connections that wait for their clients to send something or to read a response. In each
    group, the first one has waited for the longest time. Streams are not among them.
    """

    def __init__(self) -> None:
        self.new: dict[T, None] = {}
        """Connections that have not been served a request yet."""
        self.served: dict[T, None] = {}
        """The others. Many clients do not repeat a POST when an idle connection is closed."""
        self.pipes: dict[T, None] = {}
        """Pipes that wait for their next line."""

    def take(self, count: int) -> list[T]:
        """Remove up to `count` connections, and return them: new ones first, and no pipes."""
        taken = _take(self.new, count)
        return taken + _take(self.served, count - len(taken))

    def take_pipes(self, count: int) -> list[T]:
        """Remove up to `count` pipes, and return them."""
        return _take(self.pipes, count)


def _take(group: dict[T, None], count: int) -> list[T]:
    taken = list(islice(group, count))
    for connection in taken:
        del group[connection]
    return taken
