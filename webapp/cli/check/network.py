"""Checks of the way to a hub: does it answer, is the way encrypted, which HTTP does it speak."""

from __future__ import annotations

import ipaddress
import ssl
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from ..client import HubClient
from ..retry import TemporaryFailure
from .proxies import check_page
from .results import failed, judged, passed, skipped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from socket import socket

    from ..remote_hub import RemoteHub
    from .results import CheckResult

_TIMEOUT_S = 10.0
_DAY_S = 86400
_EXPIRY_NOTICE_DAYS = 14
_HTTP_1_1 = 11  # as http.client has it


class NetworkChecks:
    """Checks the way to a hub."""

    def __init__(self, hub: RemoteHub) -> None:
        self.reachable = False
        self.private_address = False
        """Whether only this machine or its network can reach the hub."""
        self.server = ""
        """The header Server of its responses."""
        self._hub = hub

    def run(self) -> Iterator[CheckResult]:
        """Yield the results; only one if the hub does not answer."""
        try:
            yield from self._check_way()
        except (TemporaryFailure, click.ClickException) as error:
            yield failed("reachable", str(error), "Is the hub running, and is this its URL?")
        else:
            self.reachable = True
            yield self._check_readiness()
            yield check_page(self._hub)

    def _check_way(self) -> Iterator[CheckResult]:
        began = time.monotonic()
        with HubClient(self._hub, _TIMEOUT_S) as client:
            sock = client.connect()
            took_ms = (time.monotonic() - began) * 1000
            address = ipaddress.ip_address(sock.getpeername()[0])
            self.private_address = address.is_private
            yield passed("reachable", f"{address}, connected in {took_ms:.0f} ms")
            yield self._check_tls(sock)
            response = client.request("GET", self._hub.sibling_path("/healthz"))
            self.server = response.headers.get("Server", "")
            yield self._check_protocol(response.version)

    def _check_tls(self, sock: socket) -> CheckResult:
        if not isinstance(sock, ssl.SSLSocket):
            if self.private_address:
                return skipped("TLS", "none, and the address is not a public one")
            remedy = "Put Caddy, or the platform's TLS, in front and use https://."
            return failed("TLS", "none: tokens and events can be read on the way", remedy)
        expires = (sock.getpeercert() or {}).get("notAfter", "")
        left_s = ssl.cert_time_to_seconds(str(expires)) - time.time() if expires else 0
        days = int(left_s // _DAY_S)
        detail = f"{sock.version()}, the certificate is valid for {days} days"
        # The certificates of a local authority may last for hours.
        good = days >= _EXPIRY_NOTICE_DAYS or self.private_address
        return judged("TLS", detail, good, "Renew it.")

    def _check_protocol(self, version: int) -> CheckResult:
        if version < _HTTP_1_1:
            detail = "HTTP/1.0 to its clients: a connection for each request"
            return failed("HTTP", detail, "nginx speaks 1.1 by itself; look at what is before.")
        if self._speaks_http_2():
            return passed("HTTP", "HTTP/2 for browsers: any number of streams")
        detail = "HTTP/1.1: a browser has six connections to a site, over all its tabs"
        return skipped("HTTP", detail, "A proxy with HTTP/2 takes more: Caddy, nginx.")

    def _speaks_http_2(self) -> bool:
        with (
            suppress(TemporaryFailure, click.ClickException),
            HubClient(self._hub, _TIMEOUT_S, ("h2", "http/1.1")) as client,
        ):
            sock = client.connect()
            return isinstance(sock, ssl.SSLSocket) and sock.selected_alpn_protocol() == "h2"
        return False

    def _check_readiness(self) -> CheckResult:
        path = self._hub.sibling_path("/readyz")
        try:
            with HubClient(replace(self._hub, token=None), _TIMEOUT_S) as client:
                client.read(client.request("GET", path))
        except TemporaryFailure as failure:
            return failed("/readyz", str(failure), "Its event log is unavailable, or it stops.")
        except click.ClickException as error:
            return skipped("/readyz", f"not to be asked from here: {error.message}")
        return passed("/readyz", "its event log can be reached")
