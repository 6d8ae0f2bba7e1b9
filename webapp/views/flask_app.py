"""Flask without what no request to the hub needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from flask import Flask, Response
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import MapAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import WSGIEnvironment
    from flask import Request
    from flask.sessions import SessionMixin
    from flask.typing import ResponseReturnValue

_NONE = NullSession()


class _NoSessions(SessionInterface):
    """One empty session for all requests, instead of one that each stream would hold."""

    def open_session(self, app: Flask, request: Request) -> SessionMixin:  # noqa: ARG002
        """Return the empty session."""
        return _NONE

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """There is nothing to save."""


class HubFlask(Flask):
    """A Flask app that keeps nothing about a client, looks for no host and has no hooks but its own
    before and after a request, none of them async.
    """

    session_interface = _NoSessions()

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds a request's view by its path alone."""
        if request is None:
            return None
        return MapAdapter(
            self.url_map,
            server_name="",  # no URL with a host is ever made
            script_name=request.root_path,
            subdomain="",
            url_scheme=request.scheme,
            path_info=request.path,
            default_method=request.method,
        )

    def full_dispatch_request(self) -> Response:
        """Return the answer to a request; nobody listens to Flask's signals about it."""
        self._got_first_request = True
        try:
            answer = self.preprocess_request()
            if answer is None:
                answer = self.dispatch_request()
        except Exception as error:  # noqa: BLE001 - what becomes of it is said by the app's handlers
            answer = self.handle_user_exception(error)
        return self.process_response(self.make_response(answer))

    def preprocess_request(self) -> ResponseReturnValue | None:
        """Call what the app has before each request; a blueprint has nothing of its own."""
        for func in self.before_request_funcs.get(None, ()):
            answer = cast("ResponseReturnValue | None", func())
            if answer is not None:
                return answer
        return None

    def process_response(self, response: Response) -> Response:
        """Call what the app has after each request; no blueprint and no request has anything."""
        for func in reversed(self.after_request_funcs.get(None, ())):
            response = cast("Response", func(response))
        return response

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        """Nothing is to be done when a request is over."""

    def do_teardown_appcontext(self, exc: BaseException | None = None) -> None:
        """Nothing is to be done when a context is left."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function as it is: none is async."""
        return func


class PreparedResponse(Response):
    """An answer that is complete as it is: Werkzeug looks for more to do than all of its making."""

    def get_wsgi_response(
        self,
        environ: WSGIEnvironment,  # noqa: ARG002 - Werkzeug's signature
    ) -> tuple[Iterable[bytes], str, list[tuple[str, str]]]:
        """Return the body, the status and the headers."""
        body = cast("list[bytes]", self.response)
        return body, self.status, self.headers.to_wsgi_list()
