"""List who is connected, as Mercure's subscription API does; disconnect subscribers.

Listing needs a token that grants subscribing to the path, disconnecting one that grants publishing
to it. The path that counts is that of `SubscriptionPath`, however the request writes it.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from time import time
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from ..auth.claims import MAX_TEXT_CHARS, token_id
from ..core.topics import MERCURE_PATH, SUBSCRIPTIONS_PATH
from ..errors import BadRequest, NotFound, Unauthorized, UnsupportedMediaType
from ..presence.documents import CONTEXT, subscription_documents
from ..presence.revocations import Revocation
from ..scheduling import RequestSlice, cooperative
from ..tasks import Skipping
from .bodies import forms, whole_body
from .bodies.field_names import FieldNames
from .client_address import client
from .credentials import tokens_of
from .services import Services, current_services
from .subscription_path import PartConverter, SubscriptionPath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask.blueprints import BlueprintSetupState

    from ..presence.service import Presence

REVOCATIONS = f"{MERCURE_PATH}/revocations"
_MAX_BODY_BYTES = 64 << 10
_PART_BYTES = 64 << 10  # of a listing, sent at once
_SKIPPING = Skipping("presence")
_DISCONNECT_QUERY = FieldNames(
    "There is no parameter",
    ("authorization",),
    "; the path names the topic and the subscriber to disconnect.",
    {},
)
_REVOKE_QUERY = FieldNames(
    "There is no parameter",
    ("authorization",),
    "; the form in the body says what to revoke.",
    {},
)
_REVOCATION = FieldNames("A revocation has no field", ("token", "subject"), ".", {})

bp = Blueprint("presence", __name__)


@bp.record
def _add_converter(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["tidings_part"] = PartConverter


@bp.get(SUBSCRIPTIONS_PATH)
@bp.get(f"{SUBSCRIPTIONS_PATH}/<tidings_part:topic>", merge_slashes=False)
@bp.get(f"{SUBSCRIPTIONS_PATH}/<tidings_part:topic>/<subscriber>", merge_slashes=False)
def subscriptions(**_: str) -> Response:
    """Return all subscriptions, those of a topic, or one."""
    services = current_services()
    last_event_id = _last_event_id(services)
    connection = request.environ.get("tidings.connection")
    time_slice = RequestSlice(connection.check_client) if connection else RequestSlice()
    path, rows = _find(services, services.authorizer.require_read, time_slice)
    digest = blake2b(f"{path} {last_event_id}".encode(errors="replace"), digest_size=16)
    for row in cooperative(rows, time_slice):
        digest.update(json.dumps(row).encode())
    head = {"@context": CONTEXT, "lastEventID": last_event_id}
    if path.subscriber is not None:
        document = next(subscription_documents(*rows[0], path.topic, active=True))
        body: str | Iterator[str] = json.dumps(head | document)
    else:
        body = _listing(
            head | {"id": str(path), "type": "Subscriptions"}, rows, path.topic, time_slice
        )
    response = Response(body, mimetype="application/ld+json")
    response.headers["Cache-Control"] = "no-cache"
    response.set_etag(digest.hexdigest())
    response.make_conditional(request)
    return response


@bp.delete(SUBSCRIPTIONS_PATH)
@bp.delete(f"{SUBSCRIPTIONS_PATH}/<tidings_part:topic>", merge_slashes=False)
@bp.delete(f"{SUBSCRIPTIONS_PATH}/<tidings_part:topic>/<subscriber>", merge_slashes=False)
def disconnect(**_: str) -> Response:
    """Disconnect the subscribers whose subscriptions a GET would list."""
    services = current_services()
    rows = _find(services, services.authorizer.require_write, RequestSlice())[1]
    _DISCONNECT_QUERY.check(forms.query(request), strict=True)
    services.require_presence().disconnect(sorted({name for name, _ in rows}))
    return Response(status=204)


@bp.post(REVOCATIONS)
def revoke() -> Response:
    """Revoke a token, or all tokens that a subject has had until now, and end their streams."""
    services = current_services()
    presence = services.require_presence()
    services.authorizer.require_write(_tokens(services), REVOCATIONS)
    _REVOKE_QUERY.check(forms.query(request), strict=True)
    if request.mimetype == "application/json":
        detail = "A revocation is a form, and not JSON."
        raise UnsupportedMediaType(detail, "Send token=… or subject=… in a form.")
    sender = client(request.remote_addr)
    body = whole_body.read(request, _MAX_BODY_BYTES, services.unfinished_bodies, sender)
    form = _REVOCATION.settle(forms.read(request, body), strict=True)
    tokens, subjects = (list(filter(None, form.get(it, ()))) for it in ("token", "subject"))
    token, subject = next(iter(tokens), None), next(iter(subjects), None)
    if len(tokens) + len(subjects) != 1:
        detail = "The form must have either one field token or one field subject."
        remedy = "Send token to revoke one token, or subject to revoke all tokens of a subject."
        raise BadRequest(detail, remedy)
    if token:
        revocation = Revocation("token", token_id(token), time())
        presence.revoke(revocation, _token_expiry(services, token))
    elif subject and len(subject) <= MAX_TEXT_CHARS:
        presence.revoke(Revocation("subject", subject, time()), None)
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


def _last_event_id(services: Services) -> str:
    """Return the cursor with which a stream misses nothing after a listing."""
    hub = services.hub
    head = hub.head()
    return str(head) if len(hub.window) or hub.broker.count() else "earliest"


def _find(
    services: Services, authorize: Callable[[tuple[str, ...], str], None], time_slice: RequestSlice
) -> tuple[SubscriptionPath, list[tuple[str, str]]]:
    """Return what the request's path names, and the names and records of its subscribers.

    :param authorize: refuses tokens that do not grant a path.
    :param time_slice: of the request.
    """
    presence, tokens = services.require_presence(), _tokens(services)
    environ = request.environ  # not the decoded path: it has the slashes of topics
    path = SubscriptionPath.parse(
        environ.get("RAW_URI") or environ.get("REQUEST_URI", request.path)
    )
    # A path that was decoded may be of several topics, so it needs a grant of all subscriptions.
    authorize(tokens, SUBSCRIPTIONS_PATH if path.is_decoded else str(path))
    rows = presence.subscribers(path.topic, path.subscriber, time_slice)
    # Anybody can subscribe to the decoded topic, too: only a subscriber's name shows what is meant.
    is_found = bool(rows) if path.subscriber else not path.is_decoded
    if not is_found:
        path = _before_proxy(path, presence, time_slice)
        rows = presence.subscribers(path.topic, path.subscriber, time_slice)
    authorize(tokens, str(path))
    return path, rows


def _before_proxy(
    path: SubscriptionPath, presence: Presence, time_slice: RequestSlice
) -> SubscriptionPath:
    """Return the path that a proxy has changed, if exactly one path of a subscription fits."""
    topics = set[str]()
    for _, record in cooperative(
        presence.subscribers(None, path.subscriber, time_slice), time_slice
    ):
        with _SKIPPING:  # it may be damaged
            topics.update(filter(path.may_be_of, json.loads(record)["topics"]))
    if len(topics) != 1:
        detail = "There is no such subscription, or it has ended."
        raise NotFound(detail, f"See the list at {SUBSCRIPTIONS_PATH}, and send its ids unchanged.")
    return SubscriptionPath(topics.pop(), path.subscriber)


def _listing(
    head: dict[str, str], rows: list[tuple[str, str]], topic: str | None, time_slice: RequestSlice
) -> Iterator[str]:
    """Yield the text of a listing in parts: it is several times as large as the rows."""
    begin = f'{json.dumps(head)[:-1]}, "subscriptions": ['
    part, size, comma = [begin], len(begin), ""
    for name, record in cooperative(rows, time_slice):
        with _SKIPPING:  # it may be damaged
            for document in subscription_documents(name, record, topic, active=True):
                part.append(comma + json.dumps(document, allow_nan=False))
                size, comma = size + len(part[-1]), ", "
        if size >= _PART_BYTES:
            yield "".join(part)
            part, size = [], 0
    yield "".join([*part, "]}"])
