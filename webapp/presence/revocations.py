"""Which tokens are refused before they end: one, or all that a subject had until a moment."""

from __future__ import annotations

import json
from time import monotonic, time
from typing import TYPE_CHECKING, NamedTuple

from ..scheduling import cooperative
from ..tasks import Skipping

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..auth.authorizer import Grant
    from ..brokers.presence_base import PresenceStore

REVOKE = "#"
"""How a notice of a revocation begins."""
_SWEEP = 60.0  # seconds between two looks for revocations that are over
_FOR_EVER = 100 * 365 * 86400.0  # seconds
_SKIPPING = Skipping("presence")


class Revoked(NamedTuple):
    """Which tokens are refused: one, or those that somebody had until a moment."""

    kind: str  # `token` or `subject`
    value: str
    at: float
    """Unix seconds; tokens of a subject that were made later are good."""

    def means(self, grant: Grant) -> bool:
        """Whether a token is one of them."""
        mine = grant.token_id if self.kind == "token" else grant.subject
        if mine != self.value:
            return False
        # A token is one token, whatever the clock said by which it was made.
        return self.kind == "token" or grant.issued is None or grant.issued <= self.at


class Revocations:
    """What one process knows of them, and how all others come to know.

    :param max_age: seconds after which a subject's revocation is forgotten.
    """

    def __init__(self, roster: PresenceStore, max_age: float) -> None:
        self._roster = roster
        self._max_age = max_age
        self._known: dict[tuple[str, str], tuple[Revoked, float]] = {}
        self._swept = monotonic()

    def is_revoked(self, grant: Grant) -> bool:
        """Whether a token was revoked."""
        for key in (("token", grant.token_id), ("subject", grant.subject)):
            found = self._known.get(key)  # type: ignore[arg-type] # None is no key
            if found and found[1] > time() and found[0].means(grant):
                return True
        return False

    def add(self, revoked: Revoked, until: float | None) -> None:
        """Refuse some tokens here and in all processes.

        :param until: Unix seconds at which a token ends by itself; None: never. A subject is
            refused for `max_age`.
        :raises Unavailable: it cannot be written down, or as many are as may be.
        """
        what = json.dumps(revoked)
        if revoked.kind == "token":
            end = time() + _FOR_EVER if until is None else until
            self._roster.revoke(what, end, f"{REVOKE}{end} {what}")
        else:
            end, oldest = time() + self._max_age, time() - self._max_age
            notice = f"{REVOKE}{end} {what}"
            self._roster.revoke_subject(revoked.value, revoked.at, oldest, notice)
        self.remember([(what, end)])  # here at once

    def learn(self) -> None:
        """Read all that is written down.

        :raises Unavailable: it cannot be read.
        """
        subjects, revoked = self._roster.subjects(), self._roster.revoked()
        for subject, at in cooperative(subjects):
            with _SKIPPING:
                self._refuse(Revoked("subject", subject, float(at)), at + self._max_age)
        for what, until in cooperative(revoked):
            with _SKIPPING:
                found = _loads(what)
                # Hubs of before wrote a subject down for ever.
                most = float("inf") if found.kind == "token" else found.at + self._max_age
                self._refuse(found, min(until, most))
        self._forget_ended()

    def remember(self, revoked: Iterable[tuple[str, float]]) -> None:
        """Refuse tokens until a time each; what is refused already stays so."""
        for what, until in cooperative(revoked):
            with _SKIPPING:  # it may be damaged
                self._refuse(_loads(what), until)
        self._forget_ended()

    def _refuse(self, revoked: Revoked, until: float) -> None:
        key, new = (revoked.kind, revoked.value), (revoked, until)
        # Of two for one subject that counts which is of more tokens, whichever came last.
        self._known[key] = max(new, self._known.get(key, new))

    def _forget_ended(self) -> None:
        """Forget those that are over, now and then: there may be thousands of others."""
        if monotonic() - self._swept < _SWEEP:
            return
        self._swept, now = monotonic(), time()
        for key, (_, until) in cooperative(list(self._known.items())):
            if until <= now:
                self._known.pop(key, None)


def _loads(what: str) -> Revoked:
    """Return what was written down.

    :raises ValueError: nobody wrote it so.
    """
    kind, value, at = json.loads(what)
    return Revoked(str(kind), str(value), float(at))
