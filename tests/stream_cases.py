"""What the tests of fits on batches share: rows, networks, sources, and comparisons."""

import numpy as np
import training_cases
from conftest import table

from fastnn import BatchNorm, Dense, Dropout, GaussianNoise, Sequential

X, y = table(150, n_inputs=5)
W = np.random.default_rng(1).uniform(0.1, 2.0, 150)


def batches(X=X, y=y, *more, size=32):
    return [tuple(a[i : i + size] for a in (X, y, *more)) for i in range(0, len(X), size)]


def network(*layers, **options):
    return Sequential(layers or [Dense(8, "tanh"), Dense(3)], seed=3, **options)


def plain():
    return network()


def rich():
    return network(
        Dense(8, "tanh", l2=1e-3), BatchNorm(), Dropout(0.2), GaussianNoise(0.1), Dense(3, l1=1e-4)
    )


class Loader:
    """As other packages have them: it knows its length, and gives lists."""

    def __init__(self, items):
        self.items, self.opened = items, 0

    def __len__(self):
        return len(self.items)

    def __iter__(self):
        self.opened += 1
        return (list(item) for item in self.items)


SOURCES = {
    "list": lambda items: items,
    "loader": Loader,
    "function": lambda items: lambda: iter(items),
    "generators": lambda items: lambda: (item for item in items),
}


def assert_same(net, other):
    """The whole training, but for what it took."""
    training_cases.assert_same(net, other)
    assert list(net.history) == list(other.history)
    assert net.history.n_steps == other.history.n_steps
    assert net.history.n_rows == other.history.n_rows or net.history.n_steps == 3


def compare(make, source, array_options=None, data=(X, y), size=32, **options):
    """Fit on arrays, and on the batches of a source."""
    net, other = make(), make()
    options = {"epochs": 3, "progress": False, **options}
    net.fit(*data[:2], shuffle=False, batch_size=size, **(array_options or {}), **options)
    other.fit(source(batches(*data, size=size)), **options)
    assert_same(net, other)
    return net, other
