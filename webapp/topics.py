"""Topics and selectors: which event is for whom, decided without I/O.

A selector is `*`, an exact topic, or a URI template (RFC 6570, levels 1 to 4), which matches each
topic that some values of its variables expand it to; a faulty template is an exact topic.
Sources: https://mercure.rocks/spec#topic-selectors and https://www.rfc-editor.org/rfc/rfc6570.

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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from posixpath import normpath
from string import ascii_letters, digits
from typing import Any, NamedTuple
from urllib.parse import unquote

from uritemplate import URITemplate
from uritemplate.variable import URIVariable

DEFAULT = "events"
EVERYTHING = "*"
HUB = "/.well-known/mercure"
SUBSCRIPTIONS = f"{HUB}/subscriptions"
"""The topics of subscription events begin with it."""
MAX_ENCODINGS = 4
"""How many times over a topic may be percent-encoded where one publishes to it."""
_OWN_PATHS = frozenset({"/metrics", "/topics"})
_OWN_FOLDERS = ("/console/", f"{HUB}/")

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

_HOST = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")

_Letters = frozenset[str]
_Word = tuple[_Letters, ...]


class _Spelling:
    """The letters of a topic; the places before some of them are found once, when asked for."""

    __slots__ = ("_before", "letters")

    def __init__(self, topic: str) -> None:
        self.letters: list[str] = _LETTER.findall(topic)
        self._before: dict[_Letters, int] = {}

    def before(self, wanted: _Letters) -> int:
        if wanted not in self._before:
            encoded = _ENCODED in wanted
            found = [it in wanted or (encoded and len(it) > 1) for it in reversed(self.letters)]
            self._before[wanted] = int("0" + "".join(["01"[it] for it in found]), 2)
        return self._before[wanted]

    def after(self, places: int, word: _Word) -> int:
        for letter in word:
            if not places:  # do not look for the thousand letters of a literal in vain
                break
            places = (places & self.before(letter)) << 1
        return places


def _flood(places: int, letters: int) -> int:
    # The carry of the addition runs from each place to the end of its run of ones: a star at once.
    return places | (((places & letters) + letters) ^ letters)


def _near(places: int, reach: int) -> int:
    # Every distance up to the reach is a sum of some of these steps, each about half the last.
    while reach:
        step = (reach + 1) // 2
        places |= places << step
        reach -= step
    return places


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
        equals, values = topic.before(_letter("=")), topic.before(self.allowed)
        of_key, of_value = _flood(separators << 1, values), _flood(equals << 1, values)
        complete = of_value | of_key if self.bare else of_value
        letters = values | (equals & of_key) | (separators & complete)
        first = _flood(starts, values)
        begun = first & (equals | separators if self.bare else equals)
        ends = _flood(begun << 1, letters) & complete
        return ends | first if self.bare else ends


class _Part(NamedTuple):
    """An expression and the literal behind it."""

    first: _Word
    separator: _Word
    variables: tuple[_Variable, ...]
    literal: _Word

    def after(self, topic: _Spelling, places: int) -> int:
        written = 0  # the places behind one variable at least; an undefined one leaves no trace
        for variable in self.variables:
            starts = topic.after(places, self.first) | topic.after(written, self.separator)
            written |= variable.after(topic, starts)
        return topic.after(places | written, self.literal)


_spelling = lru_cache(maxsize=64)(_Spelling)  # one topic meets many templates in a row


@lru_cache(maxsize=512)
def _letter(text: str) -> _Letters:
    return frozenset({text})


def _word(text: str) -> _Word:
    return tuple(_letter(it) for it in _LETTER.findall(text))


def _variable(operator: str, separator: _Letters, name: str, how: Mapping[str, Any]) -> _Variable:
    named, bare = operator in {";", "?", "&"}, operator not in {"?", "&"}
    if operator in {"+", "#"}:  # `,` and `=` are letters like others, so exploding adds nothing
        return _Variable((), bare, _RESERVED, how["prefix"], None)
    if how["explode"]:
        return _Variable((), bare, _UNRESERVED, None, separator)
    allowed = _UNRESERVED if how["prefix"] else _LISTED
    return _Variable(_word(f"{name}=") if named else (), bare, allowed, how["prefix"], None)


def _part(expression: URIVariable, literal: str) -> _Part:
    operator = expression.operator
    first, separator = _word(operator.variable_prefix()), _word(operator.expansion_separator())
    variables = (_variable(operator.value, separator[0], *it) for it in expression.variables)
    return _Part(first, separator, tuple(variables), _word(literal))


@lru_cache(maxsize=256)
def _parts(template: str) -> tuple[_Part, ...]:
    literals = _BRACES.split(template)[2::2]
    return tuple(map(_part, URITemplate(template).variables, literals))


def _head(text: str) -> str | None:
    literals, expressions = _BRACES.split(text)[::2], _BRACES.findall(text)
    valid = all(map(_LITERAL.fullmatch, literals)) and all(map(_EXPRESSION.fullmatch, expressions))
    return literals[0] if expressions and valid else None


def _follows(rest: str, template: str) -> bool:
    """Tell whether the rest of a topic, behind the head of the template, is the template's too."""
    topic, places = _spelling(rest), 1
    for part in _parts(template):
        places = part.after(topic, places)
    return bool(places >> len(topic.letters))


@dataclass(frozen=True, slots=True)
class Selector:
    """What a subscriber asks for or a token grants; equal to another when its text is.

    `exact` is the one topic it matches, or None for `*` and for a template, which match others.
    Every text is a selector, so nothing is raised. `selector()` makes them from a cache.
    """

    text: str
    exact: str | None = field(init=False, repr=False, compare=False)
    _head: str | None = field(init=False, repr=False, compare=False)  # None: not a template

    def __post_init__(self) -> None:
        """Read no more than the head: most topics differ there, so most need no parts."""
        object.__setattr__(self, "_head", _head(self.text))
        many = self._head is not None or self.text == EVERYTHING
        object.__setattr__(self, "exact", None if many else self.text)

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def matches(self, topic: str) -> bool:
        """Tell whether it selects the topic (Mercure, "Topic Selectors"); never raises."""
        if self._head is None:
            return self.text in {topic, EVERYTHING}
        if topic == self.text:
            return True
        return topic.startswith(self._head) and _follows(topic.removeprefix(self._head), self.text)

    def may_begin(self, prefix: str) -> bool:
        """Tell whether it may select a topic that begins with a prefix."""
        if self._head is None:
            return self.text == EVERYTHING or self.text.startswith(prefix)
        return self._head.startswith(prefix) or prefix.startswith(self._head)


@lru_cache(maxsize=4096)
def selector(text: str) -> Selector:
    """Return the selector of this text, the same object while it is among the latest 4,096."""
    return Selector(text)


@lru_cache(maxsize=4096)
def covers(selectors: frozenset[str], topics: tuple[str, ...]) -> bool:
    """Tell whether any selector matches any of the topics; the latest 4,096 answers are kept."""
    return any(selector(text).matches(topic) for text in selectors for topic in topics)


def granted(grant: frozenset[str], topic: str) -> bool:
    """Tell whether a token's selectors grant a topic.

    A pattern that was meant for rooms or users must grant nothing of the hub itself. So for the
    hub's own paths a selector counts only if it is `*`, or begins with the path literally.
    """
    if topic in _OWN_PATHS:
        return topic in grant or EVERYTHING in grant
    if not topic.startswith(_OWN_FOLDERS):
        return covers(grant, (topic,))
    return any(selector(text).matches(topic) for text in _own(grant, topic))


def may_grant(grant: frozenset[str], prefix: str) -> bool:
    """Tell whether a token may grant a topic that begins with a path of the hub's own."""
    return any(selector(text).may_begin(prefix) for text in _own(grant, prefix))


def _own(grant: frozenset[str], path: str) -> Iterator[str]:
    folder = next(it for it in _OWN_FOLDERS if path.startswith(it))
    # A folder has no brace: who begins with it has it in the head, before any variable.
    return (text for text in grant if text == EVERYTHING or text.startswith(folder))


def is_reserved(topic: str) -> bool:
    """Tell whether a topic is one of the hub's own, however it is written: a publisher could pass
    off a made-up subscriber with it. One that is percent-encoded too often may be one of them.
    """
    if "mercure" not in topic and "%" not in topic:
        return False  # nearly all are
    path = decoded(topic)
    if path is None:
        return True
    path = re.sub(_HOST, "", path.replace("\\", "/"), count=1).lstrip("/")
    return f"{normpath(f'/{path}')}/".startswith(f"{HUB}/")


def decoded(topic: str) -> str | None:
    """Return a topic without percent-encoding, or None where it is encoded more than
    `MAX_ENCODINGS` times over.
    """
    path = topic
    for _ in range(MAX_ENCODINGS + 1):
        if (plain := unquote(path)) == path:
            return path
        path = plain
    return None
