"""Preprocessing of all columns together."""

from __future__ import annotations

import numpy as np

from ..checks import real_number
from .base import Linear, Preprocessing, centred


class Whiten(Preprocessing):
    """Makes the columns uncorrelated, with mean 0 and variance 1: (x - mean) M.

    With the eigenvectors U and eigenvalues v of the covariance, M is U / sqrt(v) for PCA, whose
    columns are the principal components, the one of the largest variance first, and U / sqrt(v) U'
    for ZCA, whose columns stay as close to those of X as they can (A. Bell and T. Sejnowski, 1997).
    Components without variance in the training rows are left out: they become 0.

    The eigenvectors come from LAPACK, so their last bits may differ between machines.

    Parameters
    ----------
    kind : {"pca", "zca"}, default "pca"
    epsilon : float, default 0.0
        Added to each eigenvalue, in units of their mean, so that components of little variance are
        not blown up; 0.1 is usual for pixels.

    Raises
    ------
    ValueError, TypeError
        If an argument is none of these; in a fit, if there is only one training row.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Dense, Sequential, Whiten
    >>> x = np.random.default_rng(0).standard_normal(200)
    >>> X = np.stack([x, x + 0.1 * x**3], axis=1)
    >>> net = Sequential([Whiten("zca"), Dense(1)]).adapt(X)
    >>> net.state_dict()["0.matrix"].shape
    (2, 2)
    """

    is_by_column = False
    subtracts = "mean"

    def __init__(self, kind="pca", epsilon=0.0):
        if not isinstance(kind, str) or kind.lower() not in ("pca", "zca"):
            raise ValueError(f"kind must be 'pca' or 'zca', not {kind!r}")
        self.kind = kind.lower()
        self.epsilon = real_number(epsilon, "epsilon", least=0)

    def shapes(self, n_inputs):
        return {"mean": (n_inputs,), "matrix": (n_inputs, n_inputs)}

    def learn(self, X):
        if len(X) < 2:
            raise ValueError("whitening needs at least two training rows: one has no covariance")
        mean, deviations = centred(X)
        values, U = np.linalg.eigh(deviations.T @ deviations / len(X))
        values, U = values[::-1], U[:, ::-1]
        # The sign of an eigenvector is arbitrary: its largest element is positive.
        largest = U[np.abs(U).argmax(axis=0), np.arange(len(U))]
        U = U * np.where(largest < 0, -1, 1)
        eps, tiny = np.finfo(np.float64).eps, float(np.finfo(np.float32).tiny)
        least = max(len(values) * eps * values[0], tiny**2)  # whose root float32 can divide by
        values = np.maximum(values, 0) + self.epsilon * max(values.mean(), 0)
        factors = np.where(values > least, 1 / np.sqrt(np.maximum(values, least)), 0)
        matrix = U * factors
        return {"mean": mean, "matrix": matrix if self.kind == "pca" else matrix @ U.T}

    def transform(self, X, state):
        return (X - state["mean"]) @ state["matrix"]

    def linear(self, state):
        return Linear(state["matrix"], -state["mean"] @ state["matrix"])
