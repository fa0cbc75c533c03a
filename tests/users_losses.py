"""What the tests of a user's losses share: the functions, and a network to fit."""

import numpy as np
import pytest
from conftest import table

from fastnn import Adam, Dense, Residual, Sequential
from fastnn.engines import compiled as compiled_module
from fastnn.engines import threads
from fastnn.engines.tuning import Tuner
from fastnn.losses import Custom

try:
    import numba
except ImportError:
    numba = None

needs_numba = pytest.mark.skipif(numba is None, reason="the function needs Numba")
X, LABELS = table(60)
Y = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)
WEIGHTS = np.linspace(0, 2, 60)


def squares(y, a):
    """mse as a NumPy function."""
    error = a - y
    return (error * error).mean(axis=1), 2 * error / a.shape[1]


def squares_of_a_row(y, a, da):
    """mse for one row, as a function for Numba."""
    total = 0.0
    for j in range(len(a)):
        error = a[j] - y[j]
        total += error * error
        da[j] += 2 * error / len(a)
    return total / len(a)


def steep_above(y, a):
    """A loss without symmetry: exp(a - y) - (a - y) - 1, summed over the outputs."""
    error = a - y
    return (np.exp(error) - error - 1).sum(axis=1), np.exp(error) - 1


def steep_above_of_a_row(y, a, da):
    total = 0.0
    for j in range(len(a)):
        error = a[j] - y[j]
        total += np.exp(error) - error - 1
        da[j] = np.exp(error) - 1
    return total


FORMS = ["NumPy", pytest.param("Numba", marks=needs_numba)]


def custom(form, function=squares, of_a_row=squares_of_a_row, **arguments):
    """The loss as a function of one of the forms."""
    return Custom(function if form == "NumPy" else numba.njit(of_a_row), **arguments)


def network(dtype="float32", n_outputs=3):
    layers = [Dense(9, "tanh"), Residual([Dense(9, "gelu")]), Dense(n_outputs, "softplus")]
    return Sequential(layers, n_inputs=X.shape[1], dtype=dtype)


def fit(loss, net=None, y=Y, **arguments):
    net = network() if net is None else net
    arguments = {"optimizer": Adam(0.01), "epochs": 2, "batch_size": 16} | arguments
    net.fit(X[: len(y)], y, loss=loss, progress=False, **arguments)
    return net


def bits(net):
    """The parameters and the history."""
    return net.flat_params.tobytes(), net.history["loss"]


def in_parts(monkeypatch, parts, n_threads):
    """Let every call be split into so many parts, on so many threads."""
    monkeypatch.setattr(compiled_module, "PARTS", parts)
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(threads, "get_num_threads", lambda: n_threads)
    monkeypatch.setattr(Tuner, "next", lambda self, batches: (n_threads, batches))
