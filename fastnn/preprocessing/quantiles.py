"""Preprocessing by quantiles."""

from __future__ import annotations

import numpy as np

from ..checks import whole_number
from .base import Preprocessing

#: Quantiles are kept this far from 0 and 1, whose normal numbers are infinite: within +-5.2, as in
#: scikit-learn's QuantileTransformer.
_EDGE = 1e-7


class QuantileNormal(Preprocessing):
    """Gives each column a normal distribution.

    Each value becomes the number that has the same quantile in the standard normal distribution.
    The quantiles are those of the training rows, with straight lines between them; a value that
    many rows share has the middle of its quantiles. What lies outside their range becomes -5.2 or
    5.2.

    Parameters
    ----------
    n_quantiles : int, default 1000
        How many quantiles are kept of each column.

    Raises
    ------
    ValueError, TypeError
        If there are fewer than 2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Dense, QuantileNormal, Sequential
    >>> from fastnn.initializers import Constant
    >>> X = np.exp(np.linspace(-3, 3, 101))[:, None]
    >>> net = Sequential([QuantileNormal(101), Dense(1, init=Constant(1))]).adapt(X)
    >>> bool(np.abs(net.logits(X)[50]) < 1e-6)
    True
    """

    is_linear = False

    def __init__(self, n_quantiles=1000):
        self.n_quantiles = whole_number(n_quantiles, "n_quantiles", least=2, most=100_000)

    def shapes(self, n_inputs):
        return {"quantiles": (self.n_quantiles, n_inputs)}

    def learn(self, X):
        found = np.quantile(X, self._levels, axis=0)
        return {"quantiles": np.maximum.accumulate(found, axis=0)}  # but for rounding they ascend

    @property
    def _levels(self) -> np.ndarray:
        return np.linspace(0, 1, self.n_quantiles)

    def transform(self, X, state):
        from scipy.special import ndtri  # which takes long to import

        levels = self._levels
        known = state["quantiles"]
        if (known == known.astype(np.float32)).all():  # learned in float32: equal numbers stay so
            X = X.astype(np.float32).astype(np.float64)
        for x, quantiles in zip(X.T, known.T, strict=True):
            # From below a value shared by many rows has its largest quantile, from above the least.
            upper = np.interp(x, quantiles, levels)
            lower = -np.interp(-x, -quantiles[::-1], -levels[::-1])
            level = np.clip((upper + lower) / 2, _EDGE, 1 - _EDGE)
            level[x < quantiles[0]], level[x > quantiles[-1]] = _EDGE, 1 - _EDGE
            x[:] = ndtri(level)
        return X
