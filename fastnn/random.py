"""Counter-based random numbers: each is a function of its counter, not of earlier draws.

Every number comes from Philox-4x32-10 (J. K. Salmon et al., Parallel random numbers: as easy as
1, 2, 3, SC 2011, section 5.3) with the seed as key and as counter

    (element // 4, index, stream)    of 32, 64 and 32 bits,

so initial values come from (seed, block, element), shuffles from (seed, epoch, element), and
the numbers of a training step from (seed, step, operation, element). A resumed run therefore draws
the same numbers as an uninterrupted one. Normal numbers take only additions, multiplications,
divisions and square roots, which IEEE 754 rounds alike on every machine, so the numbers do not
depend on NumPy's generators and functions.
"""

from __future__ import annotations

import ctypes
import functools
import math
import operator
from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """The purposes of random numbers; each has its own stream."""

    INITIAL = 1
    SHUFFLE = 2
    SPLIT = 3
    AUGMENT = 4
    #: Of the first operation of a training step that draws numbers; the next ones follow.
    OPERATION = 1 << 16


_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)

#: Numbers that are drawn per call of the generator.
_PIECE = 1 << 14

#: Normal numbers below which NumPy takes no longer than a call of a compiled function.
_FEW = 8

#: Keys from which on two sorts, by radix and of what it leaves, are faster than one.
_RADIX_COUNT = 1 << 10


def check_seed(seed) -> int:
    """A seed as a whole number of 64 bits; None draws one from the system.

    Raises
    ------
    TypeError, ValueError
        If it is not None or a whole number from 0 to 2**64 - 1.
    """
    if seed is None:
        import secrets  # it imports hashlib and more, which nothing else needs

        return secrets.randbits(32)
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"seed must be a whole number or None, not {seed!r}")
    seed = operator.index(seed)
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be from 0 to 2**64 - 1, not {seed}")
    return seed


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox-4x32-10.

    Parameters
    ----------
    counter : ndarray of uint64, shape (4, n)
        Four words of 32 bits for each block.
    key : two ints of 32 bits

    Returns
    -------
    ndarray of uint64, shape (4, n)
        Four random words of 32 bits for each block.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = (np.uint64(word) for word in key)
    for _ in range(10):
        product0, product1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> _SHIFT) ^ c1 ^ k0,
            product1 & _LOW,
            (product0 >> _SHIFT) ^ c3 ^ k1,
            product0 & _LOW,
        )
        k0, k1 = (k0 + _KEY_STEPS[0]) & _LOW, (k1 + _KEY_STEPS[1]) & _LOW
    return np.stack([c0, c1, c2, c3])


def words(seed: int, stream: Stream, index: int, count: int, first: int = 0) -> np.ndarray:
    """`count` random words of 32 bits of (stream, index), as uint64; `first` is a multiple of 4."""
    blocks = _blocks(seed, stream, np.array([index], np.uint64), -(-count // 4), first)
    return blocks[:, 0].T.reshape(-1)[:count]


def _blocks(seed, stream, indices: np.ndarray, blocks: int, first: int = 0) -> np.ndarray:
    """The four words of each block, for each index: (4, len(indices), blocks)."""
    counter = np.empty((4, len(indices), blocks), np.uint64)
    counter[0] = np.arange(first // 4, first // 4 + blocks, dtype=np.uint64)
    counter[1] = (indices & _LOW)[:, None]
    counter[2] = (indices >> _SHIFT)[:, None]
    counter[3] = int(stream)
    drawn = philox(counter.reshape(4, -1), (seed & 0xFFFFFFFF, seed >> 32))
    return drawn.reshape(counter.shape)


def _in_pieces(piece, dtype, seed, stream, index, count) -> np.ndarray:
    """`count` numbers, in calls of ``piece(seed, stream, index, n, first)`` for n numbers each.

    The temporary arrays then stay in cache and need little memory.
    """
    out = np.empty(count, dtype)
    for first in range(0, count, _PIECE):
        n = min(_PIECE, count - first)
        out[first : first + n] = piece(seed, stream, index, n, first)
    return out


def _uniform(seed, stream, index, count, first):
    high, low = words(seed, stream, index, 2 * count, 2 * first).reshape(-1, 2).T
    bits = (high >> np.uint64(6) << np.uint64(27)) | (low >> np.uint64(5))
    return (bits.astype(np.float64) + 0.5) * 2.0**-53


def uniform(seed: int, stream: Stream, index: int, count: int) -> np.ndarray:
    """`count` float64 numbers, uniform in the open interval (0, 1), with 53 random bits."""
    return _in_pieces(_uniform, np.float64, seed, stream, index, count)


def normal(seed: int, stream: Stream, index: int, count: int) -> np.ndarray:
    """`count` float64 numbers from the standard normal distribution.

    G. E. P. Box and M. E. Muller, A note on the generation of random normal deviates, 1958. The C
    module draws them in a tenth of the time, and without Python's lock, if it was built.
    """
    compiled = _compiled_normals() if count >= _FEW else None
    if compiled is not None:
        out = np.empty(count)
        signed = seed - (1 << 64) if seed >= 1 << 63 else seed
        compiled(out.ctypes.data, signed, int(stream), index, count)
        return out
    return _in_pieces(_normal, np.float64, seed, stream, index, count)


@functools.cache
def _compiled_normals():
    """The C module's function for normals, or None."""
    from .engines import native
    from .errors import EngineError

    if native.trouble():
        return None
    try:
        address = native.address("normals", np.float32)
    except (EngineError, ValueError):  # compiled from older sources; a level that is none
        return None
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, *[ctypes.c_int64] * 4)
    return kind(address)


def _normal(seed, stream, index, count, first):
    u, v = _uniform(seed, stream, index, count + count % 2, first).reshape(-1, 2).T
    radius = np.sqrt(-2.0 * _log(u))
    cosine, sine = _cos_sin_of_turns(v)
    return np.stack([radius * cosine, radius * sine], axis=1).reshape(-1)[:count]


#: Elements of a batch that share blocks: element e of a group is a word of block e % _GROUP_BLOCKS.
#: So vectors of blocks give vectors of elements.
_GROUP, _GROUP_BLOCKS = 64, 16


def element_words(
    seed: int, stream: int, step: int, rows: int, columns: int, first_row: int = 0
) -> np.ndarray:
    """A random word of 32 bits for each element of some rows of a batch.

    Elements are numbered along the rows of the whole batch. Element e is word e // 16 % 4 of block
    e // 64 * 16 + e % 16 of the stream and the step.

    Parameters
    ----------
    seed : int
        That of the network.
    stream : int
        That of the operation.
    step : int
        The number of the step, from 0 over the whole training.
    rows, columns : int
    first_row : int
        The number of the first row in its batch.

    Returns
    -------
    ndarray of uint64, shape (rows, columns)
    """
    return _elements(_words_of_groups, np.uint64, seed, stream, step, rows, columns, first_row)


def element_normals(
    seed: int, stream: int, step: int, rows: int, columns: int, first_row: int = 0
) -> np.ndarray:
    """A standard normal number for each element of some rows of a batch, in float64.

    Elements e and e + 16, for which e // 16 is even, are the two numbers that the method of Box and
    Muller makes of their :func:`element_words`. Arguments are the same.
    """
    return _elements(_normals_of_groups, np.float64, seed, stream, step, rows, columns, first_row)


def _elements(draw, dtype, seed, stream, step, rows, columns, first_row) -> np.ndarray:
    first, count = first_row * columns, rows * columns
    skipped = first % _GROUP

    def piece(seed, stream, index, n, begin):
        drawn = draw(seed, stream, index, (first - skipped + begin) // _GROUP, -(-n // _GROUP))
        return drawn.reshape(-1)[:n]

    found = _in_pieces(piece, dtype, seed, stream, step, skipped + count)
    return found[skipped:].reshape(rows, columns)


def _words_of_groups(seed, stream, index, first, groups) -> np.ndarray:
    """The words of groups of elements: (groups, 4, 16)."""
    index = np.array([index], np.uint64)
    blocks = _blocks(seed, stream, index, groups * _GROUP_BLOCKS, 4 * _GROUP_BLOCKS * first)
    return blocks.reshape(4, groups, _GROUP_BLOCKS).transpose(1, 0, 2)


def _normals_of_groups(seed, stream, index, first, groups) -> np.ndarray:
    """The normals of groups of elements: (groups, 2, 2, 16)."""
    uniform = (_words_of_groups(seed, stream, index, first, groups) + 0.5) * 2.0**-32
    radius = np.sqrt(-2.0 * _log(uniform[:, 0::2]))
    cosine, sine = _cos_sin_of_turns(uniform[:, 1::2])
    return np.stack([radius * cosine, radius * sine], axis=2)


def permutation(seed: int, stream: Stream, index: int, count: int) -> np.ndarray:
    """A random order of the whole numbers below `count`, as int64.

    The numbers are sorted by random 64-bit keys. The low bits of a key are its number, so all keys
    differ and every sorting algorithm gives the same order.
    """
    return _orders(_in_pieces(_keys, np.uint64, seed, stream, index, count))


def permutations(seed: int, stream: Stream, first: int, orders: int, count: int) -> np.ndarray:
    """:func:`permutation` for the indices first, ..., first + orders - 1, as rows.

    For small counts it takes hardly longer than one permutation, since call overhead dominates.
    """
    indices = np.arange(first, first + orders, dtype=np.uint64)
    return _orders(_keys_of(seed, stream, indices, count, 0))


def _orders(keys: np.ndarray) -> np.ndarray:
    """The numbers of the elements of each row in the order of their keys."""
    keys = np.ascontiguousarray(keys)  # engines read each row by its address
    count = keys.shape[-1]
    numbers = np.uint64((1 << max(count - 1, 0).bit_length()) - 1)
    keys &= ~numbers
    keys |= np.arange(count, dtype=np.uint64)
    if count < _RADIX_COUNT:
        keys.sort(axis=-1)
    else:
        for row in keys.reshape(-1, count):
            _sort_random(row)
    keys &= numbers
    return keys.view(np.int64)


def _sort_random(keys: np.ndarray) -> None:
    """Sort random keys of 64 bits in place, 3 to 4 times faster than one call of NumPy's sort.

    NumPy sorts numbers of 16 bits by radix. Keys in the order of their highest 16 bits are nearly
    sorted, which its stable sort, a merge sort of the runs that it finds, completes in one pass.
    """
    highest = (keys >> np.uint64(48)).astype(np.uint16)
    np.take(keys.copy(), highest.argsort(kind="stable"), out=keys, mode="clip")
    keys.sort(kind="stable")


def _keys(seed, stream, index, count, first):
    return _keys_of(seed, stream, np.array([index], np.uint64), count, first)[0]


def _keys_of(seed, stream, indices, count, first):
    """`count` random numbers of 64 bits for each index: two words each, the high one first."""
    blocks = -(-count // 2)
    high, low, next_high, next_low = _blocks(seed, stream, indices, blocks, 2 * first)
    keys = np.empty((len(indices), 2 * blocks), np.uint64)
    keys[:, 0::2] = (high << _SHIFT) | low
    keys[:, 1::2] = (next_high << _SHIFT) | next_low
    return keys[:, :count]


def _horner(coefficients, x):
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def _log(x: np.ndarray) -> np.ndarray:
    """The natural logarithm, as 2 artanh((f-1)/(f+1)) + n ln 2 for x = 2^n f."""
    f, n = np.frexp(x)
    small = f < math.sqrt(0.5)
    f, n = np.where(small, 2 * f, f), n - small
    s = (f - 1) / (f + 1)
    z = s * s
    series = _horner([2 / (2 * k + 1) for k in range(11, -1, -1)], z)
    return s * series + n * 0.6931471805599453


def _cos_sin_of_turns(turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of 2 pi turns: reduced to [-1/8, 1/8] turns, then by their Taylor series."""
    quarters = np.floor(4 * turns + 0.5)
    x = (turns - quarters / 4) * (2 * math.pi)
    z = x * x
    sine = x * _horner([(-1) ** k / math.factorial(2 * k + 1) for k in range(8, -1, -1)], z)
    cosine = _horner([(-1) ** k / math.factorial(2 * k) for k in range(9, -1, -1)], z)
    quarter = quarters.astype(np.int64) % 4
    swapped, negative_cosine = quarter % 2 == 1, (quarter == 1) | (quarter == 2)
    c, s = np.where(swapped, sine, cosine), np.where(swapped, cosine, sine)
    return np.where(negative_cosine, -c, c), np.where(quarter >= 2, -s, s)
