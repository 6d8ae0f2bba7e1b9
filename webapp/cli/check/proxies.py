"""Checks of what proxies may break besides a stream: pages, pipes, and noticing who left."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from ..client import HubClient, json_object
from ..retry import TemporaryFailure
from .recorder import RecordingSubscriber
from .results import ABORTS, failed, passed, skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..remote_hub import RemoteHub
    from .results import CheckResult

_TIMEOUT_S = 15.0
_NOTICE_S = 3.0  # within which a hub must notice what reaches it
_POLL_S = 0.05
_PAGE_FILE = re.compile(rb'(?:src|href)="(static/[\w./-]+)"')
_PRESENCE_PATH = "/.well-known/mercure/subscriptions/"
_PREFIX_REMEDY = (
    "Set SCRIPT_NAME to the path of the hub, such as /hub, and let the proxy pass it on unchanged."
)
_PIPE_REMEDY = (
    "Turn off the buffering of requests (nginx: proxy_request_buffering off; lighttpd:"
    " server.stream-request-body = 2). `tidings publish` does not need it."
)


def check_page(hub: RemoteHub) -> CheckResult:
    """Check whether the hub's page gets the files that it names."""
    path = hub.sibling_path("/")
    with HubClient(hub, _TIMEOUT_S) as client:
        try:
            page = client.read(client.request("GET", path))
        except (TemporaryFailure, click.ClickException):
            return skipped("page", "the hub shows none here")
        names = sorted({name.decode() for name in _PAGE_FILE.findall(page)})
        missing = [name for name in names if not _is_found(client, path + name)]
    if missing:
        detail = f"{len(missing)} of its {len(names)} files are missing, such as {path}{missing[0]}"
        return failed("page", detail, _PREFIX_REMEDY)
    return passed("page", f"with all its {len(names)} files")


def _is_found(client: HubClient, path: str) -> bool:
    try:
        client.read(client.request("GET", path))
    except (TemporaryFailure, click.ClickException):
        return False
    return True


def check_pipe(hub: RemoteHub, stream: RecordingSubscriber, members: dict[str, Any]) -> CheckResult:
    """Check whether a line of a pipe arrives before the pipe ends."""
    arrived = False

    def lines() -> Iterator[bytes]:
        nonlocal arrived
        yield json.dumps({**members, "data": "piped"}).encode() + b"\n"
        arrived = stream.wait_until(lambda it: "piped" in it.data, _NOTICE_S)

    headers = {"Content-Type": "application/x-ndjson"}
    with HubClient(hub, _TIMEOUT_S) as client:
        client.read(client.request("POST", body=lines(), headers=headers))
    if arrived:
        return passed("pipe", "a line passes before the next one is sent")
    return skipped("pipe", "a proxy holds the lines of a pipe back until its end", _PIPE_REMEDY)


def check_disconnection(hub: RemoteHub, topic: str) -> CheckResult:
    """Check whether the hub notices that a subscriber has left, which presence shows."""
    name = "disconnection"
    if not hub.token:
        return skipped(name, "not checked: presence needs a token")
    path = hub.sibling_path(_PRESENCE_PATH + quote(topic, safe=""))
    with HubClient(hub, _TIMEOUT_S) as client:
        try:
            with RecordingSubscriber(hub, {"topic": topic}):
                if not _wait_for_count(client, path, 1):
                    return skipped(name, "presence does not list the subscriber")
            left_at = time.monotonic()
            noticed = _wait_for_count(client, path, 0)
        except click.ClickException:
            remedy = f"To check it, grant -s '{_PRESENCE_PATH}tidings-check-{{id}}', too."
            return skipped(name, "not checked: it needs a token that may read presence", remedy)
    if noticed:
        return passed(name, f"noticed after {(time.monotonic() - left_at) * 1000:.0f} ms")
    detail = f"not noticed within {_NOTICE_S:g} s: presence still lists the client"
    return skipped(name, detail, ABORTS)


def _wait_for_count(client: HubClient, path: str, count: int) -> bool:
    """Wait until presence lists so many subscribers; return whether it does."""
    deadline = time.monotonic() + _NOTICE_S
    while time.monotonic() < deadline:
        listing = json_object(client.read(client.request("GET", path)).decode()) or {}
        if len(listing.get("subscriptions", ())) == count:
            return True
        time.sleep(_POLL_S)
    return False
