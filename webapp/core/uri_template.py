"""Match topics against URI templates (RFC 6570, levels 1 to 4).

A topic matches if the template expands to it with some values of its variables.

Templates come from strangers, so none becomes a regular expression, which could be made to
backtrack. The algorithm is a bit-parallel simulation of an NFA (bitap; Baeza-Yates and Gonnet,
1992). Bit n of an int stands for the offset before the topic's character n. A set of bits is the
set of offsets that a match can have reached, and each part of the template moves the whole set at
once, with a few operations on that int. So the cost is the size of the template times the length
of the topic in machine words, whatever their content.

Intended differences from RFC 6570:

- a variable that occurs twice may have two values: `{a}/{a}` matches `1/2`;
- a literal matches only itself: `é{a}` matches `é1` and not `%C3%A91`;
- a value may contain any percent-encoded octet, even one that need not be encoded;
- an encoded character counts as one, whatever its octets: `{a:1}` matches `%C3%A9`, and a template
  that splits it between two parts may not match it;
- one exploded variable may mix list members and pairs: `{/a*}` matches `/1/k=v`.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from string import ascii_letters, digits
from typing import Any, NamedTuple, Self

from uritemplate import URITemplate
from uritemplate.variable import URIVariable

_ENCODED = "%XX"  # in a set of characters: every percent-encoded one
_UNRESERVED = frozenset(ascii_letters + digits + "-._~") | {_ENCODED}
_RESERVED = _UNRESERVED | frozenset(":/?#[]@!$&'()*+,;=")
_LISTED = _UNRESERVED | {","}

# RFC 6570 section 2 with erratum 6937, because the library also accepts templates that are not
# valid. Each character can match in one way only, so none of these backtracks.
_OCTET, _TAIL = "%[0-9A-Fa-f]{2}", "%[89ABab][0-9A-Fa-f]"
_CHAR = re.compile(f"%[C-Fc-f][0-9A-Fa-f](?:{_TAIL})+|{_OCTET}|.", re.DOTALL)
_BRACES = re.compile(r"\{([^{}]*)\}")
_LITERAL = re.compile(r'(?:[^\x00-\x20"%<>\\^`{|}\x7f-\x9f]|' + _OCTET + ")*")
_NAME = rf"(?:\w|{_OCTET})+(?:\.(?:\w|{_OCTET})+)*"
_VARIABLE = _NAME + r"(?::[1-9][0-9]{0,3}|\*)?"
_EXPRESSION = re.compile(f"[+#./;?&]?{_VARIABLE}(?:,{_VARIABLE})*", re.ASCII)

_Chars = frozenset[str]
_Word = tuple[str, ...]


class _TopicBits:
    """The characters of a topic, and where they occur: one int for each character asked for."""

    __slots__ = ("_before", "_present", "chars")

    def __init__(self, topic: str) -> None:
        self.chars: list[str] = _CHAR.findall(topic)
        self._present = frozenset(self.chars)
        self._before: dict[_Chars | str, int] = {}

    def before(self, wanted: _Chars | str) -> int:
        """Return the offsets before a character, or before any character of a set."""
        found = self._before.get(wanted)
        if found is None:
            if isinstance(wanted, str) and wanted not in self._present:
                return 0  # not cached: a template may have thousands of such characters
            found = self._before[wanted] = _bits(self.chars, wanted)
        return found

    def after(self, offsets: int, word: _Word) -> int:
        """Return the offsets behind a word, from those before it."""
        for char in word:
            if not offsets:  # there is no match: skip the rest of what may be a long literal
                break
            offsets = (offsets & self.before(char)) << 1
        return offsets


def _bits(chars: list[str], wanted: _Chars | str) -> int:
    if isinstance(wanted, str):
        found = [it == wanted for it in reversed(chars)]
    else:
        encoded = _ENCODED in wanted
        found = [it in wanted or (encoded and len(it) > 1) for it in reversed(chars)]
    return int("0" + "".join(["01"[it] for it in found]), 2)


def _extend_runs(offsets: int, chars: int) -> int:
    # Any number of `chars`: the carry of the addition runs from each offset to the end of its run.
    return offsets | (((offsets & chars) + chars) ^ chars)


def _shift_up_to(offsets: int, distance: int) -> int:
    # Every distance up to the limit is a sum of some of these steps, each about half the last.
    while distance:
        step = (distance + 1) // 2
        offsets |= offsets << step
        distance -= step
    return offsets


class _Variable(NamedTuple):
    name: _Word  # with its `=`; empty where only values are written
    bare: bool  # a name or key without a value may lack its `=`
    allowed: _Chars  # in a value
    prefix: int | None  # the most characters of a value
    separator: _Chars | None  # between the members of an exploded value

    def after(self, topic: _TopicBits, starts: int) -> int:
        """Return the offsets behind the variable, from those before it."""
        if self.separator:
            return self._members(topic, starts, topic.before(self.separator))
        value = topic.after(starts, self.name)
        ends = _extend_runs(value, topic.before(self.allowed))
        if self.prefix:
            ends &= _shift_up_to(value, min(self.prefix, len(topic.chars)))
        return ends | topic.after(starts, self.name[:-1]) if self.bare else ends

    def _members(self, topic: _TopicBits, starts: int, separators: int) -> int:
        # Behind the first `=` or separator, the last of these before a character decides what it
        # may be, wherever the value began: there is at most one `=` between two separators.
        equals, values = topic.before("="), topic.before(self.allowed)
        of_key, of_value = _extend_runs(separators << 1, values), _extend_runs(equals << 1, values)
        complete = of_value | of_key if self.bare else of_value
        allowed = values | (equals & of_key) | (separators & complete)
        first = _extend_runs(starts, values)
        begun = first & (equals | separators if self.bare else equals)
        ends = _extend_runs(begun << 1, allowed) & complete
        return ends | first if self.bare else ends


class Part(NamedTuple):
    """An expression of a template, and the literal behind it."""

    first: _Word
    separator: _Word
    variables: tuple[_Variable, ...]
    literal: _Word

    def after(self, topic: _TopicBits, offsets: int) -> int:
        """Return the offsets behind it, from those before it."""
        ends = 0  # behind at least one variable; an undefined variable expands to nothing
        for variable in self.variables:
            starts = topic.after(offsets, self.first) | topic.after(ends, self.separator)
            ends |= variable.after(topic, starts)
        return topic.after(offsets | ends, self.literal)


# One topic is matched against many templates in a row. An entry may take a third of a megabyte.
_topic_bits = lru_cache(maxsize=8)(_TopicBits)


def _word(text: str) -> _Word:
    return tuple(_CHAR.findall(text))


def _variable(operator: str, separator: str, name: str, how: Mapping[str, Any]) -> _Variable:
    named, bare = operator in {";", "?", "&"}, operator not in {"?", "&"}
    if operator in {"+", "#"}:  # a value may contain `,` and `=`, so exploding changes nothing
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


class Template:
    """A valid URI template."""

    __slots__ = ("_parts", "head", "text")

    def __init__(self, text: str, head: str) -> None:
        self.text = text
        self.head = head
        """The literal with which all topics begin that it matches."""
        self._parts: tuple[Part, ...] | None = None  # read when needed: most heads do not match

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the template that a text is; None: it is not a valid one."""
        literals, expressions = _BRACES.split(text)[::2], _BRACES.findall(text)
        valid = expressions and all(map(_EXPRESSION.fullmatch, expressions))
        return cls(text, literals[0]) if valid and all(map(_LITERAL.fullmatch, literals)) else None

    @property
    def literals(self) -> list[str]:
        """What stands before, between and behind its expressions; each may be empty."""
        return _BRACES.split(self.text)[::2]

    @property
    def variables(self) -> int:
        """How many variables it names, on which the cost of a match depends."""
        return sum(names.count(",") + 1 for names in _BRACES.findall(self.text))

    def matches(self, topic: str) -> bool:
        """Return whether it matches a topic."""
        if not topic.startswith(self.head) or not topic.endswith(self.text.rpartition("}")[2]):
            return False
        if self._parts is None:
            literals = _BRACES.split(self.text)[2::2]
            self._parts = tuple(map(_part, URITemplate(self.text).variables, literals))
        return matches_rest(topic.removeprefix(self.head), self._parts)


def matches_rest(rest: str, parts: tuple[Part, ...]) -> bool:
    """Return whether the parts of a template match the rest of a topic, behind the head."""
    topic, offsets = _topic_bits(rest), 1
    for part in parts:
        offsets = part.after(topic, offsets)
    return bool(offsets >> len(topic.chars))
