"""The phases of a client's connection."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, eq=False, slots=True)
class Phase:
    """What a connection is doing."""

    name: str
    between_requests: bool = False
    """Whether the next byte is the first of a request."""
    ends_at_stop: bool = False
    """Whether nothing more is read once the worker stops."""


OPENED = Phase("no byte of the first request has arrived", between_requests=True, ends_at_stop=True)
HEADER = Phase("a request's header is arriving")
BODY = Phase("the request is being served: its body may be arriving, or its response has begun")
STREAMING_BODY = Phase("the body is a pipe, which may be silent for hours", ends_at_stop=True)
STREAM = Phase("the response is a stream, which may be parked")
IDLE = Phase("no byte of the next request has arrived", between_requests=True, ends_at_stop=True)
CLOSING = Phase("nothing is read any more, and the connection closes after the response")
