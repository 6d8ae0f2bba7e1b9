"""The tutorial's demo: it publishes `Event 0`, `Event 1`, … once a second, while anybody subscribes
to the default topic.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import gevent

from ..core.events import Draft
from ..core.topics import DEFAULT_TOPIC, TopicPatterns
from ..errors import Conflict
from ..tasks import Skipping
from .observer import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .delivery.subscriber import Subscriber

_SKIPPING = Skipping("demo")
_INTERVAL_S = 1


class Demo(Observer):
    """Publishes while the default topic has subscribers.

    :param publish: puts events into the event log.
    """

    def __init__(self, publish: Callable[[Sequence[Draft]], object]) -> None:
        self._publish = publish
        self._subscribers = 0
        self._task: gevent.Greenlet[[], None] | None = None

    def opened(self, subscriber: Subscriber) -> None:
        """Start with the first subscriber."""
        self._count(subscriber, 1)

    def closed(self, subscriber: Subscriber) -> None:
        """Stop with the last subscriber."""
        self._count(subscriber, -1)

    def _count(self, subscriber: Subscriber, change: int) -> None:
        if not subscriber.waits or not TopicPatterns(subscriber.patterns).matches(DEFAULT_TOPIC):
            return
        self._subscribers += change
        if self._task is None and self._subscribers:
            self._task = gevent.spawn(self._run)
        elif self._task and not self._subscribers:
            self._task.kill(block=False)
            self._task = None

    def _run(self) -> None:
        for number in count():
            with _SKIPPING:
                try:
                    self._publish([Draft(topics=(DEFAULT_TOPIC,), data=f"Event {number}")])
                except Conflict:  # somebody has ended the topic
                    return
            gevent.sleep(_INTERVAL_S)
