"""A sorted set whose operations stay fast, however large it is."""

from __future__ import annotations

from bisect import bisect_left
from operator import itemgetter
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=Any)

_MAX_CHUNK_ITEMS = 1000
_last = itemgetter(-1)


class SortedSet(Generic[T]):
    """Items in order, in chunks. Adding an item moves the items of one chunk only."""

    def __init__(self) -> None:
        self._chunks: list[list[T]] = []  # none is empty
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def first(self) -> T | None:
        """The first item; None: there is none."""
        return self._chunks[0][0] if self._chunks else None

    @property
    def last(self) -> T | None:
        """The last item; None: there is none."""
        return self._chunks[-1][-1] if self._chunks else None

    def add(self, item: T) -> None:
        """Add an item, unless it is there."""
        chunks = self._chunks
        # What comes after all others goes into the last chunk.
        number = min(bisect_left(chunks, item, key=_last), len(chunks) - 1)
        if number < 0:
            chunks.append([])
            number = 0
        chunk = chunks[number]
        index = bisect_left(chunk, item)
        if index < len(chunk) and chunk[index] == item:
            return
        chunk.insert(index, item)
        self._size += 1
        if len(chunk) > _MAX_CHUNK_ITEMS:
            middle = len(chunk) // 2
            chunks[number : number + 1] = [chunk[:middle], chunk[middle:]]

    def discard(self, item: T) -> None:
        """Remove an item, if it is there."""
        number, index = self._place_of(item)
        if number < len(self._chunks) and self._chunks[number][index] == item:
            del self._chunks[number][index]
            self._size -= 1
            if not self._chunks[number]:
                del self._chunks[number]

    def keep_first(self, count: int) -> None:
        """Remove all but the first items."""
        while self._chunks and self._size - len(self._chunks[-1]) >= count:
            self._size -= len(self._chunks.pop())
        if self._size > count:
            del self._chunks[-1][count - self._size :]
            self._size = count

    def first_from(self, start: T, count: int) -> list[T]:
        """Return the next items that are not before one, at most `count`."""
        number, index = self._place_of(start)
        found: list[T] = []
        while len(found) < count and number < len(self._chunks):
            found += self._chunks[number][index : index + count - len(found)]
            number, index = number + 1, 0
        return found

    def _place_of(self, item: T) -> tuple[int, int]:
        """Return the number of a chunk, and the index in it, of the first item not before one."""
        number = bisect_left(self._chunks, item, key=_last)
        return number, bisect_left(self._chunks[number], item) if number < len(self._chunks) else 0
