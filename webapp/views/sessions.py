"""No sessions: the hub keeps nothing about a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask.sessions import NullSession, SessionInterface

if TYPE_CHECKING:
    from flask import Flask, Request, Response
    from flask.sessions import SessionMixin

_NONE = NullSession()


class NoSessions(SessionInterface):
    """One empty session for all requests, instead of one that each stream would hold."""

    def open_session(self, app: Flask, request: Request) -> SessionMixin:  # noqa: ARG002
        """Return the empty session."""
        return _NONE

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """There is nothing to save."""
