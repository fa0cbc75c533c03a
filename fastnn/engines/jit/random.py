"""Random words and normals of the elements of a batch, as fastnn/random.py defines them.

64 elements share 16 blocks of Philox: block l has the words of elements l, 16 + l, 32 + l and
48 + l, so vectors of blocks give vectors of elements.
"""

from __future__ import annotations

import math

import numpy as np

from .context import op_of
from .kernels import formula, subroutine
from .simd import bits_of, make_unfused_polynomial, real_of

#: Blocks and elements of a group, and elements that are drawn at a time: their words stay in L1.
BLOCKS, GROUP, TILE = 16, 64, 1024

_MULTIPLIER0, _MULTIPLIER1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_STEP0, _STEP1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)

# The bits of 2^52, of the fraction of a float64 and of 1/2.
_TWO_52, _FRACTION, _HALF = 0x433 << 52, (1 << 52) - 1, 0x3FE << 52
_ROOT_HALF = math.sqrt(0.5)


@formula
def philox(block, index, stream, seed):
    """The four words of a block by Philox-4x32-10; all are uint64."""
    c0, c1, c2, c3 = block, index & _LOW, index >> _SHIFT, stream
    k0, k1 = seed & _LOW, seed >> _SHIFT
    for _ in range(10):
        p0, p1 = _MULTIPLIER0 * c0, _MULTIPLIER1 * c2
        c0, c1 = (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _LOW
        c2, c3 = (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _STEP0) & _LOW, (k1 + _STEP1) & _LOW
    return c0, c1, c2, c3


@subroutine
def groups_of(elements):
    """The groups of so many elements from the first one of a group on."""
    return (elements + GROUP - 1) // GROUP


@subroutine
def draw_words(ctx, words, first, groups):
    """words (groups * GROUP,): those of the groups of elements first, first + 1, ... of this step.

    They are those of the current operation.
    """
    seed, stream = np.uint64(ctx.seed), np.uint64(op_of(ctx).stream)
    index = np.uint64(ctx.step)
    for group in range(groups):
        at = group * GROUP
        block = (first + group) * BLOCKS
        for lane in range(BLOCKS):
            w0, w1, w2, w3 = philox(np.uint64(block + lane), index, stream, seed)
            words[at + lane] = np.uint32(w0)
            words[at + BLOCKS + lane] = np.uint32(w1)
            words[at + 2 * BLOCKS + lane] = np.uint32(w2)
            words[at + 3 * BLOCKS + lane] = np.uint32(w3)


_log_series = make_unfused_polynomial(tuple(2 / (2 * k + 1) for k in range(11, -1, -1)))
_sine_series = make_unfused_polynomial(
    tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(8, -1, -1))
)
_cosine_series = make_unfused_polynomial(
    tuple((-1) ** k / math.factorial(2 * k) for k in range(9, -1, -1))
)


@formula
def _centre(word):
    """A word plus 1/2, in float64."""
    return real_of(np.int64(word) | _TWO_52) - (2.0**52 - 0.5)


@formula
def _radius(x):
    """sqrt(-2 log x) for x in (0, 1), with the logarithm of fastnn/random.py.

    log x = 2 artanh((f-1)/(f+1)) + n ln 2 for x = 2^n f.
    """
    bits = bits_of(x)
    n = real_of((bits >> 52) | _TWO_52) - (2.0**52 + 1022.0)
    f = real_of((bits & _FRACTION) | _HALF)
    small = f < _ROOT_HALF
    n = n - 1.0 if small else n
    f = f + f if small else f
    s = (f - 1.0) / (f + 1.0)
    log = s * _log_series(s * s) + n * 0.6931471805599453
    return math.sqrt(-2.0 * log)


@formula
def _cosine_and_sine(word):
    """cos and sin of (word + 1/2) 2^-32 turns, reduced to [-1/8, 1/8] turns."""
    quarter = (np.int64(word) + (1 << 29)) >> 30  # the nearest: 0 to 4
    quarters = real_of(quarter | _TWO_52) - 2.0**52
    x = (_centre(word) * 2.0**-32 - quarters * 0.25) * (2.0 * math.pi)
    z = x * x
    sine, cosine = x * _sine_series(z), _cosine_series(z)
    swapped = quarter & 1 != 0
    c, s = (sine if swapped else cosine), (cosine if swapped else sine)
    c = real_of(bits_of(c) ^ ((quarter + 1) >> 1 << 63))
    return c, real_of(bits_of(s) ^ (quarter >> 1 << 63))


@subroutine
def to_normals(normals, words, groups):
    """normals (groups * GROUP,): those that words (groups * GROUP,) give, two from two words.

    G. E. P. Box and M. E. Muller, A note on the generation of random normal deviates, 1958.
    """
    for at in range(0, groups * GROUP, 2 * BLOCKS):
        for i in range(at, at + BLOCKS):
            radius = _radius(_centre(words[i]) * 2.0**-32)
            cosine, sine = _cosine_and_sine(words[i + BLOCKS])
            normals[i] = radius * cosine
            normals[i + BLOCKS] = radius * sine
