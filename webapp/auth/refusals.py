"""Say why a valid token does not grant a topic or a path, and what would."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..core.topics import MAX_ENCODINGS, MERCURE_PATH, TopicPatterns, decode_topic
from ..errors import Forbidden, InsufficientScope

if TYPE_CHECKING:
    from collections.abc import Iterable

SEND_ONE = "Send one as Authorization: Bearer TOKEN; `tidings token` makes one."
_MAX_LISTED_TOPICS = 20  # topics, and topic patterns, in a refusal
_RESERVED = ":/?#[]@!$&'()*+,;="  # RFC 3986, section 2.2
_LETTERS = (
    "In a template, {id} stands for letters, digits and - . _ ~ only, and {+id} also for characters"
    " such as / : @. Percent-encode all others in the topic."
)


def not_granted(
    claim: str,
    topics: Iterable[str],
    grant: frozenset[str],
    *,
    own_path: bool = False,
    by_login: bool = False,
) -> Forbidden:
    """Return the refusal of what a claim does not grant.

    :param own_path: whether the only topic is a path of the hub's own.
    :param by_login: whether an app's `authorize` has granted it, and no token.
    """
    asked, granted = sorted(topics)[:_MAX_LISTED_TOPICS], sorted(grant)[:_MAX_LISTED_TOPICS]
    if by_login:
        what = "this path" if own_path else "every topic of the event"
        list_ = claim.removeprefix("mercure.")
        detail = f"The app's login does not grant {what}."
        remedy = f'Let the app\'s authorize return it in "{list_}".'
        return Forbidden(detail, remedy, asked=asked, granted=granted)
    if own_path:
        detail = f"The token's {claim} does not grant this path."
        remedy = f'Use a token whose {claim} contains "{asked[0]}" or "*".'
    else:
        detail = f"The token's {claim} does not match every topic of the event."
        remedy = f'Use a token whose {claim} matches them, such as ["*"].'
        if _differ_by_letters(asked, granted):
            remedy = _LETTERS
    return InsufficientScope(detail, remedy, asked=asked, granted=granted)


def _differ_by_letters(topics: list[str], patterns: list[str]) -> bool:
    """Return whether a pattern does not match a topic only for the characters in a variable."""
    known = TopicPatterns(frozenset(patterns))
    wider = TopicPatterns(frozenset(re.sub(r"\{(?=\w)", "{+", it) for it in patterns))
    return any(
        wider.matches(quote(topic, safe=f"{_RESERVED}%", errors="replace"))
        for topic in topics
        if not known.matches(topic)
    )


def reserved_topic(topic: str) -> Forbidden:
    """Return the refusal of a topic of the hub's own."""
    if decode_topic(topic) is None:
        detail = f"A topic is percent-encoded more than {MAX_ENCODINGS} times over."
        return Forbidden(detail, "Encode it once, or not at all.")
    return Forbidden(f"The topics below {MERCURE_PATH} are the hub's own.", "Choose another topic.")
