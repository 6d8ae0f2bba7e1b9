"""Control events: what the hub itself says on a stream. Their types are `hub.*`."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

from ..backoff import jitter
from . import sse
from .version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .events import EventId


def control_event(name: str, fields: Mapping[str, object], position: EventId | None) -> bytes:
    """Return a control event.

    :param position: its id; None: it has none, and the client's cursor stays as it is.

    Its id is a position. An own id could be that of an event which the subscriber must not see.
    """
    return sse.encode(json.dumps(fields), type=name, id=None if position is None else str(position))


def open_event(
    fields: Mapping[str, object],
    position: EventId | None,
    reset_reason: str | None,
    retry_s: float,
) -> bytes:
    """Return the first bytes of a stream.

    :param position: where it begins; None: it begins with a snapshot, and has no id yet.
    :param reset_reason: why events before the position cannot be sent; None: none are missing.
    :param retry_s: the reconnection time in seconds, before jitter.
    """
    retry = retry_field(retry_s)
    fields = {**fields, "server": f"tidings/{__version__}"}
    if reset_reason is None:
        return retry + control_event("hub.open", fields, position)
    # The first id comes with hub.reset, so that a client cut off before it gets it the next time.
    opened = sse.encode(json.dumps(fields), type="hub.open")
    return retry + opened + control_event("hub.reset", {"reason": reset_reason}, position)


def bye_event(reason: str, position: EventId | None, retry_s: float, spread_s: float) -> bytes:
    """Return the last bytes of a stream.

    :param retry_s: the reconnection time in seconds, before jitter.
    :param spread_s: seconds over which clients that are disconnected together come back.
    """
    return retry_field(retry_s, spread_s) + _bye(reason, position)


@lru_cache(maxsize=16)
def _bye(reason: str, position: EventId | None) -> bytes:
    """Return what all streams say that end for a reason at the same position."""
    return control_event("hub.bye", {"reason": reason}, position)


def first_fields(position: EventId | None, retry_s: float) -> bytes:
    """Return the first bytes of a stream without control events. No blank line follows: the fields
    belong to the first event, and a client that reads every event sees nothing of the hub's own.

    :param position: where the stream begins; None: it begins with a snapshot.
    :param retry_s: the reconnection time in seconds, before jitter.
    """
    return retry_field(retry_s) + (id_field(position) if position else b"")


def id_field(position: EventId) -> bytes:
    """Return a line with a position, which belongs to the next event."""
    return b"id: %b\n" % str(position).encode()


def retry_field(retry_s: float, spread_s: float = 0) -> bytes:
    """Return a line with the reconnection time, which clients obey without a blank line, too.

    :param retry_s: the reconnection time in seconds, before jitter.
    :param spread_s: seconds over which clients that are disconnected together come back.
    """
    # 100 to 150 %: clients that were disconnected together do not come back together.
    spread = jitter(0, spread_s) if spread_s else 0
    return b"retry: %d\n" % round((retry_s * jitter(1, 1.5) + spread) * 1000)
