"""Control events: what the hub itself says on a stream. Their types are `hub.*`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..backoff import jitter
from . import sse
from .version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .events import EventId


def control_event(name: str, fields: Mapping[str, object], position: EventId) -> bytes:
    """Return a control event.

    Its id is a position and never a custom id: the event with that id may be one that the
    subscriber must not see.
    """
    return sse.encode(json.dumps(fields), type=name, id=str(position))


def open_event(
    fields: Mapping[str, object], position: EventId, reset_reason: str | None, retry_s: float
) -> bytes:
    """Return the first bytes of a stream.

    :param reset_reason: why events before the position cannot be sent; None: none are missing.
    :param retry_s: the reconnection time in seconds, before jitter.
    """
    retry = b"retry: %d\n" % jittered_retry_ms(retry_s)
    fields = {**fields, "server": f"tidings/{__version__}"}
    if reset_reason is None:
        return retry + control_event("hub.open", fields, position)
    # The first id comes with hub.reset, so that a client cut off before it gets it the next time.
    opened = sse.encode(json.dumps(fields), type="hub.open")
    return retry + opened + control_event("hub.reset", {"reason": reset_reason}, position)


def bye_event(reason: str, position: EventId, retry_s: float, spread_s: float) -> bytes:
    """Return the last bytes of a stream.

    :param retry_s: the reconnection time in seconds, before jitter.
    :param spread_s: seconds over which clients that are disconnected together come back.
    """
    retry_ms = jittered_retry_ms(retry_s) + round(jitter(0, spread_s) * 1000)
    return b"retry: %d\n" % retry_ms + control_event("hub.bye", {"reason": reason}, position)


def jittered_retry_ms(seconds: float) -> int:
    """Return 100 to 150 % of a reconnection time, in milliseconds: clients that were disconnected
    together do not come back together.
    """
    return round(seconds * 1000 * jitter(1, 1.5))
