"""The gzip format (RFC 1952) and its deflate blocks (RFC 1951), with pure functions.

A stream is a head, parts, and an end. A part can be decoded as soon as it has arrived: it ends with
an empty stored block, before which some decoders, as Go's, hand nothing out. The end has the CRC-32
of all plain bytes.
"""

from __future__ import annotations

import zlib
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""Of every stream: no name, no time, an unknown system."""
DICTIONARY_BYTES = 3 << 10
"""How many of the plain bytes before a part make it shorter."""
LONG_DICTIONARY_BYTES = 12 << 10
"""How many of them make a small part a little shorter still."""
PIECE_BYTES = 64 << 10
"""How much `deflate` compresses between two calls of its `pause`: for half a millisecond."""

_FLUSHED = b"\x00\x00\x00\xff\xff"  # an empty stored block
_STORED_BLOCK_BYTES = 0xFFFF
_WINDOW_BITS, _MEMORY_LEVEL = 12, 4  # a compressor with less memory takes less time to make
_LONG_WINDOW_BITS = 14  # with a long dictionary
_LEVEL, _BEST_LEVEL = 6, 9
_BEST_LEVEL_BYTES = 1 << 10  # of a part at most: of a large one it may take seven times as long
_FIXED_END = b"\x03\x00"  # an empty last block
_SIZE_MASK = 0xFFFFFFFF


def stored(plain: bytes) -> bytes:
    """Return a part that is not compressed: 10 bytes more."""
    blocks = [
        b"\0%b%b%b" % (_le16(len(block)), _le16(len(block) ^ 0xFFFF), block)
        for start in range(0, len(plain), _STORED_BLOCK_BYTES)
        if (block := plain[start : start + _STORED_BLOCK_BYTES])
    ]
    return b"".join([*blocks, _FLUSHED])


def deflate(plain: bytes, before: bytes, pause: Callable[[], object] = bool) -> bytes:
    """Return a part, compressed if that makes it shorter.

    :param before: plain bytes that the reader has directly before it, at most
        `LONG_DICTIONARY_BYTES`.
    :param pause: called between two pieces of a large part.
    """
    level = _LEVEL if len(plain) > _BEST_LEVEL_BYTES else _BEST_LEVEL
    bits = _WINDOW_BITS if len(before) <= DICTIONARY_BYTES else _LONG_WINDOW_BITS
    sizes = (level, zlib.DEFLATED, -bits, _MEMORY_LEVEL)
    compressor = zlib.compressobj(*sizes, zdict=before) if before else zlib.compressobj(*sizes)
    parts = [compressor.compress(plain[:PIECE_BYTES])]
    for start in range(PIECE_BYTES, len(plain), PIECE_BYTES):
        pause()
        parts.append(compressor.compress(plain[start : start + PIECE_BYTES]))
    parts.append(compressor.flush(zlib.Z_SYNC_FLUSH))
    part = b"".join(parts)
    return part if len(part) < len(plain) + 2 * len(_FLUSHED) else stored(plain)


def end(crc: int, size: int) -> bytes:
    """Return the end of a stream.

    :param crc: the CRC-32 of its plain bytes.
    :param size: their number.
    """
    return _FIXED_END + crc.to_bytes(4, "little") + (size & _SIZE_MASK).to_bytes(4, "little")


def _le16(number: int) -> bytes:
    return number.to_bytes(2, "little")


# A CRC-32 is a polynomial over GF(2) modulo P, with its highest power in the lowest bit. The CRC
# of A + B is crc(A) * x^(8 * len(B)) + crc(B), so the CRCs of two texts that go on alike differ by
# their first difference times a power of x. zlib's `crc32_combine` does the same.
_POLYNOMIAL = 0xEDB88320
_ORDER = (1 << 32) - 1  # x to this power is 1
_CRC_ONE = 1 << 31


def shift_crc(crc: int, count: int) -> int:
    """Return a difference of two CRCs as it is after `count` more bytes that both have in common;
    or before them, if `count` is negative.
    """
    return _multiply(_power(8 * count % _ORDER), crc)


def _times_x(value: int) -> int:
    return (value >> 1) ^ _POLYNOMIAL if value & 1 else value >> 1


def _times_x4(value: int) -> int:
    return _times_x(_times_x(_times_x(_times_x(value))))


_REDUCED = [_times_x4(low) for low in range(16)]  # the lowest four bits of a value, times x^4


def _multiply(one: int, other: int) -> int:
    """Return the product modulo P, four bits of `one` at a time."""
    multiples = [0] * 16
    for bit in (8, 4, 2, 1):
        multiples[bit] = other
        other = _times_x(other)
    for number in (3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15):
        highest = 1 << number.bit_length() - 1
        multiples[number] = multiples[highest] ^ multiples[number ^ highest]
    product = 0
    for shift in range(0, 32, 4):  # from the highest power on
        product = (product >> 4) ^ _REDUCED[product & 15] ^ multiples[(one >> shift) & 15]
    return product


@lru_cache(maxsize=64)  # of thousands of streams that end together, all have the same
def _power(exponent: int) -> int:
    """Return x to a power below 2 ** 32."""
    product = _CRC_ONE
    for digit in range(8):
        if number := (exponent >> 4 * digit) & 15:
            product = _multiply(_powers_of_digit(digit)[number], product)
    return product


@cache
def _powers_of_digit(digit: int) -> list[int]:
    """Return x to the powers of each number whose hexadecimal form has only this digit."""
    base = _CRC_ONE >> 1
    for _ in range(4 * digit):
        base = _multiply(base, base)
    powers = [_CRC_ONE]
    for _ in range(15):
        powers.append(_multiply(powers[-1], base))
    return powers
