"""Revoked tokens: a single one, or all that a subject had at some time."""

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
"""A notice of a revocation begins with it."""
_SWEEP_INTERVAL_S = 60.0
_WITHOUT_EXPIRY_S = 100 * 365 * 86400.0  # how long a token without an `exp` stays revoked
_OPENING_S = 60.0  # in which a stream that an app's login has granted has surely opened
_SKIPPING = Skipping("presence")


class Revocation(NamedTuple):
    """What is revoked: one token, or the tokens of a subject up to a time."""

    kind: str  # `token`, `subject`, or `login`: what an app's login granted to a subject
    value: str
    at: float
    """Unix seconds. Tokens of a subject that were issued later are valid."""

    def matches(self, grant: Grant) -> bool:
        """Return whether it revokes the token of a grant."""
        value = grant.token_id if self.kind == "token" else grant.subject
        if value != self.value or (self.kind == "login" and grant.token_id):
            return False
        # When a single token was issued does not matter: that clock may have been wrong.
        return self.kind == "token" or grant.issued is None or grant.issued <= self.at


class Revocations:
    """The revocations that this process knows, and the presence store, which shares them.

    :param max_age: seconds after which the revocation of a subject is forgotten.
    """

    def __init__(self, store: PresenceStore, max_age: float) -> None:
        self._store = store
        self._max_age = max_age
        self._known: dict[tuple[str, str | None], tuple[Revocation, float]] = {}
        self._swept_at = monotonic()

    def is_revoked(self, grant: Grant) -> bool:
        """Return whether a token was revoked."""
        subject = grant.subject
        for key in (("token", grant.token_id), ("subject", subject), ("login", subject)):
            found = self._known.get(key)
            if found and found[1] > time() and found[0].matches(grant):
                return True
        return False

    def add(self, revocation: Revocation, expires: float | None) -> None:
        """Revoke tokens, here and in all processes.

        :param expires: Unix seconds at which a token expires; None: never. The revocation of a
            subject lasts for `max_age` instead.
        :raises ServiceUnavailable: it cannot be stored, or too many are stored.
        """
        text = json.dumps(revocation)
        if revocation.kind == "token":
            until = time() + _WITHOUT_EXPIRY_S if expires is None else expires
            self._store.revoke(text, until, f"{REVOKE}{until} {text}")
        else:
            until, oldest = time() + self._max_age, time() - self._max_age
            notice = f"{REVOKE}{until} {text}"
            self._store.revoke_subject(revocation.value, revocation.at, oldest, notice)
        self.remember([(text, until)])  # here at once, without waiting for the notice

    def end_logins(self, subjects: Iterable[str]) -> None:
        """End what an app's login has granted to some subjects until now, in this process only: a
        stream of theirs may be about to open.
        """
        for subject in subjects:
            self._remember(Revocation("login", subject, time()), time() + _OPENING_S)

    def load(self) -> None:
        """Read all revocations from the store.

        :raises ServiceUnavailable: the store is unavailable.
        """
        subjects, revoked = self._store.subjects(), self._store.revoked()
        for subject, at in cooperative(subjects):
            with _SKIPPING:
                self._remember(Revocation("subject", subject, float(at)), at + self._max_age)
        for text, until in cooperative(revoked):
            with _SKIPPING:
                found = _parse(text)
                # Older hubs stored the revocation of a subject without an end.
                most = float("inf") if found.kind == "token" else found.at + self._max_age
                self._remember(found, min(until, most))
        self._forget_ended()

    def remember(self, revoked: Iterable[tuple[str, float]]) -> None:
        """Revoke tokens in this process only.

        :param revoked: the text of each revocation, and the Unix seconds at which it ends.
        """
        for text, until in cooperative(revoked):
            with _SKIPPING:  # the text may be damaged
                self._remember(_parse(text), until)
        self._forget_ended()

    def _remember(self, revocation: Revocation, until: float) -> None:
        key, new = (revocation.kind, revocation.value), (revocation, until)
        # If a subject is revoked twice, keep the later time, in whatever order the notices arrive.
        self._known[key] = max(new, self._known.get(key, new))

    def _forget_ended(self) -> None:
        """Forget revocations that have ended. Not each time: there may be thousands."""
        if monotonic() - self._swept_at < _SWEEP_INTERVAL_S:
            return
        self._swept_at, now = monotonic(), time()
        for key, (_, until) in cooperative(list(self._known.items())):
            if until <= now:
                self._known.pop(key, None)


def _parse(text: str) -> Revocation:
    """Return what `Revocations.add` stored.

    :raises ValueError: the text is not from there.
    """
    kind, value, at = json.loads(text)
    return Revocation(str(kind), str(value), float(at))
