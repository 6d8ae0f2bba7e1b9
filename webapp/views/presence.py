"""Who listens, as Mercure's subscription API tells it; and sending readers away.

Reading needs a token whose `subscribe` covers the path that is asked for, sending away one whose
`publish` covers it. Paths are as their topics are: each part percent-encoded.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from time import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from flask import Blueprint, Response, request

from ..auth.authorizer import token_id
from ..auth.claims import MAX_TEXT
from ..core.topics import MERCURE_PATH, SUBSCRIPTIONS_PATH
from ..errors import BadRequest, NotFound, Unauthorized
from ..presence.documents import CONTEXT, subscription_documents
from ..presence.revocations import Revoked
from ..scheduling import TimeSlice, cooperative
from ..tasks import Skipping
from . import bodies, forms
from .credentials import token_from_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.typing import ResponseReturnValue

    from ..auth.authorizer import Authorizer
    from ..config.settings import Settings
    from ..hub.hub import Hub
    from ..presence.service import Presence

    Object = dict[str, Any]

REVOCATIONS = f"{MERCURE_PATH}/revocations"
_MAX_BODY = 64 << 10
_PART_BYTES = 64 << 10  # of a listing, written at once
_SKIPPING = Skipping("presence")
_MOST_PARTS = 2  # of a path: a topic and a subscriber


def make_blueprint(
    hub: Hub, presence: Presence, authority: Authorizer, settings: Settings
) -> Blueprint:
    """Return the blueprint of who listens; of a hub that has keys."""
    bp = Blueprint("presence", __name__)
    views = _Views(hub, presence, authority, settings)
    for rule in ("", "/<path:topic>", "/<path:topic>/<subscriber>"):
        bp.add_url_rule(SUBSCRIPTIONS_PATH + rule, view_func=views.subscriptions, methods=["GET"])
        bp.add_url_rule(SUBSCRIPTIONS_PATH + rule, view_func=views.kick, methods=["DELETE"])
    bp.add_url_rule(REVOCATIONS, view_func=views.revoke, methods=["POST"])
    return bp


class _Views:
    def __init__(
        self, hub: Hub, presence: Presence, authority: Authorizer, settings: Settings
    ) -> None:
        self._hub = hub
        self._presence = presence
        self._authority = authority
        self._origins = settings.publish_origins

    def subscriptions(self, **_: str) -> ResponseReturnValue:
        """Return all subscriptions, those of a topic, or one."""
        path, topic, subscriber = _asked()
        self._authority.require_read(self._token(), path)
        found = self._found(topic, subscriber)
        digest = blake2b(path.encode(errors="replace"), digest_size=16)
        for row in cooperative(found):
            digest.update(json.dumps(row).encode())
        about = {"@context": CONTEXT, "lastEventID": str(self._hub.fanout.window.head)}
        if subscriber is not None:
            document = next(subscription_documents(*found[0], topic, active=True))
            body: str | Iterator[str] = json.dumps(about | document)
        else:
            body = _listing(about | {"id": path, "type": "Subscriptions"}, found, topic)
        answer = Response(body, mimetype="application/ld+json")
        answer.headers["Cache-Control"] = "no-cache"
        answer.set_etag(digest.hexdigest())
        answer.make_conditional(request)
        return answer

    def kick(self, **_: str) -> ResponseReturnValue:
        """End the streams of the subscriptions that a GET would list."""
        path, topic, subscriber = _asked()
        self._authority.require_write(self._token(), path)
        names = {name for name, _ in self._found(topic, subscriber)}
        self._presence.kick(sorted(names))
        return Response(status=204)

    def revoke(self) -> ResponseReturnValue:
        """End the streams of a token, or of all that somebody had until now, and refuse them."""
        self._authority.require_write(self._token(), REVOCATIONS)
        form = forms.read(request, bodies.read(request, _MAX_BODY)).to_dict()
        token, subject = form.get("token"), form.get("subject")
        if bool(token) == bool(subject):
            detail = "What is revoked is one token, or all of one subject."
            raise BadRequest(detail, "Send a form with the field token, or with the field subject.")
        if token:
            self._presence.revoke(Revoked("token", token_id(token), time()), self._end(token))
        else:
            self._presence.revoke(Revoked("subject", _subject(subject), time()), None)
        return Response(status=204)

    def _end(self, token: str) -> float | None:
        try:
            return self._authority.known(token).expires
        except Unauthorized:
            detail = "The token to revoke is not valid here, or not any more."
            raise NotFound(
                detail, "Send it as it is used; one that has ended is refused."
            ) from None

    def _token(self) -> str | None:
        return token_from_request(request, forms.query(request).to_dict(), self._origins)

    def _found(self, topic: str | None, subscriber: str | None) -> list[tuple[str, str]]:
        found = self._presence.subscribers(topic, subscriber)
        if subscriber is not None and not found:
            detail = "There is no such subscription, or it has ended."
            raise NotFound(detail, f"All are listed at {SUBSCRIPTIONS_PATH}.")
        return found


def _subject(text: str | None) -> str:
    if not text or len(text) > MAX_TEXT:
        detail = f"A subject has 1 to {MAX_TEXT:,} characters, as a token's sub has."
        raise BadRequest(detail, "Send the sub of the tokens that are to be revoked.")
    return text


def _listing(
    about: dict[str, str], found: list[tuple[str, str]], topic: str | None
) -> Iterator[str]:
    """Yield the text of a listing, some at a time: it is several times as large as what is kept."""
    begin, pace = f'{json.dumps(about)[:-1]}, "subscriptions": [', TimeSlice()
    part, size, comma = [begin], len(begin), ""
    for name, text in found:
        with _SKIPPING:  # it may be damaged
            for document in subscription_documents(name, text, topic, active=True):
                part.append(comma + json.dumps(document, allow_nan=False))
                size, comma = size + len(part[-1]), ", "
                pace.checkpoint()
        if size >= _PART_BYTES:
            yield "".join(part)
            part, size = [], 0
    yield "".join([*part, "]}"])


def _asked() -> tuple[str, str | None, str | None]:
    """Return the path as it was sent, and the topic and the subscriber that it names."""
    # Decoded, a topic's slashes would look like the path's.
    raw = request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI", request.path)
    _, plain, below = raw.partition("?")[0].partition(SUBSCRIPTIONS_PATH)
    first, *parts = map(unquote, below.split("/"))
    if not plain or first or len(parts) > _MOST_PARTS or not all(parts):
        detail = "The path has a topic and a subscriber at most, each percent-encoded."
        raise NotFound(detail, f"All are listed at {SUBSCRIPTIONS_PATH}, with their paths.")
    topic, subscriber = [*parts, None, None][:_MOST_PARTS]
    return SUBSCRIPTIONS_PATH + below, topic, subscriber
