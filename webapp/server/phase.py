"""The phases of a client's connection, and how long a read may take in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.settings import Settings

_BODY_TIMEOUT_FACTOR = 10  # body time-outs in which all of a body must arrive


def _unlimited(_: Settings) -> float:
    return float("inf")


@dataclass(frozen=True, eq=False, slots=True)
class Phase:
    """What a connection is doing. Time-outs are in seconds, by the hub's settings."""

    name: str
    each_read: Callable[[Settings], float] = _unlimited
    """The time-out of each read."""
    in_all: Callable[[Settings], float] = _unlimited
    """How long the phase may wait for its client."""
    between_requests: bool = False
    """Whether the next byte is the first of a request."""
    ends_at_stop: bool = False
    """Whether nothing more is read once the worker stops."""


OPENED = Phase(
    "no byte of the first request has arrived",
    in_all=lambda settings: settings.header_timeout,
    between_requests=True,
    ends_at_stop=True,
)
HEADER = Phase(
    "a request's header is arriving",
    in_all=lambda settings: settings.header_timeout,
)
BODY = Phase(
    "the request is being served: its body may be arriving, or its response may have begun",
    each_read=lambda settings: settings.body_timeout,
    in_all=lambda settings: settings.body_timeout * _BODY_TIMEOUT_FACTOR,
)
STREAMING_BODY = Phase(
    "the body is a pipe: it may be silent for hours, and ends when the hub stops",
    each_read=lambda settings: settings.pipe_idle,
    ends_at_stop=True,
)
IDLE = Phase(
    "no byte of the next request has arrived; gunicorn's `keepalive` bounds the wait",
    between_requests=True,
    ends_at_stop=True,
)
CLOSING = Phase("nothing is read any more, and the connection closes after the response")
