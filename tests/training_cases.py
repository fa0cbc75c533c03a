"""What the tests of fits share: rows, a network, and the comparison of two trainings."""

import numpy as np
from conftest import table

from fastnn import BatchNorm, Dense, Dropout, Sequential

X, y = table(150, n_inputs=5)
W = np.random.default_rng(1).uniform(0.1, 2.0, 150)


def network(**options):
    return Sequential([Dense(8, "tanh"), BatchNorm(), Dropout(0.2), Dense(3)], seed=3, **options)


def fit(net, X=X, y=y, **options):
    net.fit(X, y, progress=False, **options)
    return net


def assert_same(net, other, history=True):
    """Parameters, statistics, optimizer and, but for what it took, history."""
    assert np.array_equal(net.flat_params, other.flat_params)
    for name, values in net.state_dict().items():
        assert np.array_equal(values, other.state_dict()[name]), name
    ours, theirs = net.training_state, other.training_state
    assert np.array_equal(ours.slots, theirs.slots)
    assert (ours.step, ours.total_steps, ours.epoch) == (
        theirs.step, theirs.total_steps, theirs.epoch,
    )  # fmt: skip
    if history:
        for name in set(net.history) - {"seconds"}:
            assert net.history[name] == other.history[name], name
        assert net.history.stopped == other.history.stopped
