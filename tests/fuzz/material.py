"""What the fuzzers make their inputs of."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

Try = Callable[[random.Random], str]
"""Try one input; return what became of it in a word, or raise where that is wrong."""

NASTY = (
    "\r", "\n", "\r\n", "\n\n", "\0", "\t", "\x0b", "\x0c", "\x1b", "\x1c", "\x1e", "\x7f", "\x85",
    "\xa0", "\xad", "\u200e", "\u2028", "\u2029", "\ufeff", "\ufffe", "\U000e0041", "é", "👩‍👧",
    ":", " ", "data: x", "data", "id: 1", "id:", "event: hub.bye", "retry: 1", "retry:", ": c",
    "hub.", "earliest", "#", "1-1", "*", "{a}", "%0a", "%00", "%C3%A9", "null", "[", "{", '"', "\\",
)  # fmt: skip
SURROGATES = ("\ud800", "\udc00", "\udfff")


def text(rng: random.Random, longest: int = 12, extra: tuple[str, ...] = ()) -> str:
    """Return a text that is likely to be in somebody's way."""
    parts = []
    for _ in range(rng.randrange(longest)):
        roll = rng.random()
        if roll < 0.6:
            parts.append(rng.choice(NASTY + extra))
        elif roll < 0.9:
            parts.append(chr(rng.randrange(0x20, 0x7F)))
        else:
            parts.append(chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])))
    return "".join(parts)


def mutate(rng: random.Random, data: bytes, words: tuple[bytes, ...]) -> bytes:
    """Return the bytes with a few things wrong."""
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        position = rng.randrange(len(data) + 1)
        end = min(len(data), position + rng.choice([1, 1, 2, 8, 64]))
        change = rng.randrange(7)
        if change == 0:
            data = data[:position] + bytes([rng.randrange(256)]) + data[position + 1 :]
        elif change == 1:
            data = data[:position] + data[end:]
        elif change == 2:
            data = data[:position] + rng.choice(words) + data[position:]
        elif change == 3:
            data = data[:position] + rng.choice(words) + data[end:]
        elif change == 4:
            data = data[:end] + data[position:]  # something twice
        elif change == 5:
            old = rng.choice([b"\r\n", b": ", b" ", b"HTTP/1.1", b"Content-Length", b"\r\n\r\n"])
            data = data.replace(old, rng.choice(words), rng.choice([1, -1]))
        else:
            data = data[:position]
    return data


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    """Return the bytes in pieces."""
    positions = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(6)))
    return [data[a:b] for a, b in pairwise([0, *positions, len(data)])]
