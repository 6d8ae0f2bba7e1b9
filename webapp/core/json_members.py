"""JSON objects whose members cannot silently replace each other."""

from __future__ import annotations

from collections import Counter
from typing import Any


class Repeated(dict[str, Any]):
    """A JSON object that has a member more than once. It holds the last one."""

    names: frozenset[str]  # of such members


def to_object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of a JSON object as a dict: the `object_pairs_hook` of a decoder."""
    item = dict(members)
    if len(item) == len(members):
        return item
    item = Repeated(members)
    counts = Counter(name for name, _ in members)
    item.names = frozenset(name for name, count in counts.items() if count > 1)
    return item
