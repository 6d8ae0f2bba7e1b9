"""Who takes how much: streams per address, events a second, and what tells one client from another.

What is kept about a client is its address or a hash of its token, for as long as it matters.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from ipaddress import IPv6Address, ip_address
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..errors import ServiceUnavailable, TooManyRequests

if TYPE_CHECKING:
    from collections.abc import Callable

_BUCKETS = 10_000  # clients whose rate is remembered
_SITE = 64  # bits of an IPv6 address that one customer has to himself (RFC 6177)


def behind(app: Callable[..., Any], proxies: int) -> Callable[..., Any]:
    """Return a WSGI app that knows its clients' own addresses.

    As Werkzeug's ProxyFix, and what is no address is ignored: it would end up in the access log.

    :param proxies: how many of them append to X-Forwarded-For. It is counted from its end: what
        lies before their entries anybody may have written.
    """

    def with_address(environ: dict[str, Any], start_response: Any) -> Any:
        entries = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
        if len(entries) >= proxies and (found := _address(entries[-proxies].strip())):
            environ["REMOTE_ADDR"] = found
        return app(environ, start_response)

    return with_address


def _address(entry: str) -> str | None:
    """Return the address in `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`."""
    for text in (entry, entry.rpartition(":")[0].strip("[]")):
        try:
            return str(ip_address(text))
        except ValueError:
            continue
    return None


def client(address: str | None) -> str:
    """Return what tells clients apart: an IPv4 address, or the network of an IPv6 one, which has
    more addresses than could be counted.
    """
    address = address or ""  # who comes through a Unix socket is one client
    if ":" not in address:
        return address  # to try whether it is one of IPv6 would cost more than all else here
    try:
        ip = IPv6Address(address)
    except ValueError:
        return address
    return str(ip.ipv4_mapped or IPv6Address(int(ip) >> _SITE << _SITE))


class StreamQuota:
    """How many streams are open, in all and for each client.

    :param most: streams in all; 0: any number.
    :param most_each: streams of one client; 0: any number.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._open = 0
        self._taken: Counter[str] = Counter()

    def check(self, client: str) -> None:
        """Refuse a stream for which there is no room.

        :raises Unavailable: the hub is full.
        :raises TooMany: the client has as many as it may.
        """
        if self._most and self._open >= self._most:
            detail = "The hub is full."
            remedy = "Come back later, or raise TIDINGS_MAX_SUBSCRIBERS."
            raise ServiceUnavailable(detail, remedy, reason="full")
        if self._most_each and self._taken[client] >= self._most_each:
            detail = f"There are {self._most_each} streams open from this address."
            remedy = "Close one, or raise TIDINGS_MAX_SUBSCRIBERS_PER_IP."
            raise TooManyRequests(detail, remedy, wait=1, reason="too_many")

    def enter(self, client: str) -> None:
        """Count a stream; `leave` must follow."""
        self._open += 1
        self._taken[client] += 1

    def leave(self, client: str) -> None:
        """Count it no more."""
        self._open -= 1
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]


class Rate:
    """Each client's events a second: a bucket that fills steadily and holds one second's worth.

    :param each_second: how many events; 0: any number.
    :param clock: seconds that only go forward.
    """

    def __init__(self, each_second: float, clock: Callable[[], float] = monotonic) -> None:
        self.burst = max(1.0, each_second) if each_second else float("inf")
        self._each_second = each_second
        self._clock = clock
        # When it will be full again, the least recently used first.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, client: str, count: int) -> float:
        """Take `count` events out of a client's bucket; 0 only looks whether there is one.

        More than it holds can be taken when it is full, and it then fills from below zero: over
        time nobody gets more than the rate.

        :returns: 0.0, or the seconds after which it would succeed; then nothing was taken.
        """
        if not self._each_second:
            return 0.0
        now = self._clock()
        full_at = max(now, self._full_at.get(client, now))
        needed = min(max(count, 1), self.burst)
        wait = full_at - now - (self.burst - needed) / self._each_second
        if wait > 0:
            return wait
        if count:
            self._full_at[client] = full_at + count / self._each_second
            self._full_at.move_to_end(client)
            if len(self._full_at) > _BUCKETS:
                self._full_at.popitem(last=False)
        return 0.0
