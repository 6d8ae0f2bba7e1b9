"""What the hub itself sends on a stream: control events, or their replacements."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import uuid4

from ...core import control_events, sse
from ..delivery.shared_gzip import GzipStream
from ..delivery.subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...auth.authorizer import Grant
    from ...core.events import EventId
    from ..delivery.feeds import Feed
    from ..reads.snapshot import Snapshot
    from .stream_context import StreamContext

_OF_MANY_STREAMS = frozenset({"drain", "gap"})  # their clients come back one after another
_CUT_OFF = frozenset({"client_left", "too_slow", "removed", "error"})
_RETURNS_PER_S = 500  # clients of a worker: more would leave too little CPU for those that leave


class ControlStream(Subscriber):
    """The control events of one stream.

    :param feed: the subscribers with which it shares its payloads.
    :param position: where it begins; events after it are sent.
    :param reset_reason: why events before `position` cannot be sent: `aged` or `unknown`. None:
        none are missing.
    :param grant: what the subscriber's token allows, and until when.
    """

    # There may be thousands.
    __slots__ = ("_context", "feed", "reset_reason", "snapshot")

    def __init__(
        self,
        context: StreamContext,
        feed: Feed,
        grant: Grant,
        position: EventId,
        reset_reason: str | None,
    ) -> None:
        super().__init__(feed.patterns, grant, position, context.settings.max_age)
        self.feed = feed
        self.reset_reason = reset_reason
        self.name = f"urn:uuid:{uuid4()}" if context.settings.has_presence else ""
        self.snapshot: Snapshot | None = None
        """What it is sent first, until that has ended."""
        self._context = context
        if feed.form.gzip:
            self.gzip = GzipStream()

    @property
    def is_listed(self) -> bool:
        """Whether it is in the list of subscribers: the console is none of them."""
        return self.waits and self.feed.is_counted

    @property
    def id_to_send(self) -> EventId | None:
        """The id of control events: the cursor. None: a snapshot has not ended. A client that is
        disconnected before that has to begin the snapshot again.
        """
        return None if self.snapshot else self.cursor

    def _open_event(self) -> bytes:
        settings = self._context.settings
        if not self.feed.form.control:
            return control_events.first_fields(self.id_to_send, settings.retry)
        fields: dict[str, object] = {
            "topics": sorted(self.patterns),
            "replay": self._replay_count(),
            "heartbeat": settings.heartbeat,
            "now": round(time.time() * 1000),
            **self.grant.token_use(),
        }
        if self.gzip:
            fields["coding"] = "gzip"
        if self.name:
            fields["subscriber"] = self.name
        return control_events.open_event(fields, self.id_to_send, self.reset_reason, settings.retry)

    def _replay_count(self) -> int | None:
        if self.snapshot:
            return 0
        return self._context.history.count(self.feed, self.cursor)

    def _last_frame(self) -> bytes:
        if self.reason in _CUT_OFF:
            return b""
        bye = b"" if self.reason == "complete" else self._bye_event(self.reason)
        return self.gzip.last_part(bye) if self.gzip else bye

    def _encoded(self, frame: bytes) -> bytes:
        return self.gzip.part(frame) if self.gzip else frame

    def _bye_event(self, reason: str | None) -> bytes:
        settings = self._context.settings
        spread = 0.0
        if reason in _OF_MANY_STREAMS:
            spread = max(settings.drain, len(self._context.fanout) / _RETURNS_PER_S)
        if reason == "ended":  # an EventSource comes back once more
            spread = self.feed.subscriber_count / _RETURNS_PER_S
        if not self.feed.form.control:
            return control_events.retry_field(settings.retry, spread)
        return control_events.bye_event(reason or "", self.id_to_send, settings.retry, spread)

    def _expiry_warning(self) -> bytes:
        if not self.deadlines.warning_due or self.grant.expires is None:
            return b""
        self.deadlines.warning_due = False
        if not self.feed.form.control:
            return b""
        self._note_id()
        return self._control_event("hub.expiring", expires=round(self.grant.expires))

    def _reset(self, reason: str) -> Iterable[bytes]:
        """Say that events are missing, or end the stream."""
        if self.feed.form.control:
            return [self._control_event("hub.reset", reason=reason)]
        self.end("gap")
        return ()

    def _mark(self) -> bytes:
        if not self.feed.form.control:
            return sse.HEARTBEAT
        self._note_id()
        return self._control_event("hub.mark")

    def _control_event(self, name: str, **fields: object) -> bytes:
        return control_events.control_event(name, fields, self.id_to_send)

    def _note_id(self) -> None:
        if self.snapshot is None:
            self.last_id_sent = self.cursor
