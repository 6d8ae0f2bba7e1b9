"""Every setting with its type and default, read from the environment and checked."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from ..errors import Misconfigured
from . import folders, parsers, secret_files, setting_names, variables
from .setting_names import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CLI_VARIABLES = {"TIDINGS_URL", "TIDINGS_TOKEN"}  # of the command `tidings`
# Where the event log is in memory, it is smaller by default: small Redis plans have 25 MB.
_BROKER_DEFAULTS: dict[str, dict[str, int]] = {
    "memory": {"history_events": 10_000, "history_bytes": 64 << 20},
    "redis": {"history_events": 100_000, "history_bytes": 16 << 20},
    "rediss": {"history_events": 100_000, "history_bytes": 16 << 20},
    "postgresql": {"history_bytes": 256 << 20},
    "postgres": {"history_bytes": 256 << 20},
}
_IN_FILES = {parsers.keys, parsers.broker_url}  # of the settings that may be in a file


def _setting(default: Any, parse: Callable[[str], Any]) -> Any:
    return field(default=default, metadata={"parse": parse})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The hub's settings. Each field is the environment variable `TIDINGS_<FIELD>`."""

    broker_url: str = _setting("sqlite:///instance/tidings.db", parsers.broker_url)
    """Where the event log is: `memory://` (one process), `sqlite:///path` (one machine), or
    `redis://` or `postgresql://` (many machines).
    """
    jwt_key: tuple[str, ...] = _setting((), parsers.keys)
    """Keys that tokens are checked with: shared secrets, or public keys as PEM. Without any key,
    nobody needs a token.
    """
    publisher_jwt_key: tuple[str, ...] = _setting((), parsers.keys)
    """Keys for publishers' tokens, if these are signed with other keys."""
    subscriber_jwt_key: tuple[str, ...] = _setting((), parsers.keys)
    """Keys for subscribers' tokens, if these are signed with other keys."""
    jwks_url: str | None = _setting(None, parsers.url)
    """URL of public keys (a JWKS), used beside the keys above."""
    jwt_algorithm: tuple[str, ...] = _setting((), parsers.algorithms)
    """Algorithms that are accepted; by default all that fit the type of a key."""
    jwt_audience: str | None = _setting(None, str)
    """What a token's `aud` must contain; None: anything."""
    jwt_issuer: str | None = _setting(None, str)
    """What a token's `iss` must be; None: anything."""
    max_token_age: float = _setting(30 * 86400.0, parsers.positive_duration)
    """Seconds for which a revoked subject is remembered: at least the longest life of a token with
    a `sub`.
    """
    anonymous: bool = _setting(default=True, parse=parsers.boolean)
    """Whether clients without a token may subscribe to public events."""
    open: bool = _setting(default=False, parse=parsers.boolean)
    """Run without a key where others can reach the hub."""
    cors_origins: tuple[str, ...] = _setting((), parsers.origins)
    """Other origins whose pages may subscribe; `null` is a page opened from a file."""
    publish_origins: tuple[str, ...] = _setting((), parsers.named_origins)
    """Other origins whose pages may publish with a cookie, or where there is no key."""
    trusted_proxies: int = _setting(0, parsers.non_negative_int)
    """How many proxies append to X-Forwarded-For; by default 1 if `PORT` is set."""
    history_events: int = _setting(1_000_000, parsers.positive_int)
    """How many events the event log keeps; by default less in memory, see `_BROKER_DEFAULTS`."""
    history_age: float = _setting(7 * 86400.0, parsers.positive_duration)
    """Seconds for which the event log keeps an event."""
    history_bytes: int = _setting(1 << 30, parsers.byte_size)
    """Bytes of the event log, on disk or in memory."""
    window_events: int = _setting(10_000, parsers.positive_int)
    """How many of the newest events a process keeps in memory."""
    window_bytes: int = _setting(64 << 20, parsers.byte_size)
    """Bytes of memory that they may take."""
    heartbeat: float = _setting(15.0, parsers.positive_duration)
    """Seconds of silence before a heartbeat; must be less than the idle limit of every proxy."""
    retry: float = _setting(2.0, parsers.positive_duration)
    """Seconds that clients wait before they reconnect, jittered 100 to 150 %."""
    max_age: float = _setting(3600.0, parsers.duration)
    """Seconds that a stream lasts, jittered 80 to 100 %; 0: no limit."""
    write_timeout: float = _setting(30.0, parsers.positive_duration)
    """Seconds without progress after which a client that does not read is disconnected."""
    min_send_rate: int = _setting(1 << 10, parsers.non_negative_byte_size)
    """Bytes a second that a client must take over the write time-out while more waits for it;
    0: no limit.
    """
    header_timeout: float = _setting(10.0, parsers.positive_duration)
    """Seconds for a request's line and headers."""
    max_header_bytes: int = _setting(16 << 10, parsers.header_size)
    """Bytes of one header of a request; all headers together may have 8 KB more."""
    body_timeout: float = _setting(30.0, parsers.positive_duration)
    """Seconds without a byte after which a request's body is given up."""
    pipe_idle: float = _setting(3600.0, parsers.positive_duration)
    """Seconds without a byte after which an NDJSON pipe is ended and answered."""
    max_event_bytes: int = _setting(1 << 20, parsers.byte_size)
    """Bytes of data of one event."""
    max_topic_bytes: int = _setting(64 << 10, parsers.byte_size)
    """Bytes of all topics of one event: each is matched against every subscription."""
    max_body_bytes: int = _setting(8 << 20, parsers.byte_size)
    """Bytes of one request's body, or of one line of an NDJSON pipe."""
    max_subscribers: int | None = _setting(None, parsers.non_negative_int)
    """Open streams per worker; None: 80 % of the file limit, 0: no limit."""
    max_subscribers_per_ip: int = _setting(0, parsers.non_negative_int)
    """Open streams per worker and client address (IPv6: network, /64); 0: no limit."""
    max_replay_bytes: int = _setting(64 << 20, parsers.byte_size)
    """Bytes of replays that are being sent per worker; one client may have half of them."""
    max_variables: int = _setting(50, parsers.positive_int)
    """Variables of all URI templates of one stream: the cost of an event depends on them."""
    max_pipes: int | None = _setting(None, parsers.non_negative_int)
    """Open NDJSON pipes per worker; None: 10 % of the file limit, 0: no limit."""
    max_pipes_per_publisher: int = _setting(32, parsers.non_negative_int)
    """Open NDJSON pipes per worker and token, or address without tokens; 0: no limit."""
    compress: str = _setting("public", parsers.compression)
    """Which streams are compressed for clients that accept gzip: `public`, those that may see no
    private events; `all`; or `off`.
    """
    publish_rate: float = _setting(0.0, parsers.rate)
    """Events a second that a token, or an address without tokens, may publish per worker;
    0: no limit.
    """
    presence_lease: float = _setting(15.0, parsers.positive_duration)
    """Seconds after which a killed worker's subscribers are no longer listed."""
    drain: float = _setting(10.0, parsers.positive_duration)
    """Seconds in which a stopping worker ends its streams."""
    demo: bool = _setting(default=False, parse=parsers.boolean)
    """Whether `Event 0`, `Event 1`, … are published while somebody is subscribed to `events`."""
    bind: tuple[str, ...] = _setting((), parsers.bind)
    """Addresses to listen on, such as `127.0.0.1:8123`. By default `PORT` decides."""
    port: int | None = None
    """The platform's PORT; None: only this machine can reach the hub."""
    web_concurrency: int = 1
    """How many workers there are, as platforms set it."""
    embedded: bool = False
    """Whether the hub is a part of a Flask app, which publishes in process."""
    has_login: bool = False
    """Whether that app decides by its own login what its users may do."""

    given: frozenset[str] = frozenset()
    """The fields that the environment has; the others are defaults, or computed."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **fixed: Any) -> Self:
        """Read the settings. The demo is on by default if nothing at all is configured.

        :param fixed: fields that do not depend on the environment.
        :raises Misconfigured: a setting is unknown, not valid, or contradicts another.
        """
        names = {PREFIX + f.name.upper(): f for f in fields(cls) if "parse" in f.metadata}
        in_files = [name for name, it in names.items() if it.metadata["parse"] in _IN_FILES]
        environ = {**environ, **secret_files.read(environ, in_files)}
        files = [name + secret_files.SUFFIX for name in in_files]
        values: dict[str, Any] = {}
        for name, text in environ.items():
            if name.startswith(PREFIX) and name not in {*_CLI_VARIABLES, *files}:
                if setting_names.is_injected(name, text):
                    continue
                if name not in names:
                    raise setting_names.unknown(name, [*names, *files], environ)
                meant = variables.expanded(name, text, environ)
                values[names[name].name] = variables.read(
                    name, meant, names[name].metadata["parse"]
                )
        if PREFIX + "BROKER_URL" not in environ and (url := environ.get("REDIS_URL")):
            values["broker_url"] = variables.read("REDIS_URL", url, parsers.broker_url)
        given = frozenset(values)
        platform = variables.platform(environ)
        values.setdefault("demo", not platform and all(map(_leaves_demo_on, values.items())))
        values.setdefault("trusted_proxies", int("port" in platform))
        scheme = urlsplit(values.get("broker_url", cls.broker_url)).scheme
        defaults = _BROKER_DEFAULTS.get(scheme, {})
        settings = cls(**{**defaults, **values, **platform, **fixed}, given=given)
        settings.check_consistency()
        return settings

    @property
    def publisher_keys(self) -> tuple[str, ...]:
        """The keys of publishers' tokens."""
        return self.publisher_jwt_key or self.jwt_key

    @property
    def subscriber_keys(self) -> tuple[str, ...]:
        """The keys of subscribers' tokens."""
        return self.subscriber_jwt_key or self.jwt_key

    @cached_property  # asked for at each request
    def auth_enabled(self) -> bool:
        """Whether there is any key, so that tokens are needed."""
        return bool(self.publisher_keys or self.subscriber_keys or self.jwks_url)

    @property
    def key_kinds(self) -> list[str]:
        """What shows who a client is: `secret`, `public`, `jwks`, `app` (the login of an app)."""
        keys = [*self.publisher_keys, *self.subscriber_keys]
        kinds = {"public" if it.startswith("-----BEGIN") else "secret" for it in keys}
        others = {"jwks": self.jwks_url, "app": self.has_login}
        return [*sorted(kinds, reverse=True), *(name for name, has in others.items() if has)]

    @cached_property  # asked for by each stream
    def has_presence(self) -> bool:
        """Whether some clients may see who is connected: by a token, or by the login of an app."""
        return self.auth_enabled or self.has_login

    @property
    def loopback_only(self) -> bool:
        """Whether only this machine may reach the hub, because without a key everybody may publish.
        A hub in an app lets nobody publish over HTTP then.
        """
        return not (self.auth_enabled or self.open or self.embedded)

    @property
    def log_file(self) -> Path | None:
        """The file of the event log, without symbolic links, so that all processes agree on the
        files beside it; None: it is elsewhere.
        """
        scheme, _, path = self.broker_url.partition(":///")
        return Path(os.path.realpath(folders.root() / path)) if scheme == "sqlite" else None

    @property
    def broker_label(self) -> str:
        """The broker's URL without its password and its options; a file with its whole path."""
        if path := self.log_file:
            return f"sqlite:///{path}"
        url = urlsplit(self.broker_url)
        return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"

    def check_consistency(self) -> None:
        """Refuse settings that contradict each other.

        :raises Misconfigured: with the setting to change.
        """
        if not (self.anonymous or self.subscriber_keys or self.jwks_url or self.has_login):
            detail = "TIDINGS_ANONYMOUS=0 lets nobody in without a token, and there is no key."
            remedy = f"For a key, {parsers.KEY_HINT}."
            if self.embedded:
                remedy += " To let in the users of the app, give Tidings a function authorize."
            raise Misconfigured(detail, remedy)
        if self.auth_enabled and not (self.publisher_keys or self.jwks_url):
            detail = "There is a key for subscribers only, so nobody could publish."
            raise Misconfigured(detail, "Set TIDINGS_PUBLISHER_JWT_KEY, or TIDINGS_JWT_KEY.")
        if self.max_event_bytes > self.max_body_bytes:
            detail = "TIDINGS_MAX_EVENT_BYTES is larger than TIDINGS_MAX_BODY_BYTES."
            raise Misconfigured(detail, "Raise the second or lower the first.")

    def check_workers(self, workers: int) -> None:
        """Refuse workers that would not share an event log.

        :param workers: how many processes serve.
        :raises Misconfigured: with the setting to change.
        """
        if workers > 1 and self.broker_url.startswith("memory:"):
            detail = f"{workers} workers would each have an event log of their own with memory://."
            remedy = "Leave TIDINGS_BROKER_URL out, or set WEB_CONCURRENCY=1."
            raise Misconfigured(detail, remedy)

    def check_exposure(self, *, reachable: bool) -> None:
        """Refuse a hub open to strangers.

        :param reachable: whether other machines can connect.
        :raises Misconfigured: with the setting to change.
        """
        if reachable and self.loopback_only:
            detail = "Others can reach this hub, and without a key everybody could publish."
            remedy = f"For a key, {parsers.KEY_HINT}; to run without one, set TIDINGS_OPEN=1."
            if self.port is not None:
                local = f"TIDINGS_BIND=127.0.0.1:{self.port}"
                remedy += f" For this machine only, set {local} instead of PORT."
            raise Misconfigured(detail, remedy)


def _leaves_demo_on(setting: tuple[str, Any]) -> bool:
    """Whether a setting only chooses an address, or lets a page from a file subscribe."""
    name, value = setting
    return name == "bind" or (name, value) == ("cors_origins", ("null",))
