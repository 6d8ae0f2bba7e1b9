"""Shares a bounded amount between clients, such as bytes of memory, each for a while."""

from __future__ import annotations

from collections import Counter


class Reservations:
    """Counts what clients have reserved. The more that is, the less a new reservation gets.

    :param total: for all clients together. One client has at most half of it, so that there is
        enough for others.
    :param least: what each reservation gets, whatever the others have.
    :param most: what each reservation gets at most.
    """

    def __init__(self, total: int, least: int, most: int) -> None:
        self._total, self._least, self._most = total, least, most
        self._reserved_by = Counter[str]()

    def reserve(self, client: str) -> int:
        """Return how many a client may have; `release` must follow.

        :param client: the name under which limits count it.
        """
        most_of_client = self._total // 2
        taken = sum(min(count, most_of_client) for count in self._reserved_by.values())
        free = min(self._total - taken, most_of_client - self._reserved_by[client])
        count = max(self._least, min(self._most, free // 2))
        self._reserved_by[client] += count
        return count

    def release(self, client: str, count: int) -> None:
        """Let others have as many."""
        self._reserved_by[client] -= count
        if not self._reserved_by[client]:
            del self._reserved_by[client]
