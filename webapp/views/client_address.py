"""Which client a request comes from, and by which scheme, behind proxies."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_SCHEMES = {"http", "https"}
_IPV6_NETWORK_BITS = 64  # one customer has at least such a network (RFC 6177)


def behind(app: Callable[..., Any], proxies: int) -> Callable[..., Any]:
    """Return a WSGI app that sees its clients' addresses and scheme instead of its proxies'.

    Like Werkzeug's ProxyFix, but an entry may have a port, and an entry that is not an address is
    ignored: it would get into the access log.

    :param proxies: how many trusted proxies append to X-Forwarded-For. Entries are counted from
        the end, because a client can write anything before them.
    """

    def with_address(environ: dict[str, Any], start_response: Any) -> Any:
        environ["REMOTE_ADDR"], environ["wsgi.url_scheme"] = before(environ, proxies)
        return app(environ, start_response)

    return with_address


def before(environ: dict[str, Any], proxies: int) -> tuple[str, str]:
    """Return a request's address and scheme, as they were before the proxies."""
    address, scheme = environ.get("REMOTE_ADDR", ""), environ["wsgi.url_scheme"]
    if "HTTP_X_FORWARDED_PROTO" in environ:
        # Most proxies write one entry in place of those before it.
        schemes = environ["HTTP_X_FORWARDED_PROTO"].split(",")
        found = schemes[-min(proxies, len(schemes))].strip().lower()
        scheme = found if found in _SCHEMES else scheme
    entries = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
    if len(entries) >= proxies:
        address = _address(entries[-proxies].strip()) or address
    return address, scheme


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
