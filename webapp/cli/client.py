"""A hub somewhere else: its address, a token, and what its answers mean."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import click

from ..config.parsers import duration
from .retry import PermanentFailure, TemporaryFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

HERE = "http://localhost:8000"
NEVER = "never"
_LOCAL = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:|/|$)")
_AGAIN = {408, 425, 429}  # and all from 500 on
_MOST_ANSWER = 1 << 20
_CONNECT = 10.0  # seconds
_MOVED = range(300, 400)
_OK = 200
_OPTIONS = {
    "token": "A token, where the hub wants one; better kept in the environment.",
    "url": f"Where the hub is; else {HERE}.",
}
_ERROR = 500


class Duration(click.ParamType[float]):
    """Seconds, or `15s`, `5m`, `2h`, `7d`, or `never`."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return seconds."""
        if isinstance(value, float):
            return value
        try:
            return float("inf") if value == NEVER else duration(value)
        except ValueError as error:
            return self.fail(f"It is {error}; or {NEVER}.", param, ctx)


def remote_options(*, env: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add --url and --token; they may stand before a command's name or after it.

    :param env: read them from the environment, too.
    """

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for name, text in _OPTIONS.items():
            variable = f"TIDINGS_{name.upper()}" if env else None
            command = click.option(
                f"--{name}", metavar=name.upper(), help=text, envvar=variable, show_envvar=env
            )(command)
        return command

    return add


@dataclass(frozen=True)
class HubClient:
    """A hub's address and a token for it."""

    parts: SplitResult
    token: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str | None, token: str | None) -> HubClient:
        """Return the hub that a command's options, or those before its name, mean.

        :raises click.UsageError: the URL or the token is none.
        """
        first = click.get_current_context().obj or (None, None)
        return cls.at(url or first[0] or HERE, token or first[1])

    @classmethod
    def at(cls, url: str, token: str | None) -> HubClient:
        """Return the hub at a URL, which may also be that of its events.

        :raises click.UsageError: the URL or the token is none.
        """
        if "://" not in url:
            url = ("http://" if _LOCAL.match(url) else "https://") + url
        try:
            parts = urlsplit(url)
            named = (parts.hostname or "").encode("idna")  # as it will be looked up
            good = parts.scheme in {"http", "https"} and named and parts.port != 0
        except ValueError:
            good = False
        if not good or not url.isascii() or not url.isprintable() or " " in url:
            message = "The URL of a hub is like https://hub.example."
            raise click.UsageError(message)
        if parts.username is not None or parts.query or parts.fragment:
            message = "A hub's URL ends with its path; the token goes into TIDINGS_TOKEN."
            raise click.UsageError(message)
        path = parts.path.rstrip("/")
        if not path.endswith(("/events", "/.well-known/mercure")):
            path += "/events"
        token = (token or "").strip() or None
        if token and not re.fullmatch(r"[!-~]+", token):
            message = "The token is none: it has characters that no token has."
            raise click.UsageError(message)
        return cls(parts._replace(path=path), token)

    @property
    def where(self) -> str:
        """How to call it in a message."""
        return f"{self.parts.scheme}://{self.parts.netloc}"

    def beside(self, path: str) -> str:
        """Return the path of another page of the hub, as `/readyz`."""
        base = self.parts.path.removesuffix("/events").removesuffix("/.well-known/mercure")
        return base + path

    def connect(self, timeout: float) -> http.client.HTTPConnection:
        """Return a connection, connected; HTTPS_PROXY and NO_PROXY are respected.

        :raises Failed: its certificate is not accepted.
        :raises Away: nobody answers there.
        """
        host, port = self.parts.hostname or "", self.parts.port
        if self.parts.scheme == "http":
            connection = http.client.HTTPConnection(host, port, timeout=_CONNECT)
        else:
            context = ssl.create_default_context()
            context.set_alpn_protocols(["http/1.1"])
            named = "" if proxy_bypass(host) else getproxies().get("https", "")
            proxy = urlsplit(named if "//" in named else f"//{named}")  # as curl, no scheme needed
            if proxy.hostname:
                connection = http.client.HTTPSConnection(
                    proxy.hostname, proxy.port, timeout=_CONNECT, context=context
                )
                connection.set_tunnel(host, port)
            else:
                connection = http.client.HTTPSConnection(
                    host, port, timeout=_CONNECT, context=context
                )
        with self.talking(certain=True):
            connection.connect()
            connection.sock.settimeout(timeout)
            connection.timeout = timeout
        return connection

    @contextmanager
    def talking(self, *, certain: bool = False) -> Iterator[None]:
        """Turn what can go wrong on a connection into what it means.

        :raises Failed: there is no hub, or its certificate is not accepted.
        :raises Away: the connection is lost, or was not made.
        """
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            raise self._meaning(error, certain=certain) from error

    def _meaning(self, error: Exception, *, certain: bool) -> PermanentFailure | TemporaryFailure:
        where = self.where
        if isinstance(error, ssl.SSLCertVerificationError):
            why = f"{where}: its certificate is not accepted: {error.verify_message}."
            return PermanentFailure(f"{why} SSL_CERT_FILE can name an authority of your own.")
        if isinstance(error, ssl.SSLError) and certain:
            return PermanentFailure(f"{where} does not speak TLS ({error.reason}); is it http://?")
        if isinstance(error, TimeoutError):
            return TemporaryFailure(f"{where} does not answer", certain=certain)
        if isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead):
            return TemporaryFailure(f"{where} has hung up")
        if isinstance(error, http.client.BadStatusLine):
            return PermanentFailure(f"{where} does not speak HTTP; is it https://?")
        why = getattr(error, "strerror", None) or type(error).__name__
        return TemporaryFailure(f"{where}: {why}", certain=certain)

    def ask(  # noqa: PLR0913 - what a request has
        self,
        connection: http.client.HTTPConnection,
        method: str,
        *,
        query: list[tuple[str, str]] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        path: str | None = None,
    ) -> http.client.HTTPResponse:
        """Send a request with the token, and return the answer once its head is there."""
        target = path or self.parts.path
        if query:
            target += "?" + urlencode(query)
        said = {"User-Agent": "tidings", **(headers or {})}
        if self.token:
            said["Authorization"] = f"Bearer {self.token}"
        with self.talking():
            connection.request(method, target, body, said)
            return connection.getresponse()

    def publish(
        self,
        connection: http.client.HTTPConnection,
        fields: Mapping[str, Any],
        accept: str = "text/plain",
    ) -> str:
        """Publish an event, as a form: any hub that speaks Mercure takes it.

        :returns: what the hub answers, which is the event's id where plain text is accepted.
        :raises Failed: it refuses.
        :raises Away: it does not answer, or says: later.
        """
        body = urlencode(fields, doseq=True).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": accept}
        answer = self.ask(connection, "POST", body=body, headers=headers)
        return self.read(answer).decode("utf-8", "replace").strip()

    def read(self, response: http.client.HTTPResponse) -> bytes:
        """Return the body of an answer that is 200.

        :raises Failed: it is another one, and would be again.
        :raises Away: it says: later.
        """
        with self.talking():
            body = response.read(_MOST_ANSWER)
        if response.status != _OK:
            raise self.refusal(response, body)
        return body

    def refusal(
        self, response: http.client.HTTPResponse, body: bytes
    ) -> PermanentFailure | TemporaryFailure:
        """Return what an answer that is not 200 means."""
        status, about = response.status, _problem(body)
        told = self.safe(f"{about.get('detail', '')} {about.get('remedy', '')}".strip())
        message = f"{self.where} answers {status}: {told or self.safe(response.reason)}"
        if status >= _ERROR or status in _AGAIN:
            wait = response.headers.get("Retry-After", "")
            seconds = float(wait) if re.fullmatch(r"[0-9]{1,4}", wait) else 0.0
            published = about.get("published")
            return TemporaryFailure(
                message, wait=seconds, published=published if isinstance(published, int) else 0
            )
        if status in _MOVED:
            place = urlsplit(response.headers.get("Location", ""))
            message += f" It is at {self.safe(f'{place.scheme}://{place.netloc}{place.path}')} now."
        elif not about:
            message += " Is there a hub?"
        elif status == 401:  # noqa: PLR2004 - Unauthorized
            message += " For this command that is --token or TIDINGS_TOKEN."
        return PermanentFailure(message, status, about)

    def safe(self, text: str) -> str:
        """Return a text from elsewhere as it may be shown: without the token, on one line."""
        text = text.replace(self.token, "…") if self.token else text
        return "".join(letter if letter.isprintable() else " " for letter in text)[:1000]


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """Return a JSON object, or None where a text from elsewhere is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _problem(body: bytes) -> dict[str, Any]:
    about = json_object(body) or {}
    return about if "detail" in about else {}
