"""What the tests of augmentation share."""

import numpy as np
import training_cases
from conftest import table

from fastnn import BatchNorm, Dense, Dropout, Sequential

X, y = table(150, n_inputs=12)
W = np.random.default_rng(1).uniform(0.1, 2.0, 150)


def network(*layers, **options):
    return Sequential(layers or [Dense(8, "tanh"), Dense(3)], **{"seed": 3, **options})


def rich(**options):
    layers = Dense(8, "tanh", l2=1e-3), BatchNorm(), Dropout(0.2), Dense(3, l1=1e-4)
    return network(*layers, **options)


def identity(batch, rng):
    return batch


def noise(batch, rng):
    batch += rng.normal(0, 0.3, batch.shape)
    return batch


def fitted(net, augment=None, data=(X, y), **options):
    options = {"epochs": 3, "batch_size": 16, "progress": False, **options}
    net.fit(*data, augment=augment, **options)
    return net


def assert_same(net, other):
    """All that is trained, and the history but for its seconds."""
    training_cases.assert_same(net, other)
    assert list(net.history) == list(other.history)
