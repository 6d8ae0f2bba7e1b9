"""Every setting, its type, its default and its reason; what contradicts itself is refused."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from ..errors import Misconfigured
from . import parsers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "TIDINGS_"
_CLIENT = {PREFIX + "URL", PREFIX + "TOKEN"}  # of the command line: no settings of the hub
_THEIRS = "$REDIS_URL"
_SMALL: dict[str, dict[str, int]] = {  # where the log takes memory; small Redis plans have 25 MB
    "memory": {"history_events": 10_000, "history_bytes": 64 << 20},
    "redis": {"history_events": 10_000},
    "rediss": {"history_events": 10_000},
}


def _setting(default: Any, parse: Callable[[str], Any]) -> Any:
    return field(default=default, metadata={"parse": parse})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The hub's settings; each field is the environment's `TIDINGS_<NAME>`, in upper case."""

    broker_url: str = _setting("sqlite:///instance/tidings.db", parsers.broker_url)
    """Which log: `memory://` of a process, `sqlite:///path` of a machine, `redis://` of many."""
    jwt_key: tuple[str, ...] = _setting((), parsers.keys)
    """The keys that tokens are signed with, a shared secret or PEM; none: nobody needs a token."""
    publisher_jwt_key: tuple[str, ...] = _setting((), parsers.keys)
    """The keys of publishers' tokens, where they are others."""
    subscriber_jwt_key: tuple[str, ...] = _setting((), parsers.keys)
    """The keys of readers' tokens, where they are others."""
    jwks_url: str | None = _setting(None, parsers.url)
    """Where public keys are published as a JWKS; they count beside the keys above."""
    jwt_algorithm: tuple[str, ...] = _setting((), parsers.algorithms)
    """Which algorithms are accepted; by default all that fit the type of a key."""
    jwt_audience: str | None = _setting(None, str)
    """What `aud` must hold, if it is set."""
    jwt_issuer: str | None = _setting(None, str)
    """What `iss` must be, if it is set."""
    max_token_age: float = _setting(30 * 86400.0, parsers.positive_duration)
    """Seconds for which a revoked subject is remembered; at least the longest life of a token that
    has one.
    """
    anonymous: bool = _setting(default=True, parse=parsers.flag)
    """Whether people without a token may read public events."""
    open: bool = _setting(default=False, parse=parsers.flag)
    """Run without a key where others can reach the hub."""
    cors_origins: tuple[str, ...] = _setting((), parsers.origins)
    """Whose pages may listen from another origin; `null` is a page opened from a file."""
    publish_origins: tuple[str, ...] = _setting((), parsers.named_origins)
    """Whose pages may publish with a cookie, or without a key, beside the hub's own."""
    trusted_proxies: int = _setting(0, parsers.count)
    """How many proxies append to X-Forwarded-For; one by default where `PORT` is set."""
    history_events: int = _setting(1_000_000, parsers.positive_int)
    """How many events the log keeps; less by default where it takes memory, see `_SMALL`."""
    history_age: float = _setting(7 * 86400.0, parsers.positive_duration)
    """How long the log keeps an event, in seconds."""
    history_bytes: int = _setting(1 << 30, parsers.size)
    """How many bytes the log may take, on disk or in memory; Redis has a limit of its own."""
    window_events: int = _setting(10_000, parsers.positive_int)
    """How many of the newest events a process keeps at hand."""
    window_bytes: int = _setting(64 << 20, parsers.size)
    """How many bytes of memory the events at hand may take."""
    heartbeat: float = _setting(15.0, parsers.positive_duration)
    """Seconds of silence before a heartbeat; below every proxy's idle limit."""
    retry: float = _setting(2.0, parsers.positive_duration)
    """Seconds a reader is told to wait before it reconnects, jittered."""
    max_age: float = _setting(3600.0, parsers.duration)
    """Seconds a stream lasts, jittered 80 to 100 %; 0: for ever."""
    write_timeout: float = _setting(30.0, parsers.positive_duration)
    """Seconds without progress after which a reader that does not read is let go."""
    min_send_rate: int = _setting(1 << 10, parsers.count)
    """Bytes a second that a client must take of what waits for it, over the write time-out;
    0: any number.
    """
    header_timeout: float = _setting(10.0, parsers.positive_duration)
    """Seconds a client may take for a request's line and headers."""
    max_header_bytes: int = _setting(16 << 10, parsers.header_size)
    """Bytes of one header of a request; all together may be 8 KB more."""
    body_timeout: float = _setting(30.0, parsers.positive_duration)
    """Seconds without a byte after which a request's body is given up."""
    pipe_idle: float = _setting(3600.0, parsers.positive_duration)
    """Seconds without a byte after which an NDJSON pipe is ended and answered."""
    max_event_bytes: int = _setting(1 << 20, parsers.size)
    """Bytes of data in one event."""
    max_topic_bytes: int = _setting(64 << 10, parsers.size)
    """Bytes of all topics of one event: each is matched against what subscribers ask for."""
    max_body_bytes: int = _setting(8 << 20, parsers.size)
    """Bytes of one request's body, or of one line of an NDJSON pipe."""
    max_subscribers: int | None = _setting(None, parsers.count)
    """Open streams per worker; None: 80 % of the file limit, 0: no limit."""
    max_subscribers_per_ip: int = _setting(0, parsers.count)
    """Open streams per worker and client address, or IPv6 network (/64); 0: no limit."""
    max_replay_bytes: int = _setting(64 << 20, parsers.size)
    """Bytes of replays that are being sent per worker; half of them to one client."""
    max_variables: int = _setting(50, parsers.positive_int)
    """Variables of all URI templates of one stream: what an event costs grows with them."""
    max_pipes: int | None = _setting(None, parsers.count)
    """Open NDJSON pipes per worker; None: 10 % of the file limit, 0: no limit."""
    max_pipes_per_publisher: int = _setting(32, parsers.count)
    """Open NDJSON pipes per worker and token, or address where there are none; 0: no limit."""
    publish_rate: float = _setting(0.0, parsers.rate)
    """Events a second that a token, or an address where there are none, may publish per worker;
    0: no limit.
    """
    presence_lease: float = _setting(15.0, parsers.positive_duration)
    """Seconds after which a killed worker's readers are no longer listed."""
    drain: float = _setting(10.0, parsers.positive_duration)
    """Seconds in which a stopping worker says goodbye to its readers."""
    demo: bool = _setting(default=False, parse=parsers.flag)
    """Whether the tutorial's `Event 0`, `Event 1`, … are published while somebody listens."""
    port: int | None = None
    """The platform's PORT; None: nobody but this machine can reach the hub."""
    web_concurrency: int = 1
    """How many workers, as platforms set it."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings; the demo is on by default where nothing at all is configured.

        :raises Misconfigured: a setting is unknown, unreadable or contradicts another.
        """
        names = {PREFIX + f.name.upper(): f for f in fields(cls) if "parse" in f.metadata}
        values: dict[str, Any] = {}
        for name, text in environ.items():
            if name.startswith(PREFIX) and name not in _CLIENT:
                if name not in names:
                    raise _unknown(name, list(names))
                meant = _expanded(name, text, environ)
                values[names[name].name] = _read(name, meant, names[name].metadata["parse"])
        if PREFIX + "BROKER_URL" not in environ and (url := environ.get("REDIS_URL")):
            values["broker_url"] = _read("REDIS_URL", url, parsers.broker_url)
        platform = _platform(environ)
        values.setdefault("demo", not values and not platform)
        values.setdefault("trusted_proxies", int("port" in platform))
        scheme = urlsplit(values.get("broker_url", cls.broker_url)).scheme
        settings = cls(**{**_SMALL.get(scheme, {}), **values}, **platform)
        settings.check_consistency()
        return settings

    @property
    def bind(self) -> str:
        """The address to listen on: a platform's port for all, else this machine only."""
        return "127.0.0.1:8000" if self.port is None else f"0.0.0.0:{self.port}"

    @property
    def publisher_keys(self) -> tuple[str, ...]:
        """The keys of publishers' tokens."""
        return self.publisher_jwt_key or self.jwt_key

    @property
    def subscriber_keys(self) -> tuple[str, ...]:
        """The keys of readers' tokens."""
        return self.subscriber_jwt_key or self.jwt_key

    @property
    def auth_enabled(self) -> bool:
        """Whether there is a key for anybody."""
        return bool(self.publisher_keys or self.subscriber_keys or self.jwks_url)

    @property
    def local(self) -> bool:
        """Whether the hub is one on a laptop: no key, and meant for this machine only."""
        return not self.auth_enabled and not self.open

    @property
    def broker_label(self) -> str:
        """The broker's URL without its password and its options."""
        url = urlsplit(self.broker_url)
        return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"

    def check_consistency(self) -> None:
        """Refuse settings that contradict each other.

        :raises Misconfigured: with the setting to change.
        """
        if not (self.anonymous or self.subscriber_keys or self.jwks_url):
            detail = "TIDINGS_ANONYMOUS=0 lets nobody in without a token, and there is no key."
            raise Misconfigured(detail, f"To have tokens {parsers.KEY_HINT}.")
        if self.auth_enabled and not (self.publisher_keys or self.jwks_url):
            detail = "There is a key for readers only, so nobody could publish."
            raise Misconfigured(detail, "Set TIDINGS_PUBLISHER_JWT_KEY, or TIDINGS_JWT_KEY.")
        if self.max_event_bytes > self.max_body_bytes:
            detail = "TIDINGS_MAX_EVENT_BYTES is larger than TIDINGS_MAX_BODY_BYTES."
            raise Misconfigured(detail, "Raise the second or lower the first.")

    def check_exposure(self, *, workers: int, reachable: bool) -> None:
        """Refuse a place where these settings would lie or leave the hub open to strangers.

        :param workers: how many processes serve.
        :param reachable: whether others than this machine's users can connect.
        :raises Misconfigured: with the setting to change.
        """
        if workers > 1 and self.broker_url.startswith("memory:"):
            detail = f"{workers} workers would each have a log of their own with memory://."
            remedy = "Leave TIDINGS_BROKER_URL out, or set WEB_CONCURRENCY=1."
            raise Misconfigured(detail, remedy)
        if reachable and self.local:
            detail = "Others can reach this hub, and without a key everybody could publish."
            remedy = f"For a key, {parsers.KEY_HINT}; to run open all the same, set TIDINGS_OPEN=1."
            raise Misconfigured(detail, remedy)


def _platform(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if port := environ.get("PORT"):
        values["port"] = _read("PORT", port, parsers.port)
    if workers := environ.get("WEB_CONCURRENCY"):
        values["web_concurrency"] = _read("WEB_CONCURRENCY", workers, parsers.positive_int)
    return values


def _read(name: str, text: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(text.strip())
    except ValueError as error:
        detail = f"{name} cannot be read."
        raise Misconfigured(detail, f"Set it to {error}.") from None


def _expanded(name: str, text: str, environ: Mapping[str, str]) -> str:
    """Put the platform's URL, whose password it may change, where the setting adds to it."""
    if name != PREFIX + "BROKER_URL" or not text.startswith(_THEIRS):
        return text
    if not environ.get(_THEIRS[1:]):
        detail = f"{name} begins with {_THEIRS}, and there is no REDIS_URL."
        raise Misconfigured(detail, "Add a Redis to the app, or leave the setting out.")
    return text.replace(_THEIRS, environ[_THEIRS[1:]], 1)


def _unknown(name: str, known: list[str]) -> Misconfigured:
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(known)}."
    return Misconfigured(f"{name} is not a setting of Tidings.", remedy)
