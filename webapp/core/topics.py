"""Topics and selectors: which event is for whom, decided without I/O.

A selector is `*`, an exact topic, or a URI template, which matches each topic that some values of
its variables expand it to; a faulty template is an exact topic.
Source: https://mercure.rocks/spec#topic-selectors.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from posixpath import normpath
from urllib.parse import unquote

from . import uri_template

DEFAULT_TOPIC = "events"
EVERYTHING = "*"
MERCURE_PATH = "/.well-known/mercure"
SUBSCRIPTIONS_PATH = f"{MERCURE_PATH}/subscriptions"
"""The topics of subscription events begin with it."""
MAX_ENCODINGS = 4
"""How many times over a topic may be percent-encoded where one publishes to it."""
_OWN_PATHS = frozenset({"/metrics", "/topics"})
_OWN_FOLDERS = ("/console/", f"{MERCURE_PATH}/")

_HOST = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")

_MAX_ANSWERS = 4096  # kept of `Selectors.matches`: 3 MB at the most
_MAX_KEPT_TOPIC = 128  # characters of a topic whose answer is kept


@dataclass(frozen=True, slots=True)
class Selector:
    """What a subscriber asks for or a token grants; equal to another when its text is.

    `exact` is the one topic it matches, or None for `*` and for a template, which match others.
    Every text is a selector, so nothing is raised.
    """

    text: str
    exact: str | None = field(init=False, repr=False, compare=False)
    _head: str | None = field(init=False, repr=False, compare=False)  # None: not a template
    _parts: tuple[uri_template.Part, ...] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Read no more than the head: most topics differ there, so most need no parts."""
        object.__setattr__(self, "_head", uri_template.head(self.text))
        many = self._head is not None or self.text == EVERYTHING
        object.__setattr__(self, "exact", None if many else self.text)
        object.__setattr__(self, "_parts", None)

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def matches(self, topic: str) -> bool:
        """Tell whether it selects the topic (Mercure, "Topic Selectors"); never raises."""
        if self._head is None:
            return self.text in {topic, EVERYTHING}
        if topic == self.text:
            return True
        if not topic.startswith(self._head):
            return False
        if self._parts is None:
            object.__setattr__(self, "_parts", uri_template.parts(self.text))
        return uri_template.follows(topic.removeprefix(self._head), self._parts or ())

    @property
    def variables(self) -> int:
        """How many variables it names: what a match costs grows with them; 0: not a template."""
        if self._head is None:
            return 0
        return uri_template.variables(self.text)

    def may_match_prefix(self, prefix: str) -> bool:
        """Tell whether it may select a topic that begins with a prefix."""
        if self._head is None:
            return self.text == EVERYTHING or self.text.startswith(prefix)
        return self._head.startswith(prefix) or prefix.startswith(self._head)


_numbers = count()
_answers: dict[tuple[int, str], bool] = {}  # by the number of some selectors, and a topic


class Selectors:
    """Some selectors together.

    Answers for short topics are kept, up to a number for all selectors of the process. The key is
    a number: what strangers ask for is freed when they leave.
    """

    __slots__ = ("_everything", "_number", "templates", "texts")

    def __init__(self, texts: frozenset[str]) -> None:
        self.texts = texts
        self._everything = EVERYTHING in texts
        found = [Selector(text) for text in texts if "{" in text]
        self.templates = tuple(it for it in found if it.exact is None)
        self._number = next(_numbers)

    @property
    def variables(self) -> int:
        """How many variables its templates name."""
        return sum(it.variables for it in self.templates)

    @property
    def has_patterns(self) -> bool:
        """Whether it matches topics that it does not name."""
        return self._everything or bool(self.templates)

    @property
    def exact(self) -> frozenset[str]:
        """The topics that it names."""
        return self.texts.difference((EVERYTHING,), (it.text for it in self.templates))

    def names(self, topics: tuple[str, ...]) -> bool:
        """Tell whether one of the topics is matched, so far as that is known without a look at
        the templates.
        """
        return self._everything or not self.texts.isdisjoint(topics)

    def matches(self, topic: str) -> bool:
        """Tell whether any matches a topic; never raises."""
        if self._everything or topic in self.texts:
            return True
        if not self.templates:
            return False
        known = _answers.get((self._number, topic))
        if known is None:
            known = any(it.matches(topic) for it in self.templates)
            if len(topic) <= _MAX_KEPT_TOPIC:
                if len(_answers) >= _MAX_ANSWERS:
                    _answers.clear()
                _answers[self._number, topic] = known
        return known

    def may_match_prefix(self, prefix: str) -> bool:
        """Tell whether any may match a topic that begins with a prefix."""
        if self._everything or any(text.startswith(prefix) for text in self.texts):
            return True
        return any(it.may_match_prefix(prefix) for it in self.templates)


# Of grants, which are signed: few are in use at a time, and each is as long as a header at most.
granting = lru_cache(maxsize=64)(Selectors)


def covers(selectors: frozenset[str], topics: tuple[str, ...]) -> bool:
    """Tell whether any selector matches any of the topics. It does not yield: for one topic, or
    few.
    """
    return any(map(granting(selectors).matches, topics))


def granted(grant: frozenset[str], topic: str) -> bool:
    """Tell whether a token's selectors grant a topic.

    A pattern that was meant for rooms or users must grant nothing of the hub itself. So for the
    hub's own paths a selector counts only if it is `*`, or begins with the path literally.
    """
    if topic in _OWN_PATHS:
        return topic in grant or EVERYTHING in grant
    if not topic.startswith(_OWN_FOLDERS):
        return granting(grant).matches(topic)
    return _own(grant, _folder(topic)).matches(topic)


def may_grant(grant: frozenset[str], prefix: str) -> bool:
    """Tell whether a token may grant a topic that begins with a path of the hub's own."""
    return _own(grant, _folder(prefix)).may_match_prefix(prefix)


def _folder(path: str) -> str:
    return next(it for it in _OWN_FOLDERS if path.startswith(it))


@lru_cache(maxsize=64)
def _own(grant: frozenset[str], folder: str) -> Selectors:
    # A folder has no brace: who begins with it has it in the head, before any variable.
    texts = (text for text in grant if text == EVERYTHING or text.startswith(folder))
    return Selectors(frozenset(texts))


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
    return f"{normpath(f'/{path}')}/".startswith(f"{MERCURE_PATH}/")


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
