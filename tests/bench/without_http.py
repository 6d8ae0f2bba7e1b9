"""A broker without HTTP, in a process of its own: how fast it commits, how fast a hub follows.

`without_http.py WHAT EVENTS PUBLISHERS`, with the hub's settings in the environment, prints a line
of JSON. `commit`: publishers at once, each with one event at a time; with `ids` as a fourth word,
each has an own id and two topics. `follow`: a hub that follows
the event log from its start, with one subscriber, of another topic.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402 - not before all is patched
import os  # noqa: E402
import sys  # noqa: E402
from time import monotonic  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import gevent  # noqa: E402

from webapp.auth.authorizer import Authorizer  # noqa: E402
from webapp.brokers import connect  # noqa: E402
from webapp.brokers.base import Bounds  # noqa: E402
from webapp.config.settings import Settings  # noqa: E402
from webapp.core.events import Draft  # noqa: E402
from webapp.hub.hub import Hub  # noqa: E402
from webapp.hub.reads.start import Start  # noqa: E402

if TYPE_CHECKING:
    from webapp.brokers.base import Broker

_DRAFT = Draft(topics=("bench",), data="x" * 100)
_BATCH_EVENTS = 500  # to fill an event log


class FollowedFromStart:
    """A broker whose event log seems empty when a hub starts: the hub follows all of it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def bounds(self) -> Bounds:
        floor = self._broker.bounds().floor
        return Bounds(floor, floor)


def commit(settings: Settings, events: int, publishers: int, *, ids: bool) -> float:
    broker = connect(settings)
    broker.append([_DRAFT])
    # A broker in memory needs a follower: it keeps the events that were not read.
    gevent.spawn(lambda: list(broker.follow(broker.bounds().head)))

    def publish(publisher: int) -> None:
        for n in range(events // publishers):
            draft = _with_id(f"event-{publisher}-{n}") if ids else _DRAFT
            broker.append([draft])

    began = monotonic()
    gevent.joinall([gevent.spawn(publish, n) for n in range(publishers)], raise_error=True)
    return monotonic() - began


def _with_id(own: str) -> Draft:
    return Draft(topics=("bench", "other"), data=_DRAFT.data, id=own)


def follow(settings: Settings, events: int) -> float:
    broker: Any = connect(settings)
    for _ in range(0, events, _BATCH_EVENTS):
        broker.append([_DRAFT] * _BATCH_EVENTS)
    head, hub = broker.bounds().head, Hub(FollowedFromStart(broker), settings, 0)
    subscriber = hub.subscribe(frozenset({"other"}), Authorizer(settings).subscribe(()), Start())
    gevent.spawn(list, subscriber.frames())
    began = monotonic()
    while hub.fanout.dispatched_up_to < head:
        gevent.sleep(0.01)
    return monotonic() - began


if __name__ == "__main__":
    what, events, publishers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    settings = Settings.from_env(os.environ)
    if what == "follow":
        seconds = follow(settings, events)
    else:
        seconds = commit(settings, events, publishers, ids="ids" in sys.argv)
    sys.stdout.write(json.dumps({"lost": 0, "speed": events / seconds}) + "\n")
