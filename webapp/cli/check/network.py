"""`tidings check`: is there a hub, is the way to it encrypted, what does it speak."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from ..retry import TemporaryFailure
from .results import BAD, LEFT, OK, CheckResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..client import HubClient

_TIMEOUT = 10.0
_DAY = 86400
_NOTICE = 14  # days before a certificate's end


class NetworkChecks:
    """Looks at the way to a hub."""

    def __init__(self, remote: HubClient) -> None:
        self.good = False  # somebody answers
        self.near = False  # nobody but this machine or network can reach it
        self.server = ""
        self._remote = remote

    def look(self) -> Iterator[CheckResult]:
        """Yield what is found, and stop where nobody answers."""
        try:
            yield from self._reach()
            self.good = True
        except (TemporaryFailure, click.ClickException) as error:
            yield CheckResult(
                "reachable", BAD, str(error), "Is the hub running, and is this its URL?"
            )
        else:
            yield self._ready()

    def _reach(self) -> Iterator[CheckResult]:
        began = time.monotonic()
        connection = self._remote.connect(_TIMEOUT)
        took = (time.monotonic() - began) * 1000
        try:
            host = ipaddress.ip_address(connection.sock.getpeername()[0])
            self.near = host.is_private
            yield CheckResult("reachable", OK, f"{host}, connected in {took:.0f} ms")
            yield self._encrypted(connection.sock)
            answer = self._remote.ask(connection, "GET", path=self._remote.beside("/healthz"))
            self.server = answer.headers.get("Server", "")
            answer.read(1 << 16)
            yield self._protocol(answer.version)
        finally:
            connection.close()

    def _encrypted(self, sock: socket.socket) -> CheckResult:
        if not isinstance(sock, ssl.SSLSocket):
            if self.near:
                return CheckResult("TLS", LEFT, "none, and the address is not a public one")
            return CheckResult(
                "TLS",
                BAD,
                "none: tokens and events can be read on the way",
                "Put Caddy, or the platform's TLS, in front and use https://.",
            )
        ends = (sock.getpeercert() or {}).get("notAfter", "")
        days = int((ssl.cert_time_to_seconds(str(ends)) - time.time()) // _DAY) if ends else 0
        told = f"{sock.version()}, the certificate is good for {days} days"
        soon = days < _NOTICE and not self.near  # a local authority's may last for hours
        return CheckResult("TLS", BAD, told, "Renew it.") if soon else CheckResult("TLS", OK, told)

    def _protocol(self, version: int) -> CheckResult:
        if version < 11:  # noqa: PLR2004 - http.client's word for HTTP/1.1
            told = "HTTP/1.0 to its clients: a connection for each request"
            return CheckResult(
                "HTTP", BAD, told, "nginx speaks 1.1 by itself; look at what is before."
            )
        if self._speaks_http_2():
            return CheckResult("HTTP", OK, "HTTP/2 for browsers: any number of streams")
        told = "HTTP/1.1: a browser has six connections to a site, over all its tabs"
        return CheckResult("HTTP", LEFT, told, "An edge with HTTP/2 takes more: Caddy, nginx.")

    def _speaks_http_2(self) -> bool:
        parts = self._remote.parts
        if parts.scheme != "https":
            return False
        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        try:
            with (
                socket.create_connection((parts.hostname, parts.port or 443), _TIMEOUT) as plain,
                context.wrap_socket(plain, server_hostname=parts.hostname) as sock,
            ):
                return sock.selected_alpn_protocol() == "h2"
        except OSError:
            return False

    def _ready(self) -> CheckResult:
        stranger = replace(self._remote, token=None)
        try:
            connection = stranger.connect(_TIMEOUT)
            try:
                path = self._remote.beside("/readyz")
                self._remote.read(stranger.ask(connection, "GET", path=path))
            finally:
                connection.close()
        except TemporaryFailure as away:
            return CheckResult("/readyz", BAD, str(away), "Its log cannot be reached, or it stops.")
        except click.ClickException as error:
            return CheckResult("/readyz", LEFT, f"not to be asked from here: {error.message}")
        return CheckResult("/readyz", OK, "its log can be reached")
