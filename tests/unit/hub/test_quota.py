"""Quotas of streams."""

from __future__ import annotations

import pytest

from webapp.errors import ServiceUnavailable, TooManyRequests
from webapp.hub.quota import StreamQuota


def test_room_is_refused_when_it_is_taken_and_forgets_who_left() -> None:
    room = StreamQuota(limit=3, limit_per_client=2)
    for name in "aab":
        room.check(name)
        room.acquire(name)
    with pytest.raises(ServiceUnavailable):
        room.check("c")
    room.release("b")
    with pytest.raises(TooManyRequests):
        room.check("a")
    room.check("c")
    room.release("a")
    room.check("a")
    room.release("a")
    assert not room._open_by_client


@pytest.mark.parametrize(("limit", "cap", "streams"), [(3, 2, 2), (2, 3, 2), (3, 0, 1)])
def test_a_cap_lowers_a_quota(limit: int, cap: int, streams: int) -> None:
    room = StreamQuota(limit, 0)
    room.cap(cap)
    for _ in range(streams):
        room.check("a")
        room.acquire("a")
    with pytest.raises(ServiceUnavailable):
        room.check("a")


def test_a_quota_without_a_limit_has_none_after_a_cap() -> None:
    room = StreamQuota(0, 0)
    room.cap(1)
    room.acquire("a")
    room.check("a")
