"""`tidings check`: is it closed to strangers, does it flow, does it resume, how quickly."""

from __future__ import annotations

import secrets
import statistics
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ...core.topics import granted
from ..retry import TemporaryFailure
from .network import NetworkChecks
from .recorder import Publisher, RecordingSubscriber
from .results import BAD, LEFT, OK, CheckResult, unheld, unzipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..client import HubClient

_FIRST = 2.0  # seconds within which the first bytes must come
_HELD = 3.0  # seconds after which an event is held back
_LATE = 1.0  # seconds that are too long for an event
_SPACED, _SPACE = 4, 0.2  # events that are published with a pause between, and the pause
_MEASURED = 12
_ONE_LOG = "All workers and machines need one log: TIDINGS_BROKER_URL=redis://…"


class StreamChecks:
    """Looks at a running hub from outside.

    :param wait: seconds for a heartbeat; 0: do not wait for one.
    :param meant_open: publishing without a token is meant to be possible.
    """

    def __init__(self, remote: HubClient, *, wait: float, meant_open: bool) -> None:
        self.latencies: list[float] = []  # seconds
        self._remote = remote
        self._stranger = replace(remote, token=None)
        self._wait = wait
        self._meant_open = meant_open
        self._reach = NetworkChecks(remote)
        self._topic = f"tidings-check-{secrets.token_hex(8)}"
        self._open = False

    def run(self) -> Iterator[CheckResult]:
        """Yield findings as they are made; what cannot be looked at any more is left out."""
        yield from self._reach.look()
        if not self._reach.good:
            return
        with ExitStack() as stack:
            stream = stack.enter_context(RecordingSubscriber(self._remote, self._topic))
            yield from self._opening(stream)
            yield from self._closed()
            if not (self._remote.token or self._open):
                told = "none given: what needs an event is not looked at"
                mine = "'tidings-check-{id}'"
                remedy = f"TIDINGS_TOKEN=$(tidings token -p {mine} -s {mine}), where the key is."
                yield CheckResult("token", LEFT, told, remedy)
            else:
                yield from self._publishing(stream, stack)
            if stream.seen:
                yield self._heartbeat(stream)

    @property
    def _unheld(self) -> str:
        return unheld(self._reach.server)

    def _opening(self, stream: RecordingSubscriber) -> Iterator[CheckResult]:
        """Look at the head of the stream and its first bytes."""
        held = f"nothing within {_HELD:g} s: the stream is held back on its way"
        if not stream.until(lambda it: it.headers, _HELD):
            if stream.failure is not None:
                remedy = "Give a token that may read, by TIDINGS_TOKEN."
                told = getattr(stream.failure, "message", str(stream.failure))
                yield CheckResult("stream", BAD, told, "" if self._remote.token else remedy)
            else:
                yield CheckResult("stream", BAD, held, self._unheld)
            return
        assert stream.headers is not None  # noqa: S101 - as awaited
        yield self._head(stream.headers)
        if not stream.until(lambda it: it.seen, _HELD):
            yield CheckResult("first bytes", BAD, held, self._unheld)
            return
        took = stream.seen[0][0] - stream.opened
        late = took > _FIRST
        told = f"after {took * 1000:.0f} ms"
        yield CheckResult("first bytes", BAD if late else OK, told, self._unheld if late else "")

    def _head(self, headers: Any) -> CheckResult:
        kind, coding = headers.get_content_type(), headers.get("Content-Encoding", "identity")
        if kind != "text/event-stream":
            return CheckResult("stream", BAD, f"it is {kind}", "Is this the hub's URL?")
        if coding != "identity":
            told = f"it is compressed on its way ({coding[:20]}), which may hold events back"
            return CheckResult("stream", BAD, told, unzipped(self._reach.server))
        if "Content-Length" in headers:
            told = "it has a Content-Length: something reads all of it first"
            return CheckResult("stream", BAD, told, self._unheld)
        if not {"no-cache", "no-store"} & set(headers.get("Cache-Control", "").split(", ")):
            told = "Cache-Control is lost on its way, so it may be cached"
            return CheckResult("stream", BAD, told, "Let the proxy pass Cache-Control.")
        return CheckResult("stream", OK, "text/event-stream, not cached, not compressed")

    def _closed(self) -> Iterator[CheckResult]:
        """Look whether strangers can publish."""
        publisher = Publisher(self._stranger, self._topic, private=False)
        try:
            publisher.publish("from nobody")
        except click.ClickException as error:
            yield CheckResult("strangers", OK, f"may not publish: {_first(error.message)}")
        except TemporaryFailure as away:
            yield CheckResult(
                "strangers", BAD, str(away), "Publishing must answer, if only to refuse."
            )
        else:
            self._open = True
            told = "everybody who can reach it may publish"
            if self._reach.near or self._meant_open:
                yield CheckResult("strangers", LEFT, told)
            else:
                remedy = "Set TIDINGS_JWT_KEY to what `openssl rand -hex 32` prints."
                yield CheckResult("strangers", BAD, told, f"{remedy} If it is meant so: --open.")
        finally:
            publisher.close()

    def _publishing(self, stream: RecordingSubscriber, stack: ExitStack) -> Iterator[CheckResult]:
        """Look at all that needs an event."""
        claims = _claims(self._remote.token)
        private = granted(_selectors(claims, "subscribe"), self._topic)
        publisher = Publisher(self._remote, self._topic, private=private)
        stack.callback(publisher.close)
        other = (
            stack.enter_context(RecordingSubscriber(self._stranger, self._topic))
            if private
            else None
        )
        try:
            publisher.publish("first")
            if self._remote.token:
                yield _accepted(claims, private=private)
            if stream.seen:
                yield from self._flow(stream, publisher, other)
        except (TemporaryFailure, click.ClickException) as error:
            yield CheckResult("publishing", BAD, getattr(error, "message", str(error)))

    def _flow(
        self, stream: RecordingSubscriber, publisher: Publisher, other: RecordingSubscriber | None
    ) -> Iterator[CheckResult]:
        yield (spaced := self._spaced(stream, publisher))
        if spaced.state == OK:
            yield from self._resumes(stream)
            if stream.failure is None:
                yield self._latency(stream, publisher)
            if other is not None:
                yield _secret(other)

    def _spaced(self, stream: RecordingSubscriber, publisher: Publisher) -> CheckResult:
        name = "events at once"
        sent: dict[str, float] = {}
        for number in range(_SPACED):
            time.sleep(_SPACE if number else 0)
            sent[f"spaced {number}"] = time.monotonic()
            publisher.publish(f"spaced {number}")
        come = stream.until(lambda it: sent.keys() <= set(_data(it)), _HELD)
        at = {message.data: when for when, message in stream.published}
        delays = [at[data] - when for data, when in sent.items() if data in at]
        if not come and not any(delay > _LATE for delay in delays):
            told = f"{len(delays)} of {_SPACED} came within {_HELD:g} s, though the stream is open"
            return CheckResult(name, BAD, told, _ONE_LOG)
        if max(delays) > _LATE:
            told = f"they came up to {max(delays):.1f} s late"
            return CheckResult(name, BAD, told, self._unheld)
        return CheckResult(name, OK, f"{_SPACED} came apart, as they were published")

    def _resumes(self, stream: RecordingSubscriber) -> Iterator[CheckResult]:
        """Look whether a reader that comes back gets what it missed."""
        cursor = next(m.id for _, m in stream.published if m.data == "spaced 0")
        wanted = [f"spaced {number}" for number in range(1, _SPACED)]
        for by_query in (False, True):
            name = "resume by query" if by_query else "resume by header"
            with RecordingSubscriber(self._remote, self._topic, cursor, by_query=by_query) as again:
                again.until(lambda it: len(it.published) >= len(wanted), _HELD)
                got = _data(again)[: len(wanted)]
                kinds = {message.type for _, message in again.seen}
            if got == wanted:
                yield CheckResult(name, OK, f"{len(wanted)} missed events came")
            elif "hub.reset" in kinds:
                told = "the cursor is unknown where it came to"
                yield CheckResult(name, BAD, told, _ONE_LOG)
            else:
                told = f"{len(got)} of {len(wanted)} missed events came"
                lost = "the query" if by_query else "the header Last-Event-ID"
                yield CheckResult(name, BAD, told, f"Let each proxy pass {lost}.")

    def _latency(self, stream: RecordingSubscriber, publisher: Publisher) -> CheckResult:
        for number in range(_MEASURED):
            data, began = f"measured {number}", time.monotonic()
            publisher.publish(data)
            if not stream.until(partial(_newest, data), _HELD):
                told = f"event {number + 1} of {_MEASURED} did not come within {_HELD:g} s"
                return CheckResult("latency", BAD, told, self._unheld)
            self.latencies.append(stream.published[-1][0] - began)
        middle, worst = statistics.median(self.latencies), max(self.latencies)
        told = f"from publishing to reading {middle * 1000:.1f} ms, at worst {worst * 1000:.1f} ms"
        slow = middle > _LATE
        return CheckResult("latency", BAD if slow else OK, told, self._unheld if slow else "")

    def _heartbeat(self, stream: RecordingSubscriber) -> CheckResult:
        if not self._wait and stream.failure is None:
            return CheckResult("heartbeat", LEFT, "not waited for")
        began = time.monotonic()
        if stream.until(lambda it: it.last_byte > began, self._wait):
            return CheckResult(
                "heartbeat", OK, f"after {stream.last_byte - began:.1f} s of silence"
            )
        if stream.failure is not None:
            took = stream.ended - stream.last_byte
            told = f"the stream was cut after {took:.1f} s of silence"
            remedy = "Make TIDINGS_HEARTBEAT shorter than that, or the proxy's idle limit longer"
            return CheckResult("heartbeat", BAD, told, f"{remedy} (nginx: proxy_read_timeout).")
        told = f"none within {self._wait:g} s"
        remedy = "TIDINGS_HEARTBEAT=15s suits all proxies; a longer one may be awaited by --wait."
        return CheckResult("heartbeat", BAD, told, remedy)


def _secret(other: RecordingSubscriber) -> CheckResult:
    if other.headers is None:
        return CheckResult("private events", OK, "nobody reads without a token")
    if any(message.data != "from nobody" for _, message in other.published):
        told = "a reader without a token sees them"
        return CheckResult("private events", BAD, told, "Is this a Tidings hub?")
    return CheckResult("private events", OK, "stay unseen without a token")


def _accepted(claims: dict[str, Any], *, private: bool) -> CheckResult:
    ends = claims.get("exp")
    left = f", ends in {ends - time.time():.0f} s" if isinstance(ends, int) else ""
    kind = "for private events, too" if private else "for public events"
    return CheckResult("token", OK, f"accepted, {kind}{left}")


def _claims(token: str | None) -> dict[str, Any]:
    import jwt

    try:
        return jwt.decode(token or "", options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return {}


def _selectors(claims: dict[str, Any], what: str) -> frozenset[str]:
    mercure = claims.get("mercure")
    found = mercure.get(what) if isinstance(mercure, dict) else None
    return frozenset(map(str, found)) if isinstance(found, list) else frozenset()


def _newest(data: str, stream: RecordingSubscriber) -> bool:
    return _data(stream)[-1:] == [data]


def _data(stream: RecordingSubscriber) -> list[str]:
    return [message.data for _, message in stream.published]


def _first(text: str) -> str:
    return text.partition(": ")[2].partition(". ")[0] or text
