"""The names of fields and parameters: which a request may have, and which look like one of them.

A misspelled name must not send an event to another topic, show a private event to everybody, or
give a subscriber another topic. So a name that looks like a known one is refused everywhere.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ...errors import BadRequest
from ...scheduling import RequestSlice, cooperative

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .forms import Fields

TOPIC_LIST = r"topic\[[0-9]*\]"
"""How forms of PHP, jQuery and others write the name of a list of topics."""
_MEANT = {"event": "type", "name": "type", "channel": "topic"} | dict.fromkeys(
    ("body", "content", "message", "payload", "text", "value"), "data"
)
_MAX_NAME_CHARS = 40  # of an unknown name: looked at, and shown in an error
_MIN_EDITED_CHARS = 5  # of a known name: shorter ones are too often one edit from another word
_INVISIBLE = "\ufeff \t\r\n\v\f"


class FieldNames:
    """The names that a form, a JSON object or a query may have.

    :param what: how a refusal of another name begins.
    :param names: all of them.
    :param advice: how a refusal ends.
    :param aliases: for some names, a pattern of other names for the same field.
    """

    def __init__(
        self,
        what: str,
        names: tuple[str, ...],
        advice: str,
        aliases: Mapping[str, str],
    ) -> None:
        self._what, self._advice = what, advice
        self._names = names
        self._known = frozenset(names)
        self._aliases = [(name, re.compile(it)) for name, it in aliases.items()]

    def settle(self, fields: Fields, *, strict: bool = False) -> Fields:
        """Return the fields of a form or a query, those with an alias under their names.

        :param strict: whether each unknown name is refused, and not only what looks like a name.
        :raises BadRequest: a name is refused.
        """
        if fields.keys() <= self._known:
            return fields
        found: Fields = {}
        for name, values in fields.items():
            found.setdefault(self._resolve(name), []).extend(values)
        self.check(found, strict=strict)
        return found

    def check(self, names: Iterable[str], *, strict: bool) -> None:
        """Refuse unknown names: all of them if `strict`, else those that look like a known one.

        :raises BadRequest: a name is refused.
        """
        unknown = [name for name in names if name not in self._known]
        for name in cooperative(unknown, RequestSlice()):  # an object can have 100,000 members
            near = self._look_alike(name[:_MAX_NAME_CHARS])
            if near or strict:
                raise self._refusal(name[:_MAX_NAME_CHARS], near)

    def _resolve(self, name: str) -> str:
        return next((known for known, it in self._aliases if it.fullmatch(name)), name)

    def _look_alike(self, name: str) -> str | None:
        """Return the known name that a name looks like: with brackets, of another case, in the
        plural, or one edit away.
        """
        # An & that was escaped for HTML makes the next name begin with amp;.
        parts = re.split(r"[\[\]]+", name.strip(_INVISIBLE).lower().removeprefix("amp;"))
        for part in parts:
            for known in self._names:
                if _is_near(part, known):
                    return known
                # lastEventIds is as near to last_event_id as last_event_ids is.
                if "_" in known and _is_near(_join_words(part), _join_words(known)):
                    return known
        return "topic" if parts[0].startswith("match") else None

    def _refusal(self, name: str, near: str | None) -> BadRequest:
        near = near or self._meant(name.lower())
        guess = f'Did you mean "{near}"? ' if near else ""
        shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
        return BadRequest(
            f'{self._what} "{shown}".', f"{guess}Use {', '.join(self._names)}{self._advice}"
        )

    def _meant(self, name: str) -> str | None:
        return _MEANT.get(name) or next(iter(get_close_matches(name, self._names, 1)), None)


def _join_words(words: str) -> str:
    return words.replace("_", "").replace("-", "")


def _is_near(name: str, known: str) -> bool:
    if name in {known, f"{known}s"}:
        return True
    return len(known) >= _MIN_EDITED_CHARS and _is_one_edit(name, known)


def _is_one_edit(name: str, known: str) -> bool:
    """Return whether one letter too many, missing, wrong or swapped makes the difference."""
    if abs(len(name) - len(known)) > 1:
        return False
    start = next((n for n, (a, b) in enumerate(zip(name, known, strict=False)) if a != b), None)
    if start is None:
        return True  # they differ in the last letter at most
    rest, other = name[start:], known[start:]
    swapped = rest[1::-1] + rest[2:]
    return rest[1:] in {other, other[1:]} or rest == other[1:] or swapped == other
