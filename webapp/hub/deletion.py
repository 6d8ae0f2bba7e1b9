"""Removes events when a client asks for it: one event, or all events of a topic."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from ..brokers.base import MAX_INDEX_TOPICS, Removed
from ..core.events import EventId
from ..core.removals import Removal
from ..errors import Forbidden, ServiceUnavailable
from ..scheduling import cooperative, sleep
from .delivery.removals import AFTER_ALL
from .reads.log_reader import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..brokers.base import Broker
    from ..core.events import Draft, Event
    from .hub import Hub
    from .socket_protocol import SubscriberSocket

    Authorize = Callable[[Draft], None]

_BEFORE_ALL = EventId(0, 0)
_TIMEOUT_S = 10.0
_PAUSE_S = 0.01  # between two looks whether this process has followed


def delete(  # noqa: PLR0913 - what a client asks for, and who it is
    hub: Hub,
    topic: str,
    id: str | None,
    authorize: Authorize | None = None,
    *,
    client: str = "",
    socket: SubscriberSocket | None = None,
) -> int:
    """Remove one event, or all events of a canonical topic; return how many. Then nobody is sent
    one of them by this process. The client has one removal at a time. It counts as a stream while
    it waits for another one, or while all events of a topic are authorized; it is answered on a
    connection that closes then.

    :param id: a position, or an own id; None: all of the topic that there are now.
    :param authorize: refuses to remove an event; None: all may be removed.
    :raises Forbidden: `authorize` refuses one of them. A single private event is then as unknown.
    :raises ServiceUnavailable: the event log is not available, or the client left.
    """
    hub.start()
    last = None
    if id is None and authorize:
        last = _authorize_all(hub, topic, authorize, client, socket)
    with hub.removal_turns.turn(client, socket):
        if last:
            removed = hub.broker.remove(Removal(topic, _BEFORE_ALL, last))
        else:
            removed = remove(hub.broker, topic, id, authorize)
        if removed.position is None:
            return 0
        hub.metrics.deleted.add(removed.number)
        _await_follower(hub, removed.position)
    return removed.number


def _await_follower(hub: Hub, position: EventId) -> None:
    """Wait until this process has read the entry of a removal."""
    until = monotonic() + _TIMEOUT_S
    while hub.window.head < position:
        if monotonic() > until:
            detail = "The events are removed from the event log, and a worker still has them."
            raise ServiceUnavailable(detail, "It removes them when it has read the event log.")
        sleep(_PAUSE_S)


def remove(
    broker: Broker, topic: str, id: str | None, authorize: Authorize | None = None
) -> Removed:
    """Remove one event, or all of a topic, from an event log; see `delete`.

    :param authorize: of one event.
    """
    if id is None:
        return broker.remove(Removal(topic, _BEFORE_ALL, AFTER_ALL))
    event = _find(broker, topic, id)
    if event is None or not _is_granted(event.draft, authorize):
        return Removed(0, None)
    return broker.remove(Removal(topic, event.position, event.position))


def _is_granted(draft: Draft, authorize: Authorize | None) -> bool:
    try:
        if authorize:
            authorize(draft)
    except Forbidden:
        if draft.private:
            return False
        raise
    return True


def _authorize_all(
    hub: Hub, topic: str, authorize: Authorize, client: str, socket: SubscriberSocket | None
) -> EventId:
    """Look at each event of a topic, in the queue of past events; return the position up to which
    these are all.
    """
    position, reader = _BEFORE_ALL, hub.reader
    with hub.waiting_clients.read_for(client, socket) as reading:
        head = AFTER_ALL
        while position < head:
            with reader.turn(reading, position):
                page = reader.ask(reading, hub.broker.read_topics, position, PAGE_BYTES, [topic])
                for event in reading.cooperative(page.events):
                    if event.draft.topics[0] == topic:
                        authorize(event.draft)
            position, head = page.upto, page.bounds.head
    if socket:
        socket.answer_last()  # what it sent meanwhile was thrown away
    return position


def _find(broker: Broker, topic: str, id: str) -> Event | None:
    """Return the event with an id and a canonical topic, unless it was removed."""
    position = EventId.parse(id)
    after: EventId | None = None
    while True:
        if position:
            positions = [position]
        else:
            positions = broker.positions_of(id, after, MAX_INDEX_TOPICS, [topic])
        for at in cooperative(positions):
            for event in broker.read_at([at], 1):
                if not event.is_hidden and event.draft.topics[0] == topic:
                    return event
        if position or not positions:
            return None
        after = positions[-1]
