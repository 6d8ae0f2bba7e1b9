"""The proxy between a command and a hub: HTTPS_PROXY and NO_PROXY."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import getproxies, proxy_bypass

import click

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_DEFAULT_PORT = 80


class Proxy(NamedTuple):
    """Where a proxy is, and what it is sent with CONNECT."""

    host: str
    port: int
    headers: dict[str, str]


def https_proxy(host: str) -> Proxy | None:
    """Return the proxy for a host; None: there is no proxy.

    :raises click.UsageError: HTTPS_PROXY is not the URL of a proxy that can be used.
    """
    url = "" if proxy_bypass(host) else getproxies().get("https", "").strip()
    if not url:
        return None
    # Like curl, which needs no scheme.
    url = url if "://" in url else f"http://{url}"
    try:
        proxy = urlsplit(url)
        name, port = proxy.hostname or "", proxy.port
        usable = name.encode("idna") and url.isprintable()
    except ValueError:  # an UnicodeError too
        usable = False
    if not usable:
        message = "HTTPS_PROXY is not the URL of a proxy, such as http://proxy.example:3128."
        raise click.UsageError(message)
    if proxy.scheme != "http":
        message = (
            f"HTTPS_PROXY begins with {proxy.scheme}://, which is not supported. Name a proxy that "
            "takes CONNECT over plain HTTP, such as http://proxy.example:3128, or set NO_PROXY."
        )
        raise click.UsageError(message)
    return Proxy(name, port or _DEFAULT_PORT, _credentials(proxy))


def _credentials(proxy: SplitResult) -> dict[str, str]:
    """Return the header for the user and password in a proxy's URL, if there are any."""
    if proxy.username is None and proxy.password is None:
        return {}
    parts = (proxy.username or "", proxy.password or "")
    user, password = map(unquote_to_bytes, parts)
    return {"Proxy-Authorization": f"Basic {b64encode(user + b':' + password).decode()}"}
