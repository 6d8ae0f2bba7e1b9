"""The request that a view reads: Werkzeug's, without the parts that the hub's views do not need."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from flask import Request
from werkzeug.datastructures import EnvironHeaders
from werkzeug.http import parse_options_header

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class HubRequest(Request):
    """A request whose headers and server are looked at when they are read, which few views do.

    A parked stream keeps its request: what is not built takes no memory either.
    """

    def __init__(
        self,
        environ: WSGIEnvironment,
        populate_request: bool = True,  # noqa: FBT001, FBT002 - Werkzeug's signature
        shallow: bool = False,  # noqa: FBT001, FBT002 - Werkzeug's signature
    ) -> None:
        path, root_path = environ.get("PATH_INFO", ""), environ.get("SCRIPT_NAME", "")
        if root_path or not path.isascii():
            super().__init__(environ, populate_request, shallow)
            return
        self.environ, self.shallow = environ, shallow
        self.method = environ["REQUEST_METHOD"].upper()
        self.scheme = environ["wsgi.url_scheme"]
        self.root_path, self.path = "", f"/{path.lstrip('/')}"
        self.query_string = environ.get("QUERY_STRING", "").encode("latin1")
        self.remote_addr = environ.get("REMOTE_ADDR")

    @cached_property
    def headers(self) -> EnvironHeaders:  # type: ignore[override] # a property that can be set
        """The headers of the request."""
        return EnvironHeaders(self.environ)

    @cached_property
    def server(self) -> tuple[str, int | None]:  # type: ignore[override] # as `headers`
        """The host and port of the server; a Unix socket has no port."""
        port = self.environ.get("SERVER_PORT", "")
        return self.environ["SERVER_NAME"], int(port) if port.isdigit() else None

    def _parse_content_type(self) -> None:
        if not hasattr(self, "_parsed_content_type"):  # the other headers need not be built for it
            self._parsed_content_type = parse_options_header(self.environ.get("CONTENT_TYPE", ""))

    def close(self) -> None:
        """Close the files of a form that Werkzeug has parsed; the hub parses forms itself."""
        if "files" in vars(self):
            super().close()
