"""Data for tests of the estimators, and scikit-learn's MLPs beside fastnn's."""

import warnings

import numpy as np
import sklearn.neural_network
from sklearn.exceptions import ConvergenceWarning

import fastnn


def table(n_rows=230, n_columns=6, seed=0):
    """X of standard normal columns, and four sums of them with some noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_columns))
    sums = X @ rng.normal(size=(n_columns, 4)) / 2
    return X, sums + 0.1 * rng.normal(size=sums.shape)


def targets(kind: str, sums: np.ndarray) -> np.ndarray:
    """Targets of every kind that an MLP takes."""
    return {
        "two": (sums[:, 0] > 0).astype(int),
        "four": np.array(["a", "b", "c", "d"])[sums.argmax(axis=1)],
        "labels": (sums > 0).astype(int),
        "number": sums[:, 0],
        "numbers": sums,
        "counts": np.floor(np.exp(sums[:, 0])),
    }[kind]


CLASSES = ("two", "four", "labels")


def of_fastnn(kind: str):
    """The class of fastnn for targets of some kind."""
    return fastnn.MLPClassifier if kind in CLASSES else fastnn.MLPRegressor


def of_sklearn(kind: str):
    """The class of scikit-learn for targets of some kind."""
    name = "MLPClassifier" if kind in CLASSES else "MLPRegressor"
    return getattr(sklearn.neural_network, name)


def fitted(estimator, X, y, **options):
    """The estimator after a fit whose number of epochs does not matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X, y, **options)


def made(kind: str, parameters=None, **options):
    """A fitted estimator of fastnn on the table, with few units and epochs."""
    X, sums = table()
    small = {"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0}
    return fitted(
        of_fastnn(kind)(**{**small, **(parameters or {})}), X, targets(kind, sums), **options
    )
