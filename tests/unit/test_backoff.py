"""The pauses between tries."""

from __future__ import annotations

from webapp.backoff import Backoff


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(0.1, 5.0)
    for full in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
        assert full / 2 <= backoff.next() <= full


def test_a_success_begins_with_the_first_pause_again() -> None:
    backoff = Backoff(0.1, 5.0)
    assert not backoff.reset()
    for _ in range(2000):  # more doublings than a float has room for
        backoff.next()
    assert backoff.failures == 2000
    assert backoff.reset()
    assert backoff.next() <= 0.1


def test_pauses_differ_among_processes() -> None:
    assert len({Backoff(1, 1).next() for _ in range(20)}) > 10
