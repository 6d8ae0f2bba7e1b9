"""The tutorial's counter: `Event 0`, `Event 1`, … once a second, while somebody listens."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import gevent

from ..core.events import Draft
from ..core.topics import DEFAULT_TOPIC, covers
from ..tasks import Skipping

if TYPE_CHECKING:
    from .hub import Hub
    from .subscriber import Subscriber


_SKIPPING = Skipping("demo")


class Demo:
    """An observer of the hub that counts while the default topic has listeners."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._listeners = 0
        self._counting: gevent.Greenlet[[], None] | None = None

    def __call__(self, subscriber: Subscriber, opened: bool) -> None:  # noqa: FBT001 - an observer
        """Start with the first listener, stop with the last."""
        if not covers(subscriber.feed.selectors, (DEFAULT_TOPIC,)):
            return
        self._listeners += 1 if opened else -1
        if self._counting is None and self._listeners:
            self._counting = gevent.spawn(self._count)
        elif self._counting and not self._listeners:
            self._counting.kill(block=False)
            self._counting = None

    def _count(self) -> None:
        for number in count():
            with _SKIPPING:
                self._hub.publish([Draft(topics=(DEFAULT_TOPIC,), data=f"Event {number}")])
            gevent.sleep(1)
