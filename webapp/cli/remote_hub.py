"""The hub that a command talks to: its URL, and the token for it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from urllib.parse import SplitResult

_DEFAULT_URL = "http://localhost:8000"
_LOOPBACK = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:|/|$)")
_ENDPOINT = re.compile(r"(/events|/\.well-known/mercure)$")
_MAX_SHOWN_CHARS = 1000


def hub_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --url and --token, which may stand before a command's name or after it."""
    text = "Token for the hub. Default: TIDINGS_TOKEN; unlike this option it stays secret."
    command = click.option("--token", metavar="TOKEN", help=text)(command)
    text = f"URL of the hub. Default: TIDINGS_URL, else {_DEFAULT_URL}."
    return click.option("--url", metavar="URL", help=text)(command)


@dataclass(frozen=True)
class RemoteHub:
    """Where a hub is, and the token to send to it."""

    url: SplitResult
    token: str | None = field(default=None, repr=False)

    @classmethod
    def from_options(cls, url: str | None, token: str | None) -> RemoteHub:
        """Return the hub that a command's options name, those before its name, or the environment.

        :raises click.UsageError: the URL or the token is not valid.
        """
        first, env = click.get_current_context().obj, os.environ.get
        url = url or first["url"] or env("TIDINGS_URL") or _DEFAULT_URL
        token = (token or first["token"] or env("TIDINGS_TOKEN") or "").strip() or None
        if token and not re.fullmatch(r"[!-~]+", token):
            message = "The token has characters that are not allowed in a token."
            raise click.UsageError(message)
        return cls(_parse(url), token)

    @property
    def origin(self) -> str:
        """Its scheme, host and port, as messages name it."""
        return f"{self.url.scheme}://{self.url.netloc}"

    def sibling_path(self, path: str) -> str:
        """Return the path of another of its pages, as `/readyz`."""
        return _ENDPOINT.sub("", self.url.path) + path

    def redact(self, text: str) -> str:
        """Return a foreign text as it may be printed: without the token, on one line, cut."""
        text = text.replace(self.token, "…") if self.token else text
        return "".join(it if it.isprintable() else " " for it in text)[:_MAX_SHOWN_CHARS]


def _parse(url: str) -> SplitResult:
    """Return the URL of a hub's events, from that or from the hub's own."""
    if "://" not in url:
        url = ("http://" if _LOOPBACK.match(url) else "https://") + url
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")  # as the resolver will encode it
        valid = parts.scheme in {"http", "https"} and host and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isascii() or not url.isprintable() or " " in url:
        message = "The URL of a hub is like https://hub.example."
        raise click.UsageError(message)
    if parts.username is not None or parts.query or parts.fragment:
        message = "A hub's URL ends with its path; the token goes into TIDINGS_TOKEN."
        raise click.UsageError(message)
    path = parts.path.rstrip("/")
    return parts._replace(path=path if _ENDPOINT.search(path) else f"{path}/events")
