"""Preprocessing of missing values."""

from __future__ import annotations

import numbers

import numpy as np

from ..checks import real_number, true_or_false
from .base import Preprocessing


class Impute(Preprocessing):
    """Replaces missing values: NaN, and None and pandas' NA in objects.

    It must be the first layer: the others take no missing values.

    Parameters
    ----------
    strategy : {"median", "mean"} or float, default "median"
        Of the values that the column has in the training rows; or the number to put in.
    indicators : bool, default False
        Whether a column follows for each column of X that is 1 where the value was missing, else 0.

    Raises
    ------
    ValueError, TypeError
        If an argument is none of these; in a fit, if a column has no value in the training rows.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Dense, Impute, Sequential
    >>> from fastnn.initializers import Constant
    >>> X = [[1.0, 10.0], [np.nan, 30.0], [3.0, np.nan]]
    >>> net = Sequential([Impute(), Dense(1, init=Constant(1))]).adapt(X)
    >>> net.logits(X)
    array([[11.],
           [32.],
           [23.]], dtype=float32)
    """

    takes_missing = True
    is_linear = False

    def __init__(self, strategy="median", indicators=False):
        if isinstance(strategy, numbers.Real):
            strategy = real_number(strategy, "strategy")
        elif not isinstance(strategy, str) or strategy not in ("median", "mean"):
            raise ValueError(f"strategy must be 'median', 'mean' or a number, not {strategy!r}")
        self.strategy: str | float = strategy
        self.indicators = true_or_false(indicators, "indicators")

    def width(self, n_inputs):
        return 2 * n_inputs if self.indicators else n_inputs

    def shapes(self, n_inputs):
        return {"fill": (n_inputs,)}

    def learn(self, X):
        if not isinstance(self.strategy, str):
            return {"fill": np.full(X.shape[1], self.strategy)}
        empty = np.isnan(X).all(axis=0)
        if empty.any():
            raise ValueError(
                f"column {int(empty.argmax())} of X has no value in the {len(X)} training rows: "
                "leave the column out, or put in a number, as by Impute(0.0)"
            )
        return {"fill": np.nanmedian(X, axis=0) if self.strategy == "median" else np.nanmean(X, 0)}

    def transform(self, X, state):
        missing = np.isnan(X)
        np.copyto(X, state["fill"], where=missing)
        return np.concatenate([X, missing], axis=1) if self.indicators else X
