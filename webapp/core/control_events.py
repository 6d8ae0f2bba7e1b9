"""What the hub says itself on a stream: named events, `hub.*`, and when to come back."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

from . import sse
from .version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .events import EventId


def control_event(name: str, about: Mapping[str, object], position: EventId) -> bytes:
    """Return an event of the hub's. Its id is a place, and never an event's own id: that event may
    be one the reader must not see.
    """
    return sse.encode(json.dumps(about), type=name, id=str(position))


def open_event(
    about: Mapping[str, object], position: EventId, lost: str | None, retry: float
) -> bytes:
    """Return the first bytes of a stream.

    :param lost: why events before the place cannot be sent; None: none are lost.
    :param retry: seconds after which to come back, before they are jittered.
    """
    first = b"retry: %d\n" % jittered_retry(retry)
    about = {**about, "server": f"tidings/{__version__}"}
    if lost is None:
        return first + control_event("hub.open", about, position)
    # The first id comes with the reset: a reader cut before it was told is told next time.
    opened = sse.encode(json.dumps(about), type="hub.open")
    return first + opened + control_event("hub.reset", {"reason": lost}, position)


def bye_event(reason: str, position: EventId, retry: float, spread: float) -> bytes:
    """Return the last bytes of a stream.

    :param spread: seconds over which those that are sent away together return.
    """
    wait = jittered_retry(retry) + round(random.uniform(0, spread) * 1000)  # noqa: S311 - no secret
    return b"retry: %d\n" % wait + control_event("hub.bye", {"reason": reason}, position)


def jittered_retry(seconds: float) -> int:
    """Return a reconnection time in milliseconds, 100 to 150 %: readers that left at once
    do not come back at once.
    """
    return round(seconds * 1000 * random.uniform(1, 1.5))  # noqa: S311 - no secret
