"""Checks of the streams of a hub: access, delivery, resumption, latency, heartbeats."""

from __future__ import annotations

import secrets
import statistics
import time
from dataclasses import replace
from email.message import Message
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import click

from ...core.topics import grants
from ..client import HubClient
from ..retry import TemporaryFailure
from ..token import expiry, patterns, unverified_claims
from .network import NetworkChecks
from .proxies import check_disconnection, check_pipe
from .recorder import RecordingSubscriber
from .results import BUFFERING, COMPRESSION, LATENCY, failed, judged, passed, remedy_for, skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..remote_hub import RemoteHub
    from .results import CheckResult

_FIRST_BYTES_S = 2.0  # within which the first bytes must come
_HELD_BACK_S = 3.0  # after which an event counts as held back
_LATE_S = 1.0
_DELAY_S = 0.1  # more than a hub needs, with any event log
_TIMEOUT_S = 15.0
_SPACED_EVENTS, _SPACE_S = 4, 0.2
_MEASURED_EVENTS = 12
_STRANGERS_DATA = "from a stranger"
_ONE_LOG_REMEDY = "All workers need one event log: one Redis or PostgreSQL in TIDINGS_BROKER_URL."


class StreamChecks:
    """Checks a running hub from outside.

    :param heartbeat_wait_s: seconds to wait for a heartbeat; 0: do not wait for one.
    :param intended_open: publishing without a token is meant to be possible.
    """

    def __init__(self, hub: RemoteHub, *, heartbeat_wait_s: float, intended_open: bool) -> None:
        self.latencies: list[float] = []
        """Seconds from the publishing of each measured event to its arrival."""
        self._hub = hub
        self._stranger = replace(hub, token=None)
        self._heartbeat_wait_s = heartbeat_wait_s
        self._intended_open = intended_open
        self._network = NetworkChecks(hub)
        self._topic = {"topic": f"tidings-check-{secrets.token_hex(8)}"}
        self._private: dict[str, str] = {}
        self._anyone_publishes = False

    def run(self) -> Iterator[CheckResult]:
        """Yield each result when it is known; a check is left out if an earlier one prevents it."""
        yield from self._network.run()
        if not self._network.reachable:
            return
        with RecordingSubscriber(self._hub, self._topic) as stream:
            yield from self._check_opening(stream)
            yield self._check_strangers()
            if self._hub.token or self._anyone_publishes:
                yield from self._check_events(stream)
            else:
                pattern = "'tidings-check-{id}'"
                remedy = f"TIDINGS_TOKEN=$(tidings token -p {pattern} -s {pattern}), on the hub."
                yield skipped("token", "none given: what needs an event is not checked", remedy)
            if stream.received:
                yield self._check_heartbeat(stream)

    @property
    def _buffering_remedy(self) -> str:
        return remedy_for(self._network.server, BUFFERING)

    def _publish(self, client: HubClient, data: str) -> None:
        client.publish({**self._topic, **self._private, "data": data})

    def _check_opening(self, stream: RecordingSubscriber) -> Iterator[CheckResult]:
        """Check the head of the stream, and when its first bytes come."""
        held_back = f"nothing within {_HELD_BACK_S:g} s: the stream is held back on its way"
        if not stream.wait_until(lambda it: it.headers, _HELD_BACK_S):
            if stream.failure is None:
                yield failed("stream", held_back, self._buffering_remedy)
            else:
                refused = getattr(stream.failure, "status", 0) == HTTPStatus.UNAUTHORIZED
                remedy = "Set TIDINGS_TOKEN to a token that may read." if refused else ""
                yield failed("stream", str(stream.failure), remedy)
            return
        opened = stream.wait_until(lambda it: it.received, _HELD_BACK_S)
        yield self._check_head(stream)
        if not opened:
            yield failed("first bytes", held_back, self._buffering_remedy)
            return
        took = stream.received[0][0] - stream.requested_at
        detail, good = f"after {took * 1000:.0f} ms", took <= _FIRST_BYTES_S
        yield judged("first bytes", detail, good, self._buffering_remedy)

    def _check_head(self, stream: RecordingSubscriber) -> CheckResult:
        headers = stream.headers or Message()
        coding = headers.get("Content-Encoding", "identity")
        if coding not in {"identity", stream.coding_of_hub}:
            detail = f"it is compressed on its way ({coding[:20]}), which may hold events back"
            return failed("stream", detail, remedy_for(self._network.server, COMPRESSION))
        if "Content-Length" in headers:
            detail = "it has a Content-Length: a proxy reads all of it first"
            return failed("stream", detail, self._buffering_remedy)
        if not {"no-cache", "no-store"} & set(headers.get("Cache-Control", "").split(", ")):
            detail = "Cache-Control is lost on its way, so it may be cached"
            return failed("stream", detail, "Let the proxy pass Cache-Control.")
        by = "not compressed" if coding == "identity" else "compressed by the hub"
        return passed("stream", f"text/event-stream, not cached, {by}")

    def _check_strangers(self) -> CheckResult:
        """Check whether somebody without a token can publish."""
        try:
            with HubClient(self._stranger, _TIMEOUT_S) as client:
                self._publish(client, _STRANGERS_DATA)
        except click.ClickException as error:
            reason = error.message.partition(": ")[2].partition(". ")[0] or error.message
            return passed("strangers", f"may not publish: {reason}")
        except TemporaryFailure as failure:
            remedy = "Publishing must answer, if only to refuse."
            return failed("strangers", str(failure), remedy)
        self._anyone_publishes = True
        detail = "everybody who can reach it may publish"
        if self._network.private_address or self._intended_open:
            return skipped("strangers", detail)
        remedy = "Set TIDINGS_JWT_KEY to what `openssl rand -hex 32` prints."
        return failed("strangers", detail, f"{remedy} If it is meant so: --open.")

    def _check_events(self, stream: RecordingSubscriber) -> Iterator[CheckResult]:
        """Check all that needs an event."""
        claims = unverified_claims(self._hub.token or "") or {}
        private = grants(frozenset(patterns(claims, "subscribe")), self._topic["topic"])
        self._private = {"private": "on"} if private else {}
        with (
            HubClient(self._hub, _TIMEOUT_S) as client,
            RecordingSubscriber(self._stranger, self._topic) as other,
        ):
            try:
                self._publish(client, "first")
                if self._hub.token:
                    kind = "for private events, too" if private else "for public events"
                    ends = f", expires {expiry(claims)}" if "exp" in claims else ""
                    yield passed("token", f"accepted, {kind}{ends}")
                if stream.received:
                    yield from self._check_delivery(stream, client, other)
            except (TemporaryFailure, click.ClickException) as error:
                yield failed("publishing", str(error))

    def _check_delivery(
        self, stream: RecordingSubscriber, client: HubClient, other: RecordingSubscriber
    ) -> Iterator[CheckResult]:
        yield (spacing := self._check_spacing(stream, client))
        if spacing.state != "ok":
            return
        cursor = next(event.id for _, event in stream.events if event.data == "spaced 0")
        by_header = RecordingSubscriber(self._hub, self._topic, cursor)
        yield _check_resumption("resume by header", by_header, "the header Last-Event-ID")
        by_query = RecordingSubscriber(self._hub, {**self._topic, "last_event_id": cursor})
        yield _check_resumption("resume by query", by_query, "the query")
        if stream.failure is None:
            yield self._check_latency(stream, client)
            yield check_pipe(self._hub, stream, self._topic | {"private": bool(self._private)})
            yield check_disconnection(self._hub, f"{self._topic['topic']}-left")
        if self._private:
            yield _check_privacy(other)

    def _check_spacing(self, stream: RecordingSubscriber, client: HubClient) -> CheckResult:
        name = "events at once"
        sent: dict[str, float] = {}
        for number in range(_SPACED_EVENTS):
            time.sleep(_SPACE_S if number else 0)
            sent[f"spaced {number}"] = time.monotonic()
            self._publish(client, f"spaced {number}")
        complete = stream.wait_until(lambda it: sent.keys() <= set(it.data), _HELD_BACK_S)
        arrived = {event.data: at for at, event in stream.events}
        delays = [arrived[data] - at for data, at in sent.items() if data in arrived]
        longest = max(delays, default=0)
        if longest > _LATE_S:
            return failed(name, f"they came up to {longest:.1f} s late", self._buffering_remedy)
        if not complete:
            count = f"{len(delays)} of {_SPACED_EVENTS}"
            detail = f"{count} came within {_HELD_BACK_S:g} s, though the stream is open"
            return failed(name, detail, _ONE_LOG_REMEDY)
        return passed(name, f"{_SPACED_EVENTS} came apart, as they were published")

    def _check_latency(self, stream: RecordingSubscriber, client: HubClient) -> CheckResult:
        """Check that events take little longer than the responses to their publisher, which come
        from the same hub on the same way.
        """
        delays: list[float] = []
        for number in range(1, _MEASURED_EVENTS + 1):
            data, began = f"measured {number}", time.monotonic()
            self._publish(client, data)
            answered = time.monotonic()
            if not stream.wait_until(partial(_newest_is, data), _HELD_BACK_S):
                detail = f"event {number} of {_MEASURED_EVENTS} did not come within"
                return failed("latency", f"{detail} {_HELD_BACK_S:g} s", self._buffering_remedy)
            self.latencies.append(stream.events[-1][0] - began)
            delays.append(stream.events[-1][0] - answered)
        middle, worst = statistics.median(self.latencies), max(self.latencies)
        detail = f"from publish to arrival {middle * 1000:.1f} ms, at worst {worst * 1000:.1f} ms"
        if (delay := statistics.median(delays)) > _DELAY_S:
            detail += f"; that is {delay * 1000:.0f} ms after the response to the publisher"
            return failed("latency", detail, LATENCY)
        return judged("latency", detail, middle <= _LATE_S, self._buffering_remedy)

    def _check_heartbeat(self, stream: RecordingSubscriber) -> CheckResult:
        name, began = "heartbeat", time.monotonic()
        if not self._heartbeat_wait_s and stream.failure is None:
            return skipped(name, "not waited for")
        if stream.wait_until(lambda it: it.last_byte_at > began, self._heartbeat_wait_s):
            return passed(name, f"after {stream.last_byte_at - began:.1f} s of silence")
        if stream.failure is None:
            remedy = "TIDINGS_HEARTBEAT=15s suits all proxies; to wait for a longer one: --wait."
            return failed(name, f"none within {self._heartbeat_wait_s:g} s", remedy)
        silence = stream.ended_at - stream.last_byte_at
        remedy = "Make TIDINGS_HEARTBEAT shorter than that, or the proxy's idle limit longer"
        detail = f"the stream was cut after {silence:.1f} s of silence"
        return failed(name, detail, f"{remedy} (nginx: proxy_read_timeout).")


def _check_resumption(name: str, subscriber: RecordingSubscriber, sent_by: str) -> CheckResult:
    """Check whether a subscriber that starts after the first spaced event gets the others."""
    missed = [f"spaced {number}" for number in range(1, _SPACED_EVENTS)]
    with subscriber:
        subscriber.wait_until(lambda it: len(it.data) >= len(missed), _HELD_BACK_S)
    got = subscriber.data[: len(missed)]
    if got == missed:
        return passed(name, f"{len(missed)} missed events came")
    if any(event.type == "hub.reset" for _, event in subscriber.received):
        return failed(name, "the worker that answered does not know the cursor", _ONE_LOG_REMEDY)
    detail = f"{len(got)} of {len(missed)} missed events came"
    return failed(name, detail, f"Let each proxy pass {sent_by}.")


def _check_privacy(other: RecordingSubscriber) -> CheckResult:
    """Check that a subscriber without a token did not get the private events."""
    name = "private events"
    if other.headers is None:
        return passed(name, "nobody reads without a token")
    if any(data != _STRANGERS_DATA for data in other.data):
        return failed(name, "a subscriber without a token gets them", "Is this a Tidings hub?")
    return passed(name, "stay unseen without a token")


def _newest_is(data: str, stream: RecordingSubscriber) -> bool:
    return stream.data[-1:] == [data]
