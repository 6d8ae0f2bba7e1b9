"""The result of one check, and the remedies that depend on the proxy."""

from __future__ import annotations

from dataclasses import dataclass

BUFFERING = {
    "nginx": "nginx, in its location: proxy_buffering off; proxy_http_version 1.1;"
    " proxy_read_timeout 1h; and no proxy_ignore_headers X-Accel-Buffering.",
    "caddy": "Caddy, in its reverse_proxy: flush_interval -1",
    "apache": "Apache: ProxyPass with flushpackets=on, and no mod_deflate for it.",
    "": "Turn off buffering for it in each proxy (nginx: proxy_buffering off; Apache:"
    " flushpackets=on; lighttpd: server.stream-response-body = 2), and let none"
    " ignore the header X-Accel-Buffering: no.",
}
COMPRESSION = {
    "nginx": "nginx, in its location: gzip off; and text/event-stream in no gzip_types.",
    "caddy": "Caddy: encode with a match that leaves text/event-stream out.",
    "": "Turn off compression for text/event-stream in the proxy.",
}
LATENCY = (
    "HAProxy delays each event by 200 ms: option http-no-delay. Other proxies: turn off buffering."
)
ABORTS = (
    "HAProxy: option abortonclose. Varnish: return (pipe). Apache and lighttpd notice it only by"
    " heartbeats: TIDINGS_HEARTBEAT=5s."
)


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    :param state: `ok`, `bad`, or `left`: it was not checked, or may be intended.
    :param remedy: how to fix it.
    """

    name: str
    state: str
    detail: str
    remedy: str = ""


def passed(name: str, detail: str) -> CheckResult:
    """Nothing is wrong."""
    return CheckResult(name, "ok", detail)


def failed(name: str, detail: str, remedy: str = "") -> CheckResult:
    """Something is wrong."""
    return CheckResult(name, "bad", detail, remedy)


def judged(name: str, detail: str, good: bool, remedy: str) -> CheckResult:  # noqa: FBT001 - computed
    """Nothing is wrong, or something is."""
    return passed(name, detail) if good else failed(name, detail, remedy)


def skipped(name: str, detail: str, remedy: str = "") -> CheckResult:
    """It was not checked, or what was found may be intended."""
    return CheckResult(name, "left", detail, remedy)


def remedy_for(server: str, remedies: dict[str, str]) -> str:
    """Return the one of several remedies for what a response's header Server names."""
    return next(text for name, text in remedies.items() if name in server.lower())
