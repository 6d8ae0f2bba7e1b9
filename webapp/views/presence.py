"""List who is connected, as Mercure's subscription API does; disconnect subscribers.

Listing needs a token that grants subscribing to the path, disconnecting one that grants publishing
to it. A path is written like the topics below it: each part is percent-encoded.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from time import time
from typing import TYPE_CHECKING
from urllib.parse import unquote

from flask import Blueprint, Response, request

from ..auth.claims import MAX_TEXT_CHARS
from ..auth.tokens import token_id
from ..core.topics import MERCURE_PATH, SUBSCRIPTIONS_PATH
from ..errors import BadRequest, NotFound, Unauthorized
from ..presence.documents import CONTEXT, subscription_documents
from ..presence.revocations import Revoked
from ..scheduling import RequestSlice, cooperative
from ..tasks import Skipping
from . import bodies, forms
from .client_address import client
from .credentials import tokens_of
from .services import Services, current_services

if TYPE_CHECKING:
    from collections.abc import Iterator

REVOCATIONS = f"{MERCURE_PATH}/revocations"
_MAX_BODY_BYTES = 64 << 10
_PART_BYTES = 64 << 10  # of a listing, sent at once
_MAX_PARTS = 2  # of a path: a topic and a subscriber
_SKIPPING = Skipping("presence")

bp = Blueprint("presence", __name__)


@bp.get(SUBSCRIPTIONS_PATH)
@bp.get(f"{SUBSCRIPTIONS_PATH}/<path:topic>")
@bp.get(f"{SUBSCRIPTIONS_PATH}/<path:topic>/<subscriber>")
def subscriptions(**_: str) -> Response:
    """Return all subscriptions, those of a topic, or one."""
    services = current_services()
    services.require_presence()
    path, topic, subscriber = _parse_path()
    services.authorizer.require_read(_tokens(services), path)
    rows = _rows(services, topic, subscriber)
    digest = blake2b(path.encode(errors="replace"), digest_size=16)
    for row in cooperative(rows, RequestSlice()):
        digest.update(json.dumps(row).encode())
    head = {"@context": CONTEXT, "lastEventID": str(services.hub.head())}
    if subscriber is not None:
        document = next(subscription_documents(*rows[0], topic, active=True))
        body: str | Iterator[str] = json.dumps(head | document)
    else:
        body = _listing(head | {"id": path, "type": "Subscriptions"}, rows, topic)
    response = Response(body, mimetype="application/ld+json")
    response.headers["Cache-Control"] = "no-cache"
    response.set_etag(digest.hexdigest())
    response.make_conditional(request)
    return response


@bp.delete(SUBSCRIPTIONS_PATH)
@bp.delete(f"{SUBSCRIPTIONS_PATH}/<path:topic>")
@bp.delete(f"{SUBSCRIPTIONS_PATH}/<path:topic>/<subscriber>")
def disconnect(**_: str) -> Response:
    """Disconnect the subscribers whose subscriptions a GET would list."""
    services = current_services()
    presence = services.require_presence()
    path, topic, subscriber = _parse_path()
    services.authorizer.require_write(_tokens(services), path)
    names = {name for name, _ in _rows(services, topic, subscriber)}
    presence.disconnect(sorted(names))
    return Response(status=204)


@bp.post(REVOCATIONS)
def revoke() -> Response:
    """Revoke a token, or all tokens that a subject has had until now, and end their streams."""
    services = current_services()
    presence = services.require_presence()
    services.authorizer.require_write(_tokens(services), REVOCATIONS)
    sender = client(request.remote_addr)
    body = bodies.read(request, _MAX_BODY_BYTES, services.unfinished_bodies, sender)
    form = forms.first_values(forms.read(request, body))
    token, subject = form.get("token"), form.get("subject")
    if bool(token) == bool(subject):
        detail = "The form must have either the field token or the field subject."
        remedy = "Send token to revoke one token, or subject to revoke all tokens of a subject."
        raise BadRequest(detail, remedy)
    if token:
        revoked = Revoked("token", token_id(token), time())
        presence.revoke(revoked, _token_expiry(services, token))
    elif subject and len(subject) <= MAX_TEXT_CHARS:
        presence.revoke(Revoked("subject", subject, time()), None)
    else:
        detail = f"A subject has at most {MAX_TEXT_CHARS:,} characters, like the sub of a token."
        raise BadRequest(detail, "Send the claim sub of the tokens to revoke.")
    return Response(status=204)


def _tokens(services: Services) -> tuple[str, ...]:
    query, origins = forms.query(request), services.settings.publish_origins
    return tokens_of(request, query, origins).texts


def _token_expiry(services: Services, token: str) -> float | None:
    try:
        return services.authorizer.decode(token).expires
    except Unauthorized:
        detail = "The token to revoke is not valid here, or has expired."
        remedy = "Send the complete token; one that has expired is refused anyway."
        raise NotFound(detail, remedy) from None


def _rows(services: Services, topic: str | None, subscriber: str | None) -> list[tuple[str, str]]:
    """Return the names and records of subscribers."""
    rows = services.require_presence().subscribers(topic, subscriber)
    if subscriber is not None and not rows:
        detail = "There is no such subscription, or it has ended."
        raise NotFound(detail, f"See the list at {SUBSCRIPTIONS_PATH}.")
    return rows


def _listing(head: dict[str, str], rows: list[tuple[str, str]], topic: str | None) -> Iterator[str]:
    """Yield the text of a listing in parts: it is several times as large as the rows."""
    begin, time_slice = f'{json.dumps(head)[:-1]}, "subscriptions": [', RequestSlice()
    part, size, comma = [begin], len(begin), ""
    for name, record in rows:
        with _SKIPPING:  # it may be damaged
            for document in subscription_documents(name, record, topic, active=True):
                part.append(comma + json.dumps(document, allow_nan=False))
                size, comma = size + len(part[-1]), ", "
                time_slice.checkpoint()
        if size >= _PART_BYTES:
            yield "".join(part)
            part, size = [], 0
    yield "".join([*part, "]}"])


def _parse_path() -> tuple[str, str | None, str | None]:
    """Return the path as it was sent, and the topic and subscriber in it."""
    # Not the decoded path: a slash in a topic would look like one of the path.
    raw = request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI", request.path)
    _, plain, below = raw.partition("?")[0].partition(SUBSCRIPTIONS_PATH)
    first, *parts = map(unquote, below.split("/"))
    if not plain or first or len(parts) > _MAX_PARTS or not all(parts):
        detail = "The path has at most a topic and a subscriber, each percent-encoded."
        raise NotFound(detail, f"See the list at {SUBSCRIPTIONS_PATH}, which has their paths.")
    topic, subscriber = [*parts, None, None][:_MAX_PARTS]
    return SUBSCRIPTIONS_PATH + below, topic, subscriber
