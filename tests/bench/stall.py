"""Some subscribers that stop reading for a while."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from client import Subscribers
    from publisher import Publisher


class Stall:
    """Some subscribers stop reading for a while; then every other one of them leaves."""

    def __init__(self, subscribers: Subscribers, publisher: Publisher) -> None:
        self.subscribers, self.publisher = subscribers, publisher
        run = subscribers.run
        self.steps = [(run.stall_at, self.stop), (run.stall_at + run.stall, self.resume)]
        if not run.stall:
            self.steps = []

    def step(self) -> None:
        if self.steps and self.publisher.since > self.steps[0][0] * 1e9:
            self.steps.pop(0)[1]()

    def stop(self) -> None:
        for fd in self.subscribers.apart:
            self.subscribers.epoll.unregister(fd)

    def resume(self) -> None:
        for number, fd in enumerate(list(self.subscribers.apart)):
            if number % 2:
                self.subscribers.leave(fd)
            else:
                self.subscribers.epoll.register(fd, select.EPOLLIN)
