"""Random words and normals of elements, in whole numbers. Imports nothing of fastnn."""

import functools
import math


def philox(counter, key):
    """Philox-4x32-10: four words of 32 bits from four, and a key of two (Salmon et al., 2011).

    The first word may be longer: then the bits above 64 of its first product are lost.
    """
    c, k = list(counter), list(key)
    for _ in range(10):
        low, high = 0xD2511F53 * c[0] % 2**64, 0xCD9E8D57 * c[2]
        c = [high >> 32 ^ c[1] ^ k[0], high % 2**32, low >> 32 ^ c[3] ^ k[1], low % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def element_word(run, element):
    """The random word of an element of a batch, counted along its rows."""
    group, place = divmod(element, 64)
    word, lane = divmod(place, 16)
    counter = [16 * group + lane, run.step % 2**32, run.step >> 32, run.stream]
    return philox(counter, (run.seed % 2**32, run.seed >> 32))[word]


@functools.lru_cache(maxsize=100)
def element_words(run, m, n):
    """Those of m rows of n elements."""
    first = run.first_row
    return [[element_word(run, (first + i) * n + j) for j in range(n)] for i in range(m)]


def element_normal(run, element):
    """Its normal number: one of two that Box and Muller's method makes of two words."""
    second = element // 16 % 2
    words = [element_word(run, element + 16 * (k - second)) for k in range(2)]
    u, v = ((word + 0.5) / 2**32 for word in words)
    return math.sqrt(-2 * math.log(u)) * (math.sin if second else math.cos)(2 * math.pi * v)


@functools.lru_cache(maxsize=100)
def element_normals(run, m, n):
    """Those of m rows of n elements."""
    first = run.first_row
    return [[element_normal(run, (first + i) * n + j) for j in range(n)] for i in range(m)]
