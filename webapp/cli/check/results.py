"""What `tidings check` found, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass

OK, BAD, LEFT = "ok", "bad", "left"  # left: not looked at, or a matter of taste
_UNHELD = {
    "nginx": "nginx, in its location: proxy_buffering off; proxy_http_version 1.1;"
    " proxy_read_timeout 1h; and no proxy_ignore_headers X-Accel-Buffering.",
    "caddy": "Caddy, in its reverse_proxy: flush_interval -1",
    "apache": "Apache: ProxyPass with flushpackets=on, and no mod_deflate for it.",
    "": "Turn off buffering for it in each proxy (nginx: proxy_buffering off; Apache:"
    " flushpackets=on), and let none ignore the header X-Accel-Buffering: no.",
}
_UNZIPPED = {
    "nginx": "nginx, in its location: gzip off; and text/event-stream in no gzip_types.",
    "caddy": "Caddy: encode with a match that leaves text/event-stream out.",
    "": "Turn off compression for text/event-stream in the proxy.",
}


@dataclass(frozen=True)
class CheckResult:
    """What was found about one thing.

    :param remedy: how to mend it.
    """

    name: str
    state: str
    detail: str
    remedy: str = ""


def unheld(server: str) -> str:
    """Return how to have events passed on at once, for what a Server header names."""
    return _of(_UNHELD, server)


def unzipped(server: str) -> str:
    """Return how to have a stream passed on uncompressed."""
    return _of(_UNZIPPED, server)


def _of(remedies: dict[str, str], server: str) -> str:
    return next(text for name, text in remedies.items() if name in server.lower())
