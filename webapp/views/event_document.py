"""Answer `GET /events` with one JSON document instead of a stream."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from flask import Response

from ..hub.listings.event_listing import list_events
from .client_address import client

if TYPE_CHECKING:
    from flask import Request

    from ..auth.authorizer import Grant
    from ..hub.listings.event_listing import ListedEvents
    from .services import Services
    from .subscribe_query import SubscribeQuery

_HEADERS = {
    "Content-Type": "application/json",
    "Cache-Control": "private, no-cache",
    "Vary": "Accept",
}


def event_document(
    request: Request, services: Services, query: SubscribeQuery, grant: Grant, limit: int
) -> Response:
    """Return the next events, and where to continue.

    :param limit: how many events it has at most.
    """
    if request.method == "HEAD":
        return Response(headers=_HEADERS)
    found = services.call(
        list_events,
        query.patterns,
        grant,
        query.start,
        limit=limit,
        client=client(request.remote_addr),
        socket=request.environ.get("tidings.connection"),
    )
    response = Response(_text(found), headers=_HEADERS)
    response.call_on_close(partial(services.call, lambda _: found.close()))
    response.add_etag()
    response.make_conditional(request)
    return response


def _text(found: ListedEvents) -> bytes:
    rest = {
        "last_id": found.last_id,
        "more": found.more,
        "reset": found.reset_reason,
        "ended": found.ended,
    }
    return b'{"events": [%b], %b\n' % (b", ".join(found.envelopes), json.dumps(rest)[1:].encode())
