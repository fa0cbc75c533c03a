"""Random orders: the numbers below n in the order of random keys, as fastnn/random.py defines them.

The low bits of a key are its number, so all keys differ and every way of sorting gives the same
order. They are sorted by their highest bits, about as many as n has, one digit after another from
the lowest; insertion then exchanges the few neighbours that agree in those bits.
"""

from __future__ import annotations

import numpy as np

from .kernels import shuffler, subroutine
from .random import philox

#: Bits of the longest digit, whose counters stay in L1; insertion alone sorts FEW_KEYS.
DIGIT_BITS, FEW_KEYS = 11, 24

_SHIFT = np.uint64(32)
_ONE = np.uint64(1)


@subroutine
def _number_keys(keys, n, low, seed, stream, index):
    """keys (n + 1,): 64 random bits each, with their numbers in the bits of `low`.

    A block gives two keys, so one more than n may be written.
    """
    for block in range((n + 1) >> 1):
        w0, w1, w2, w3 = philox(np.uint64(block), index, stream, seed)
        number = np.uint64(block) << _ONE
        keys[2 * block] = ((w0 << _SHIFT | w1) & ~low) | number
        keys[2 * block + 1] = ((w2 << _SHIFT | w3) & ~low) | (number | _ONE)


@subroutine
def _count_digits(place, keys, n, shift, width):
    """place[d]: that of the first of keys (n,) with digit d."""
    digit = (_ONE << width) - _ONE
    for d in range(np.int64(digit) + 1):
        place[d] = 0
    for i in range(n):
        d = np.int64(keys[i] >> shift & digit)
        place[d] = place[d] + 1
    total = 0
    for d in range(np.int64(digit) + 1):
        count = place[d]
        place[d] = total
        total += count


@subroutine
def _move(out, keys, n, place, shift, width):
    """Move keys (n,) to `out` by one digit, from place[d] on for digit d."""
    digit = (_ONE << width) - _ONE
    for i in range(n):
        key = keys[i]
        d = np.int64(key >> shift & digit)
        at = place[d]
        out[at] = key
        place[d] = at + 1


@subroutine
def _insert(keys, n):
    for i in range(1, n):
        key = keys[i]
        at = i
        while at > 0 and keys[at - 1] > key:
            keys[at] = keys[at - 1]
            at -= 1
        keys[at] = key


@shuffler
def shuffle(orders, keys, place, seed, stream, first, rows, n):
    """orders (rows, n): row r is the order of (seed, stream, first + r).

    Destroys keys (n + 1,) and place (1 << DIGIT_BITS,).
    """
    n_bits = 0
    while (n - 1) >> n_bits:
        n_bits += 1
    passes = 0 if n <= FEW_KEYS else (n_bits + DIGIT_BITS - 1) // DIGIT_BITS
    width = (n_bits + passes - 1) // max(passes, 1)
    low = (_ONE << np.uint64(n_bits)) - _ONE
    for row in range(rows):
        out, moved = orders + row * n, keys
        _number_keys(keys, n, low, np.uint64(seed), np.uint64(stream), np.uint64(first + row))
        for step in range(passes):
            shift = np.uint64(64 - width * (passes - step))
            _count_digits(place, moved, n, shift, np.uint64(width))
            _move(out, moved, n, place, shift, np.uint64(width))
            out, moved = moved, out
        _insert(moved, n)
        out = orders + row * n
        for i in range(n):
            out[i] = moved[i] & low
    return 0
