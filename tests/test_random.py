"""Our own random numbers: known answers, distributions, independence of what was drawn before."""

import ctypes
import hashlib
import itertools

import naive_layers
import naive_random
import numpy as np
import pytest
from conftest import COMPILED, DTYPES
from scipy import stats

from fastnn import random
from fastnn.engines import native
from fastnn.errors import EngineError
from fastnn.random import Stream

# Published with Random123 (kat_vectors, philox4x32 of 10 rounds).
KNOWN = [
    ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, (0xFFFFFFFF,) * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_answers(counter, key, expected):
    words = random.philox(np.array(counter, np.uint64)[:, None], key)
    assert words[:, 0].tolist() == expected
    assert naive_random.philox(counter, key) == expected


def test_numbers_depend_on_their_place_alone():
    a = random.normal(7, Stream.INITIAL, 3, 100)
    np.testing.assert_array_equal(random.normal(7, Stream.INITIAL, 3, 33), a[:33])
    for other in [(8, Stream.INITIAL, 3), (7, Stream.SHUFFLE, 3), (7, Stream.INITIAL, 4)]:
        assert np.abs(random.normal(*other, 100) - a).min() > 0
    assert not np.array_equal(
        random.words(2**32, Stream.SPLIT, 0, 8), random.words(0, Stream.SPLIT, 0, 8)
    )


def test_uniform_and_normal_have_their_distributions():
    u = random.uniform(1, Stream.INITIAL, 0, 200_000)
    assert u.dtype == np.float64
    assert 0 < u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 0.01
    z = random.normal(1, Stream.INITIAL, 1, 200_000)
    assert stats.kstest(z, "norm").pvalue > 0.01
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 0.01
    assert np.isfinite(z).all()


def test_our_logarithm_and_circle_are_right():
    x = np.concatenate([random.uniform(2, Stream.INITIAL, 0, 10_000), [2.0**-54, 1 - 2.0**-53]])
    np.testing.assert_allclose(random._log(x), np.log(x), rtol=1e-15, atol=1e-16)
    cosine, sine = random._cos_sin_of_turns(x)
    np.testing.assert_allclose(cosine, np.cos(2 * np.pi * x), atol=1e-15)
    np.testing.assert_allclose(sine, np.sin(2 * np.pi * x), atol=1e-15)


#: (seed, stream, step, rows, columns, first row): on both sides of 32 bits, of a group, a piece.
ELEMENTS = [
    (0, 65536, 0, 1, 1, 0),
    (5, 65536, 1, 10, 2, 0),
    (2**64 - 1, 65539, 2**32 - 1, 7, 64, 0),
    (2**32, 65537, 2**32, 9, 17, 5),
    (2**63 + 12345, 65576, 2**63 - 1, 3, 100, 1000),
    (7, 65536, 3, 40, 500, 0),
    (7, 65536, 3, 1, 70, 2**29 + 3),
]


@pytest.mark.parametrize("place", ELEMENTS)
def test_each_element_has_the_word_and_the_normal_of_its_number(place):
    seed, stream, step, rows, columns, first = place
    words, normals = random.element_words(*place), random.element_normals(*place)
    assert words.shape == normals.shape == (rows, columns)
    count = rows * columns
    run = naive_layers.Run(True, seed, step, stream)
    for k in range(0, count, max(1, count // 300)):
        element = first * columns + k
        word = naive_random.element_word(run, element)
        assert words.flat[k] == word
        normal = naive_random.element_normal(run, element)
        assert abs(normals.flat[k] - normal) < 1e-14


def test_elements_of_some_rows_are_those_of_the_whole_batch():
    for draw in random.element_words, random.element_normals:
        whole = draw(9, Stream.OPERATION, 4, 300, 70)
        for first, rows in [(0, 300), (1, 5), (37, 200), (299, 1), (5, 0)]:
            found = draw(9, Stream.OPERATION, 4, rows, 70, first)
            np.testing.assert_array_equal(found, whole[first : first + rows])


def test_normals_of_elements_have_their_distribution():
    z = random.element_normals(1, Stream.OPERATION, 0, 400, 500).reshape(-1)
    assert stats.kstest(z, "norm").pvalue > 0.01
    root = np.sqrt(z.size)
    for power, mean, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((z**power).mean() - mean) < 5 * np.sqrt(variance) / root
    for lag in (1, 16, 32, 64, 500):
        assert abs((z[lag:] * z[:-lag]).mean()) < 5 / root


def test_permutations_are_uniform():
    counts = {}
    for epoch in range(6000):
        order = tuple(random.permutation(0, Stream.SHUFFLE, epoch, 3).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert stats.chisquare(list(counts.values())).pvalue > 0.01
    orders = random.permutations(5, Stream.SHUFFLE, 2**32 - 2, 4, 37)
    for index, order in enumerate(orders, 2**32 - 2):
        np.testing.assert_array_equal(order, random.permutation(5, Stream.SHUFFLE, index, 37))
    order = random.permutation(0, Stream.SHUFFLE, 0, 1000)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert order.dtype == np.int64


@pytest.mark.parametrize("count", [1, 2, 1023, 1024, 20001])
def test_a_permutation_sorts_by_keys_of_64_bits(count):
    """Large ones are sorted in two steps; the low bits of a key are the number it orders."""
    words = [int(word) for word in random.words(6, Stream.SHUFFLE, 4, 2 * count)]
    n_bits = (count - 1).bit_length()
    keys = [((words[2 * i] << 32 | words[2 * i + 1]) >> n_bits, i) for i in range(count)]
    order = random.permutation(6, Stream.SHUFFLE, 4, count)
    assert order.tolist() == [number for _, number in sorted(keys)]


@pytest.mark.parametrize("count", [1, 2, 3, 40, 1500])
def test_orders_of_several_epochs_lie_one_after_another(count):
    """Engines read each by its address."""
    orders = random.permutations(3, Stream.SHUFFLE, 0, 5, count)
    for epoch, order in enumerate(orders):
        assert order.flags.c_contiguous
        np.testing.assert_array_equal(order, random.permutation(3, Stream.SHUFFLE, epoch, count))


def test_the_streams_never_change():
    """Models and runs of this version stay reproducible: these digests are for ever."""
    digest = hashlib.sha256()
    digest.update(random.normal(123, Stream.INITIAL, 5, 1001).tobytes())
    digest.update(random.uniform(2**63, Stream.SPLIT, 2**40, 1001).tobytes())
    digest.update(random.permutation(9, Stream.SHUFFLE, 77, 1001).tobytes())
    assert digest.hexdigest() == (
        "48ac8d6f42aa26413cc221397681e54d316053a1d3db58a8fb6a7c430f8236a4"
    )
    digest = hashlib.sha256()
    digest.update(
        random.element_words(123, Stream.OPERATION + 7, 2**33 + 5, 31, 33, 100)
        .astype("<u4")
        .tobytes()
    )
    digest.update(
        random.element_normals(123, Stream.OPERATION + 7, 2**33 + 5, 31, 33, 100).tobytes()
    )
    assert digest.hexdigest() == (
        "381eb551183fb96f210b72cfae1b7d02ced9228264d67adbf0eaa2998f4eeffd"
    )


def test_seeds():
    assert random.check_seed(np.int64(3)) == 3
    assert random.check_seed(2**64 - 1) == 2**64 - 1
    assert random.check_seed(None) != random.check_seed(None)


@pytest.mark.skipif("c" not in COMPILED, reason="no C engine")
def test_the_c_function_gives_our_normals_at_every_level():
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, *[ctypes.c_int64] * 4)
    sizes = [*range(1, 70), 127, 1000, random._PIECE, random._PIECE + 1, 200_001]
    for level, dtype in itertools.product(native._module.levels(), DTYPES):
        function = kind(native._module.addresses(level, dtype)["normals"])
        for count, n in enumerate(sizes):
            seed, index = [0, 5, 2**64 - 1][count % 3], [0, 7, 2**32 - 1][count % 3]
            out = np.full(n + 8, 7.0)
            signed = ctypes.c_int64(seed).value
            assert function(out[4:].ctypes.data, signed, Stream.INITIAL, index, n) == 0
            args = np.float64, seed, Stream.INITIAL, index, n
            expected = random._in_pieces(random._normal, *args)
            np.testing.assert_array_equal(out[4:-4].view(np.uint64), expected.view(np.uint64))
            assert (out[:4] == 7).all()
            assert (out[-4:] == 7).all()
            found = random.normal(seed, Stream.INITIAL, index, n)
            np.testing.assert_array_equal(found, expected)


def test_without_the_c_module_numpy_draws_normals(monkeypatch):
    expected = random.normal(3, Stream.INITIAL, 1, 1000)
    monkeypatch.setattr(random, "_compiled_normals", lambda: None)
    np.testing.assert_array_equal(random.normal(3, Stream.INITIAL, 1, 1000), expected)


@pytest.mark.skipif("c" not in COMPILED, reason="no C engine")
def test_a_module_of_older_sources_draws_no_normals(monkeypatch):
    def missing(name, dtype):
        raise EngineError(name)

    monkeypatch.setattr(native, "address", missing)
    assert random._compiled_normals.__wrapped__() is None
