"""The orders of the engines are those of random.py, at every level of vector instructions."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import COMPILED, DTYPES

from fastnn import engines, random
from fastnn.engines import levels, native
from fastnn.engines.compiled import _DIGITS, _SHUFFLE
from fastnn.random import Stream

SIZES = [*range(1, 41), 127, 128, 129, 1023, 1024, 1025, 4096, 65537, 200_000]
SEEDS = [0, 5, 2**63 + 12345, 2**64 - 1]


def check_function(address, sizes=SIZES):
    """A compiled function gives the orders of NumPy, and writes nothing beyond its arrays."""
    shuffle, canary = _SHUFFLE(address), 0x5A5A5A5A5A5A5A5A
    for count, n in enumerate(sizes):
        rows = 1 if n > 2000 else 1 + count % 3
        seed, first = SEEDS[count % len(SEEDS)], [0, 7, 2**32 - 1][count % 3]
        arrays = [np.full(size + 8, canary) for size in (rows * n, n + 1, _DIGITS)]
        signed = ctypes.c_int64(seed).value
        places = [array[4:].ctypes.data for array in arrays]
        assert shuffle(*places, signed, Stream.SPLIT, first, rows, n) == 0
        expected = random.permutations(seed, Stream.SPLIT, first, rows, n)
        np.testing.assert_array_equal(arrays[0][4:-4].reshape(rows, n), expected)
        for array in arrays:
            assert (array[:4] == canary).all()
            assert (array[-4:] == canary).all()


@pytest.mark.skipif("c" not in COMPILED, reason="no C engine")
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_c_function_gives_our_orders_at_every_level(dtype):
    for level in native._module.levels():
        check_function(native._module.addresses(level, dtype)["shuffle"])


@pytest.mark.skipif("numba" not in COMPILED, reason="no Numba")
def test_the_numba_function_gives_our_orders():
    from fastnn.engines import jit

    check_function(jit.address("shuffle", "float32"))


@pytest.mark.skipif("numba" not in COMPILED, reason="no Numba")
def test_the_numba_function_gives_our_orders_with_fewer_vector_instructions():
    from fastnn.engines.jit import isa

    code = "import test_shuffle as t; from fastnn.engines import jit; "
    code += "t.check_function(jit.address('shuffle', 'float32'))"
    lower = levels.NAMES[levels.NAMES.index(isa.host_level()) + 1 :]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code], env={**os.environ, "FASTNN_SIMD": level},
            cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True,
        )
        for level in lower if level != "neon"
    ]  # fmt: skip
    for process in running:
        errors = process.communicate()[1]
        assert process.returncode == 0, errors


def test_every_engine_gives_our_orders(engine):
    permutations = engines.current().permutations
    for seed, first, count, n in [(0, 0, 1, 1), (3, 2, 4, 50), (2**64 - 1, 2**40, 2, 20_001)]:
        orders = permutations(seed, Stream.SHUFFLE, first, count, n)
        assert orders.dtype == np.int64
        assert orders.flags.c_contiguous
        expected = random.permutations(seed, Stream.SHUFFLE, first, count, n)
        np.testing.assert_array_equal(orders, expected)
    assert permutations(0, Stream.SHUFFLE, 0, 0, 5).shape == (0, 5)
    assert permutations(0, Stream.SHUFFLE, 0, 3, 0).shape == (3, 0)


BAD = [
    (-1, 2, 0, 1, 5),
    (2**64, 2, 0, 1, 5),
    (0.5, 2, 0, 1, 5),
    (0, -1, 0, 1, 5),
    (0, 2**32, 0, 1, 5),
    (0, 2, -1, 1, 5),
    (0, 2, 2**63, 1, 5),
    (0, 2, 0, -1, 5),
    (0, 2, 0, 1, -5),
    (0, 2, 0, 1, 5.5),
]


@pytest.mark.parametrize("arguments", BAD)
def test_bad_arguments_are_refused(compiled, arguments):
    with pytest.raises((TypeError, ValueError)):
        engines.current().permutations(*arguments)
