"""What the streams of one hub have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...config.settings import Settings
    from ...monitoring.metrics import Metrics
    from ...scheduling import Turns
    from ..delivery.fanout import FanOut
    from ..delivery.replays import Replays
    from ..reads.history import History
    from ..reads.snapshot import Snapshots
    from ..reads.topic_ends import TopicEnds
    from ..transient_events import TransientEvents


@dataclass(frozen=True, slots=True)
class StreamContext:
    """What streams need of their hub."""

    history: History
    snapshots: Snapshots
    replays: Replays
    fanout: FanOut
    transient: TransientEvents
    metrics: Metrics
    settings: Settings
    ends: TopicEnds
    register: Callable[[Any], None]
    """Counts a stream that opens; `unregister` must follow, whatever happens."""
    unregister: Callable[[Any], None]
    turns: Turns
    """Thousands of streams may end at once: events are delivered between two of them."""
