"""Topics, and the topic patterns that match them.

A topic pattern is an exact topic, `*`, or a URI template. A template matches each topic that it
expands to with some values of its variables. A template that is not valid is an exact topic.
Mercure calls a topic pattern a selector: https://mercure.rocks/spec#topic-selectors.
"""

import re
from functools import lru_cache
from itertools import count
from posixpath import normpath
from urllib.parse import unquote

from .uri_template import Template

DEFAULT_TOPIC = "events"
EVERYTHING = "*"
MERCURE_PATH = "/.well-known/mercure"
SUBSCRIPTIONS_PATH = f"{MERCURE_PATH}/subscriptions"
"""Topics of presence events begin with it."""
MAX_ENCODINGS = 4
"""How many times over the topic of an event may be percent-encoded."""
TOPICS_PATH = "/topics"
_HUB_PATHS = frozenset({"/metrics", TOPICS_PATH})
_HUB_FOLDERS = ("/console/", f"{MERCURE_PATH}/")

_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")

_MAX_CACHED_MATCHES = 4096  # 3 MB at most
_MAX_CACHED_TOPIC_CHARS = 128


_serials = count()
_matches: dict[tuple[int, str], bool] = {}  # by the serial number of a `TopicPatterns`, and topic


class TopicPatterns:
    """A set of topic patterns. Every text is one, so nothing is raised.

    Whether its templates match a short topic is cached, in one bounded cache of the process. Its
    key is a serial number and not the patterns, so that these are freed with their subscriber.
    """

    __slots__ = ("_everything", "_serial", "exact", "templates", "texts")

    def __init__(self, texts: frozenset[str]) -> None:
        self.texts = texts
        self._everything = EVERYTHING in texts
        parsed = [Template.parse(text) for text in texts if "{" in text]
        self.templates = tuple(it for it in parsed if it)
        self.exact = texts
        """The exact topics among them."""
        if self._everything or self.templates:
            self.exact = texts.difference((EVERYTHING,), (it.text for it in self.templates))
        self._serial = next(_serials)

    @property
    def has_everything(self) -> bool:
        """Whether `*` is one of them."""
        return self._everything

    @property
    def variables(self) -> int:
        """How many variables its templates have together."""
        return sum(it.variables for it in self.templates)

    def match_exactly(self, topics: tuple[str, ...]) -> bool:
        """Return whether one of the topics is matched without a template."""
        return self._everything or not self.texts.isdisjoint(topics)

    def matches(self, topic: str) -> bool:
        """Return whether any of them matches a topic. A template also matches its own text."""
        if self._everything or topic in self.texts:
            return True
        if not self.templates:
            return False
        known = _matches.get((self._serial, topic))
        if known is None:
            known = any(it.matches(topic) for it in self.templates)
            if len(topic) <= _MAX_CACHED_TOPIC_CHARS:
                if len(_matches) >= _MAX_CACHED_MATCHES:
                    _matches.clear()
                _matches[self._serial, topic] = known
        return known

    def may_match_prefix(self, prefix: str) -> bool:
        """Return whether any of them may match a topic that begins with a prefix."""
        return (
            self._everything
            or any(text.startswith(prefix) for text in self.texts)
            or any(prefix.startswith(it.head) for it in self.templates)
        )


# For the patterns of grants only: they are signed, few are in use at a time, and a header bounds
# their length.
_cached_patterns = lru_cache(maxsize=64)(TopicPatterns)


def grants(grant: frozenset[str], topic: str) -> bool:
    """Return whether the patterns of a token grant a topic.

    A topic pattern for rooms or users must not grant anything of the hub itself. So for the hub's
    own paths a pattern counts only if it is `*` or begins with the path literally.
    """
    if topic in _HUB_PATHS:
        return topic in grant or EVERYTHING in grant
    if not topic.startswith(_HUB_FOLDERS):
        return _cached_patterns(grant).matches(topic)
    return _hub_patterns(grant, _folder(topic)).matches(topic)


def may_grant(grant: frozenset[str], prefix: str) -> bool:
    """Return whether a token may grant a topic that begins with a path of the hub's own."""
    return _hub_patterns(grant, _folder(prefix)).may_match_prefix(prefix)


def _folder(path: str) -> str:
    return next(it for it in _HUB_FOLDERS if path.startswith(it))


@lru_cache(maxsize=64)
def _hub_patterns(grant: frozenset[str], folder: str) -> TopicPatterns:
    # A folder has no brace, so in a template that begins with it, no variable stands before it.
    texts = (text for text in grant if text == EVERYTHING or text.startswith(folder))
    return TopicPatterns(frozenset(texts))


def is_reserved(topic: str) -> bool:
    """Return whether a topic is one of the hub's own, in any spelling: with such a topic, a
    publisher could forge presence events. A topic that is percent-encoded too often counts as one.
    """
    if "mercure" not in topic and "%" not in topic:
        return False  # as for nearly all topics
    path = decode_topic(topic)
    if path is None:
        return True
    path = re.sub(_ORIGIN, "", path.replace("\\", "/"), count=1).lstrip("/")
    return f"{normpath(f'/{path}')}/".startswith(f"{MERCURE_PATH}/")


def decode_topic(topic: str) -> str | None:
    """Return a topic without percent-encoding; None: it is encoded more than `MAX_ENCODINGS` times
    over.
    """
    path = topic
    for _ in range(MAX_ENCODINGS + 1):
        if (plain := unquote(path)) == path:
            return path
        path = plain
    return None
