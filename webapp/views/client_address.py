"""The address of a client behind proxies, and the scheme and path that it uses."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_SCHEMES = {"http", "https"}
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]{1,100}){1,10}")
_IPV6_NETWORK_BITS = 64  # one customer has at least such a network (RFC 6177)


def behind(app: Callable[..., Any], proxies: int) -> Callable[..., Any]:
    """Return a WSGI app that sees its clients' addresses and scheme instead of its proxies', and
    knows the path that a proxy has removed.

    Like Werkzeug's ProxyFix, but an entry may have a port, and an entry that is not an address is
    ignored: it would get into the access log.

    :param proxies: how many trusted proxies append to X-Forwarded-For. Entries are counted from
        the end, because a client can write anything before them.
    """

    def with_address(environ: dict[str, Any], start_response: Any) -> Any:
        environ["REMOTE_ADDR"], environ["wsgi.url_scheme"] = before(environ, proxies)
        if "HTTP_X_FORWARDED_PREFIX" in environ and (path := prefix(environ, proxies)):
            environ["SCRIPT_NAME"] = path
            if environ["PATH_INFO"].startswith(f"{path}/"):  # the proxy has not removed it
                environ["PATH_INFO"] = environ["PATH_INFO"][len(path) :]
        return app(environ, start_response)

    return with_address


def before(environ: dict[str, Any], proxies: int) -> tuple[str, str]:
    """Return a request's address and scheme, as they were before the proxies."""
    address, scheme = environ.get("REMOTE_ADDR", ""), environ["wsgi.url_scheme"]
    if "HTTP_X_FORWARDED_PROTO" in environ:
        found = _entry(environ["HTTP_X_FORWARDED_PROTO"], proxies).lower()
        scheme = found if found in _SCHEMES else scheme
    entries = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
    if len(entries) >= proxies:
        address = _address(entries[-proxies].strip()) or address
    return address, scheme


def prefix(environ: dict[str, Any], proxies: int) -> str:
    """Return the path below which the proxies serve the app; empty where they name none."""
    entry = _entry(environ.get("HTTP_X_FORWARDED_PREFIX", ""), proxies).rstrip("/")
    return entry if _PREFIX.fullmatch(entry) else ""


def _entry(header: str, proxies: int) -> str:
    """Return what the first trusted proxy wrote. Most write one entry in place of those before."""
    entries = header.split(",")
    return entries[-min(proxies, len(entries))].strip()


def _address(entry: str) -> str | None:
    """Return the address in `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`."""
    for text in (entry, entry.rpartition(":")[0].strip("[]")):
        try:
            return str(ip_address(text))
        except ValueError:
            continue
    return None


def client(address: str | None) -> str:
    """Return the name under which the limits count a client: its IPv4 address, or the network of
    its IPv6 address, because one customer has more IPv6 addresses than could be counted.

    :param address: None or "" for a client of a Unix socket; all of these are one client.
    """
    address = address or ""
    if ":" not in address:
        return address  # the common case; parsing it would cost more than all else here
    try:
        ip = IPv6Address(address)
    except ValueError:
        return address
    host_bits = 128 - _IPV6_NETWORK_BITS
    return str(ip.ipv4_mapped or IPv6Address(int(ip) >> host_bits << host_bits))
