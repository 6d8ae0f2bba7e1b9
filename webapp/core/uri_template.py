"""URI templates (RFC 6570, levels 1 to 4): whether some values of its variables expand a template
to a text.

Its one idea: templates come from strangers, so none becomes a regular expression that could be
made to backtrack. The places between a topic's letters are the bits of one int, and each part of
a template moves all the places reached so far at once, by a few operations on that int. So the
work is the size of the template times the topic's length in machine words, whatever they hold.

Intended divergences from RFC 6570:

- a variable that is named twice may take two values: `{a}/{a}` matches `1/2`;
- a literal stands for itself: `é{a}` matches `é1` and not `%C3%A91`;
- any percent-encoded octet may be in a value, even one that needed no encoding;
- an encoded character is one letter, whatever its octets: `{a:1}` matches `%C3%A9`, and a
  template that splits it between two parts may not match it;
- one exploded variable may mix list members and pairs: `{/a*}` matches `/1/k=v`.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from string import ascii_letters, digits
from typing import Any, NamedTuple

from uritemplate import URITemplate
from uritemplate.variable import URIVariable

_ENCODED = "%XX"  # in a set of letters: every percent-encoded one
_UNRESERVED = frozenset(ascii_letters + digits + "-._~") | {_ENCODED}
_RESERVED = _UNRESERVED | frozenset(":/?#[]@!$&'()*+,;=")
_LISTED = _UNRESERVED | {","}

# RFC 6570 section 2 with erratum 6937, because the library reads faulty templates too. A letter
# can be read in one way only, so none of these backtracks.
_OCTET, _TAIL = "%[0-9A-Fa-f]{2}", "%[89ABab][0-9A-Fa-f]"
_LETTER = re.compile(f"%[C-Fc-f][0-9A-Fa-f](?:{_TAIL})+|{_OCTET}|.", re.DOTALL)
_BRACES = re.compile(r"\{([^{}]*)\}")
_LITERAL = re.compile(r'(?:[^\x00-\x20"%<>\\^`{|}\x7f-\x9f]|' + _OCTET + ")*")
_NAME = rf"(?:\w|{_OCTET})+(?:\.(?:\w|{_OCTET})+)*"
_VARIABLE = _NAME + r"(?::[1-9][0-9]{0,3}|\*)?"
_EXPRESSION = re.compile(f"[+#./;?&]?{_VARIABLE}(?:,{_VARIABLE})*", re.ASCII)

_Letters = frozenset[str]
_Word = tuple[str, ...]


class _Spelling:
    """The letters of a topic; the places before some of them are found once, when asked for."""

    __slots__ = ("_before", "_present", "letters")

    def __init__(self, topic: str) -> None:
        self.letters: list[str] = _LETTER.findall(topic)
        self._present = frozenset(self.letters)
        self._before: dict[_Letters | str, int] = {}

    def before(self, wanted: _Letters | str) -> int:
        """Return the places before a letter, or before any letter of a set."""
        found = self._before.get(wanted)
        if found is None:
            if isinstance(wanted, str) and wanted not in self._present:
                return 0  # not kept: a template may ask for thousands of such letters
            found = self._before[wanted] = _bits(self.letters, wanted)
        return found

    def after(self, positions: int, word: _Word) -> int:
        for letter in word:
            if not positions:  # do not look for the thousand letters of a literal in vain
                break
            positions = (positions & self.before(letter)) << 1
        return positions


def _bits(letters: list[str], wanted: _Letters | str) -> int:
    if isinstance(wanted, str):
        found = [it == wanted for it in reversed(letters)]
    else:
        encoded = _ENCODED in wanted
        found = [it in wanted or (encoded and len(it) > 1) for it in reversed(letters)]
    return int("0" + "".join(["01"[it] for it in found]), 2)


def _flood(positions: int, letters: int) -> int:
    # The carry of the addition runs from each place to the end of its run of ones: a star at once.
    return positions | (((positions & letters) + letters) ^ letters)


def _near(positions: int, reach: int) -> int:
    # Every distance up to the reach is a sum of some of these steps, each about half the last.
    while reach:
        step = (reach + 1) // 2
        positions |= positions << step
        reach -= step
    return positions


class _Variable(NamedTuple):
    name: _Word  # with its `=`, or empty where only values are written
    bare: bool  # a name or key without value may lack its `=`
    allowed: _Letters
    prefix: int | None
    separator: _Letters | None  # of the members of an exploded value

    def after(self, topic: _Spelling, starts: int) -> int:
        if self.separator:
            return self._members(topic, starts, topic.before(self.separator))
        value = topic.after(starts, self.name)
        ends = _flood(value, topic.before(self.allowed))
        if self.prefix:
            ends &= _near(value, min(self.prefix, len(topic.letters)))
        return ends | topic.after(starts, self.name[:-1]) if self.bare else ends

    def _members(self, topic: _Spelling, starts: int, separators: int) -> int:
        # Once past the first `=` or separator, what a letter may be hangs on the last of these
        # before it, wherever the value began: at most one `=` between two separators.
        equals, values = topic.before("="), topic.before(self.allowed)
        of_key, of_value = _flood(separators << 1, values), _flood(equals << 1, values)
        complete = of_value | of_key if self.bare else of_value
        letters = values | (equals & of_key) | (separators & complete)
        first = _flood(starts, values)
        begun = first & (equals | separators if self.bare else equals)
        ends = _flood(begun << 1, letters) & complete
        return ends | first if self.bare else ends


class Part(NamedTuple):
    """An expression and the literal behind it."""

    first: _Word
    separator: _Word
    variables: tuple[_Variable, ...]
    literal: _Word

    def after(self, topic: _Spelling, positions: int) -> int:
        """Return the places behind it, from those before it."""
        written = 0  # the places behind one variable at least; an undefined one leaves no trace
        for variable in self.variables:
            starts = topic.after(positions, self.first) | topic.after(written, self.separator)
            written |= variable.after(topic, starts)
        return topic.after(positions | written, self.literal)


# One topic meets many templates in a row. A topic may take a third of a megabyte here.
_spelling = lru_cache(maxsize=8)(_Spelling)


def _word(text: str) -> _Word:
    return tuple(_LETTER.findall(text))


def _variable(operator: str, separator: str, name: str, how: Mapping[str, Any]) -> _Variable:
    named, bare = operator in {";", "?", "&"}, operator not in {"?", "&"}
    if operator in {"+", "#"}:  # `,` and `=` are letters like others, so exploding adds nothing
        return _Variable((), bare, _RESERVED, how["prefix"], None)
    if how["explode"]:
        return _Variable((), bare, _UNRESERVED, None, frozenset({separator}))
    allowed = _UNRESERVED if how["prefix"] else _LISTED
    return _Variable(_word(f"{name}=") if named else (), bare, allowed, how["prefix"], None)


def _part(expression: URIVariable, literal: str) -> Part:
    operator = expression.operator
    first, separator = _word(operator.variable_prefix()), _word(operator.expansion_separator())
    variables = (_variable(operator.value, separator[0], *it) for it in expression.variables)
    return Part(first, separator, tuple(variables), _word(literal))


def parts(template: str) -> tuple[Part, ...]:
    """Return what a valid template consists of, behind its head."""
    literals = _BRACES.split(template)[2::2]
    return tuple(map(_part, URITemplate(template).variables, literals))


def head(text: str) -> str | None:
    """Return the literal that a template begins with; None: it is no valid template."""
    if "{" not in text:
        return None
    literals, expressions = _BRACES.split(text)[::2], _BRACES.findall(text)
    valid = all(map(_LITERAL.fullmatch, literals)) and all(map(_EXPRESSION.fullmatch, expressions))
    return literals[0] if expressions and valid else None


def follows(rest: str, template: tuple[Part, ...]) -> bool:
    """Tell whether the rest of a topic, behind the head of a template, is the template's too."""
    topic, positions = _spelling(rest), 1
    for part in template:
        positions = part.after(topic, positions)
    return bool(positions >> len(topic.letters))


def variables(template: str) -> int:
    """Return how many variables a valid template names: what a match costs grows with them."""
    return sum(names.count(",") + 1 for names in _BRACES.findall(template))
