"""exp, log, tanh against mpmath, densely, and at the edges of the numbers."""

import ctypes
import math

import mpmath
import numpy as np
import pytest

pytest.importorskip("numba")

from numba.core import types

from fastnn.engines.jit import elementary, isa, kernels, trigonometric
from fastnn.engines.jit.memory import Pointer
from fastnn.engines.jit.simd import flush_denormals, restore_denormals

_libraries = []


def compiled(name, dtype, flushes=False):
    """One function of elementary.py as a function of arrays, vectorised as in a kernel."""
    function = getattr(trigonometric if name in ("sin", "cos") else elementary, name)

    def apply(x, y, count):
        before = flush_denormals() if flushes else 0
        for i in range(count):
            y[i] = function(x[i])
        if flushes:
            restore_denormals(before)
        return 0

    pointer = Pointer(getattr(types, dtype))
    signature = types.int64(pointer, pointer, types.int64)
    library, symbol = isa.compile_callback(apply, signature, kernels.OPTIONS)
    _libraries.append(library)
    call = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 4)(library.get_pointer_to_function(symbol))

    def of(values):
        x = np.array(values, dtype)
        y = np.empty_like(x)
        call(x.ctypes.data, y.ctypes.data, x.size)
        return y

    return of


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


def tanh_of_softplus(x):
    return mpmath.tanh(mpmath.log1p(mpmath.exp(x)))


#: name: (exact, range in float32, range in float64, most units in the last place)
FUNCTIONS = {
    "exp": (mpmath.exp, (-87.3, 88.7), (-708, 709.7), 1),
    "expm1": (mpmath.expm1, (-104, 88), (-746, 709), 2),
    "tanh": (mpmath.tanh, (-12, 12), (-25, 25), 2),
    "sigmoid": (sigmoid, (-87, 90), (-700, 750), 2),
    "log": (mpmath.log, (1e-38, 3e38), (1e-308, 1e308), 2),
    "log1p": (mpmath.log1p, (0, 1), (0, 1), 2),
    "tanh_of_softplus": (tanh_of_softplus, (-86, 30), (-700, 60), 2.5),
    "erf": (mpmath.erf, (-5, 5), (-7, 7), 2),
    "sin": (mpmath.sin, (-30, 30), (-1e6, 1e6), 1),
    "cos": (mpmath.cos, (-30, 30), (-1e6, 1e6), 1),
    "normal_cdf": (mpmath.ncdf, (-0.67, 20), (-0.67, 40), 1.5),
    "normal_density": (mpmath.npdf, (-13, 13), (-37, 37), 3),
}
CASES = [
    (name, dtype)
    for name, (_, single, _, _) in FUNCTIONS.items()
    for dtype in ("float32", "float64")
    if dtype == "float64" or single is not None
]


def dense(low, high, dtype, count=1500):
    """Numbers over a whole range, more of them near 0 (and for a wide one in every binade)."""
    generator = np.random.default_rng(7)
    if low > 0:
        return np.exp(generator.uniform(np.log(low), np.log(high), 3 * count)).astype(dtype)
    size = np.exp(generator.uniform(-60, 0, count))
    tiny = size * generator.choice([-1, 1] if low < 0 else [1], count)
    around = generator.uniform(max(low, -2), min(high, 2), count)
    values = np.concatenate([generator.uniform(low, high, count), around, tiny, [0, low, high]])
    return values[(values >= low) & (values <= high)].astype(dtype)


def worst(found, x, exact, dtype):
    """The largest error in units of the last place of the exact result."""
    info = np.finfo(dtype)
    largest = 0.0
    with mpmath.workprec(200):
        for got, argument in zip(found.tolist(), x.tolist(), strict=True):
            true = exact(mpmath.mpf(argument))
            if true == 0:
                assert got == 0
                continue
            exponent = max(mpmath.floor(mpmath.log(abs(true), 2)), info.minexp)
            error = abs(got - true) / mpmath.mpf(2) ** (exponent - info.nmant)
            largest = max(largest, float(error))
    return largest


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_error_in_units_of_the_last_place(name, dtype):
    exact, single, double, most = FUNCTIONS[name]
    x = dense(*(single if dtype == "float32" else double), dtype)
    if name == "log":
        near_one = 1 + np.random.default_rng(8).normal(0, 1e-3, 500)
        x = np.concatenate([x, near_one.astype(dtype)])
    assert len(x) > 2000
    assert worst(compiled(name, dtype)(x), x, exact, dtype) <= most


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_lower_tail_of_the_normal_distribution(dtype):
    """Relative to values as small as 1e-38 or 1e-300, not to 1."""
    x = np.random.default_rng(9).uniform(-13 if dtype == "float32" else -37, -0.67, 2000)
    x = x.astype(dtype)
    assert worst(compiled("normal_cdf", dtype)(x), x, mpmath.ncdf, dtype) <= 4.5


#: name: values at -inf, -1e30, -0.0, 0.0, 1e30 and inf
EDGES = {
    "exp": [0, 0, 1, 1, np.inf, np.inf],
    "expm1": [-1, -1, -0.0, 0.0, np.inf, np.inf],
    "tanh": [-1, -1, -0.0, 0.0, 1, 1],
    "sigmoid": [0, 0, 0.5, 0.5, 1, 1],
    "tanh_of_softplus": [0, 0, 0.6, 0.6, 1, 1],
    "erf": [-1, -1, -0.0, 0.0, 1, 1],
    "normal_cdf": [0, 0, 0.5, 0.5, 1, 1],
    "normal_density": [0, 0, (2 * np.pi) ** -0.5, (2 * np.pi) ** -0.5, 0, 0],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EDGES)
def test_edges(name, dtype):
    x = [-np.inf, -1e30, -0.0, 0.0, 1e30, np.inf]
    found = compiled(name, dtype)([*x, np.nan])
    np.testing.assert_allclose(found[:-1], EDGES[name], rtol=1e-6)
    assert np.isnan(found[-1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exp_of_and_to_denormals(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    bottom = -103.9 if dtype == "float32" else -745.1
    for flushes in (False, True):
        np.testing.assert_array_equal(compiled("exp", dtype, flushes)([tiny, -tiny]), [1, 1])
        np.testing.assert_array_equal(compiled("tanh", dtype, True)([tiny, -tiny]), [0, -0.0])
    assert compiled("exp", dtype)([bottom])[0] == tiny
    assert compiled("exp", dtype, flushes=True)([bottom])[0] == 0
    np.testing.assert_array_equal(compiled("tanh", dtype)([tiny, -tiny]), [tiny, -tiny])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_logarithm_at_the_edges(dtype):
    """Denormals too, where they are not taken for zeros."""
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([-1, -np.inf, np.nan, 0, -0.0, np.inf, 1], dtype)
    expected = [np.nan] * 3 + [-np.inf, -np.inf, np.inf, 0]
    np.testing.assert_array_equal(compiled("log", dtype)(x), expected)
    x = tiny * np.arange(1, 2000, 7).astype(dtype)
    assert worst(compiled("log", dtype)(x), x, mpmath.log, dtype) <= 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_angles_of_any_size(name, dtype):
    """Every binade, and what lies nearest to whole quarter turns."""
    info = np.finfo(dtype)
    generator = np.random.default_rng(11)
    exponents = np.arange(info.minexp, info.maxexp)
    every = np.concatenate([np.ldexp(generator.uniform(1, 2, exponents.size), exponents)] * 3)
    quarters = np.concatenate([np.arange(1, 500), generator.integers(1, 1 << 40, 500)])
    with mpmath.workprec(200):
        near = [float(int(k) * mpmath.pi / 2) for k in quarters]
    # The float64 nearest to a whole multiple of pi/2 (6381956970095103 * 2^797), and a float32.
    x = np.concatenate([every, near, [16367173 * 2.0**72, math.pi / 4]]).astype(dtype)
    if dtype == "float64":
        x = np.append(x, 6381956970095103 * 2.0**797)
    x = np.concatenate([x, -x])
    function = compiled(name, dtype)

    def exact(value):
        with mpmath.workprec(1400):
            return getattr(mpmath, name)(value)

    assert worst(function(x), x, exact, dtype) <= 1
    assert np.isnan(function([np.inf, -np.inf, np.nan])).all()
    zeros = function([0.0, -0.0])
    np.testing.assert_array_equal(zeros, [0, 0] if name == "sin" else [1, 1])
    np.testing.assert_array_equal(np.signbit(zeros), [False, name == "sin"])
