"""Powers of decay rates: right, the same in any slice, and the same bits on every processor."""

import hashlib

import mpmath
import numpy as np
import pytest

from fastnn.powers import consecutive_powers, powers

STEPS = np.array([1, 2, 3, 9, 100, 2047, 2048, 2049, 5000, 2**22 - 1, 2**22, 10**8, 2**31 - 1])
BETAS = [0.9, 0.95, 0.99, 0.999, 0.9999, 0.9999999, 1 - 2**-53, 0.5, 1e-3, 1e-300]


@pytest.mark.parametrize("beta", BETAS)
def test_they_are_right(beta):
    found = powers(beta, STEPS)
    with mpmath.workprec(200):
        for step, value in zip(STEPS.tolist(), found.tolist(), strict=True):
            right = mpmath.mpf(beta) ** step
            if right > 1e-59:
                assert abs(mpmath.mpf(value) / right - 1) < 1e-15
            else:
                assert 0 <= value < 1e-58


@pytest.mark.parametrize("beta", BETAS)
def test_a_slice_has_the_same_bits(beta):
    steps = np.arange(1, 5000)
    found = powers(beta, steps)
    for begin, end in ((0, 1), (7, 90), (2040, 2060), (4000, 4999)):
        assert np.array_equal(powers(beta, steps[begin:end]), found[begin:end])


def test_rates_that_change_have_powers_of_their_own():
    steps = np.arange(1, 300)
    betas = np.linspace(0.5, 0.99, len(steps))
    assert np.abs(powers(betas, steps) - betas**steps).max() < 1e-15
    assert (powers(np.full(3, 0.9999), np.full(3, 2**31 - 1)) < 1e-60).all()
    assert (powers(np.zeros(3), np.arange(1, 4)) == 0).all()


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 1e-300])
@pytest.mark.parametrize(
    ("first", "count"), [(1, 1), (1, 5000), (1023, 1), (1023, 2), (1024, 3000)]
)
def test_powers_that_are_kept_are_the_same(beta, first, count):
    steps = np.arange(first, first + count)
    assert np.array_equal(consecutive_powers(beta, first, count), powers(beta, steps))
    squared = consecutive_powers(beta, first, count, squared=True)
    assert np.array_equal(squared, powers(np.full(count, beta), steps))


def test_no_power_of_a_long_training_underflows():
    with np.errstate(all="raise"):
        assert (powers(0.9, np.array([2**31 - 1])) > 0).all()
        assert (powers(0.0, np.array([1, 2**31 - 1])) == 0).all()


def test_the_bits_do_not_depend_on_the_processor():
    """NumPy's own power has other bits with AVX-512 than without."""
    steps = np.arange(1, 20001)
    both = [powers(beta, steps) for beta in BETAS] + [powers(np.linspace(0, 0.99, 20000), steps)]
    found = hashlib.sha256(np.concatenate(both).astype("<f8").tobytes()).hexdigest()
    assert found == "102eb87d140a2ff6c2c6530e87c6d30fc6d23805433583e478aed5406d9c383c"
