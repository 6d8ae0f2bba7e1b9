"""The last bytes of a feed, as they were, and in little memory."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from webapp.core import gzip_format
from webapp.core.gzip_format import DICTIONARY_BYTES, LONG_DICTIONARY_BYTES
from webapp.hub.delivery.gzip_tail import GzipTail

if TYPE_CHECKING:
    from collections.abc import Callable


def event(chance: Random) -> bytes:
    return b'data: {"host": "web-%d", "cpu": %d}\n\n' % (chance.randrange(40), chance.randrange(99))


def add(tail: GzipTail, plain: bytes, *, is_long: bool = True) -> None:
    before = tail.plain()
    part = gzip_format.deflate(plain, before[-LONG_DICTIONARY_BYTES:])
    tail.add(before, plain, part, is_long=is_long)


@pytest.mark.parametrize("seed", range(10))
def test_a_tail_has_the_last_bytes_and_takes_three_kilobytes(seed: int) -> None:
    chance, tail, sent = Random(seed), GzipTail(), b""
    kinds: list[Callable[[Random], bytes]] = [
        event,
        lambda it: it.randbytes(it.choice([1, 300, 4000])),
        lambda _: b" " * 4000,
    ]
    for _ in range(300):
        plain = chance.choices(kinds, (20, 1, 1))[0](chance)
        sent += plain
        add(tail, plain, is_long=chance.random() < 0.99)
        kept = tail.plain()
        assert sent.endswith(kept)
        assert len(kept) >= min(len(sent), DICTIONARY_BYTES // 2)
        assert len(tail._kept) <= DICTIONARY_BYTES


def test_a_long_tail_has_twelve_kilobytes_of_what_compresses_well() -> None:
    chance, tail = Random(1), GzipTail()
    sizes = []
    for _ in range(2000):
        add(tail, event(chance))
        sizes.append(len(tail.plain()))
    assert min(sizes[1000:]) >= LONG_DICTIONARY_BYTES // 2
    assert LONG_DICTIONARY_BYTES <= max(sizes) <= 2 * LONG_DICTIONARY_BYTES


def test_what_does_not_compress_is_kept_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    chance, tail = Random(1), GzipTail()
    monkeypatch.setattr("webapp.hub.delivery.gzip_tail.gzip_format.deflate", None)  # not even tried
    for _ in range(20):
        plain = chance.randbytes(1000)
        tail.add(tail.plain(), plain, gzip_format.stored(plain), is_long=True)
    assert len(tail.plain()) == DICTIONARY_BYTES


def test_a_tail_that_was_cleared_meanwhile_goes_on_with_what_it_had() -> None:
    chance, tail = Random(1), GzipTail()
    for _ in range(100):
        add(tail, event(chance))
    before, plain = tail.plain(), event(chance)
    part = gzip_format.deflate(plain, before[-LONG_DICTIONARY_BYTES:])
    tail.clear()
    tail.add(before, plain, part, is_long=True)
    assert (before + plain).endswith(tail.plain())
    assert len(tail.plain()) >= DICTIONARY_BYTES
