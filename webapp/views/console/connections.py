"""List the open streams of all processes, and end one: `/console/connections`.

The list has the addresses of clients. So a token must grant presence and the list.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flask import Blueprint, Response, jsonify, request

from ...auth.claims import MAX_TEXT_CHARS
from ...core.events import check_name
from ...core.topics import SUBSCRIPTIONS_PATH
from ...errors import BadRequest
from ...presence.connections import MAX_LISTED, Filter
from .. import own_paths, paging
from ..bodies import forms
from ..bodies.field_names import FieldNames
from ..credentials import tokens_of
from ..services import current_services

if TYPE_CHECKING:
    from ..bodies.forms import Fields

PATH = own_paths.CONNECTIONS_PATH
DEFAULT_LIMIT = 50
_ID = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FILTERS = ("topic", "subject", "address", "after")
_PARAMETERS = FieldNames("There is no parameter", (*_FILTERS, "limit", "authorization"), ".", {})

bp = Blueprint("connections", __name__)


@bp.get(PATH)
def connections() -> Response:
    """Return a page of the open streams."""
    presence = current_services().require_presence()
    own_paths.require_read(SUBSCRIPTIONS_PATH)
    found = presence.connections(_filter(_PARAMETERS.settle(forms.query(request), strict=True)))
    return own_paths.no_store(jsonify(found._asdict()))


@bp.delete(f"{PATH}/<id>")
def disconnect(id: str) -> Response:
    """End a stream. Its client may connect again."""
    services = current_services()
    presence = services.require_presence()
    tokens = tokens_of(request, forms.query(request), services.settings.publish_origins).texts
    services.authorizer.require_read(tokens, PATH)
    services.authorizer.require_write(tokens, SUBSCRIPTIONS_PATH)
    if not _ID.fullmatch(id):
        detail = "The id of a connection begins with urn:uuid: and is a UUID."
        raise BadRequest(detail, f"Send the id that {PATH} shows.")
    presence.disconnect([id])
    return Response(status=204)


def _filter(args: Fields) -> Filter:
    """Return which streams a query asks for.

    :raises BadRequest: a parameter is not valid.
    """
    first = forms.first_values(args, {*_FILTERS, "limit"}, "parameter")
    limit = paging.limit(first.get("limit"), "connections", "after", DEFAULT_LIMIT, MAX_LISTED)
    if topic := first.get("topic"):
        check_name("topic", topic)
    if any(len(first.get(name, "")) > MAX_TEXT_CHARS for name in _FILTERS[1:]):
        detail = f"A filter has at most {MAX_TEXT_CHARS:,} characters."
        raise BadRequest(detail, "Send the value of one connection.")
    topic, subject, address, after = (first.get(name, "") for name in _FILTERS)
    return Filter(topic, subject, address, after, limit)
