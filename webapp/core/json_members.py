"""JSON objects whose members cannot silently replace each other."""

from __future__ import annotations

from collections import Counter
from typing import Any


class RepeatedMembers(dict[str, Any]):
    """A JSON object that has a member more than once. It holds the last one."""

    names: frozenset[str]  # of such members


def have_clear_names(item: object, text: str) -> bool:
    """Return whether a JSON text certainly has no member of `item` twice. This is a quick look: if
    it returns False, `to_object` must decode the text to find out.

    :param item: what the text was decoded to.
    """
    if not isinstance(item, dict) or text.count(":") == len(item):
        return True
    if "\\" in text:
        return False
    for name in item:  # noqa: SIM110 - a generator costs more than two names
        if text.count(f'"{name}"') != 1:
            return False
    return True


def to_object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of a JSON object as a dict: the `object_pairs_hook` of a decoder."""
    item = dict(members)
    if len(item) == len(members):
        return item
    item = RepeatedMembers(members)
    counts = Counter(name for name, _ in members)
    item.names = frozenset(name for name, count in counts.items() if count > 1)
    return item
