"""Preprocessing that moves and stretches each column by itself."""

from __future__ import annotations

import numpy as np

from ..checks import real_number, whole_number
from .base import Linear, Preprocessing, by_channel, centred, rounding


class _OfChannels(Preprocessing):
    """Base of the layers whose numbers are those of a column or of a channel."""

    subtracts = "mean"

    def __init__(self, channels=None):
        self.channels = None if channels is None else whole_number(channels, "channels")
        self.is_by_column = self.channels is None

    def shapes(self, n_inputs):
        if self.channels is not None and n_inputs % self.channels:
            raise ValueError(
                f"{self!r} is for images whose columns are pixels of {self.channels} channels "
                f"each, but X has {n_inputs} columns, which is no multiple of {self.channels}"
            )
        return {"mean": (n_inputs,)}


class Center(_OfChannels):
    """Subtracts the mean: of each column, which is AlexNet's mean image, or of each channel.

    Inputs that are all positive let the gradient of all weights of a unit have the same sign, so
    that gradient descent takes a zigzag path (Y. LeCun et al., Efficient BackProp, 1998).

    Parameters
    ----------
    channels : int, optional
        For images with so many channels, whose columns are pixel by pixel its channels: the mean of
        each channel over all pixels (VGG). By default every column has its own.

    Raises
    ------
    ValueError, TypeError
        If `channels` is no whole number of at least 1; in a fit, if X has no such columns.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Center, Dense, Sequential
    >>> net = Sequential([Center(), Dense(1)]).adapt([[1.0, 20.0], [3.0, 40.0]])
    >>> net.state_dict()["0.mean"]
    array([ 2., 30.], dtype=float32)
    """

    def learn(self, X):
        means, _ = centred(X)
        return {"mean": by_channel(means, self.channels)}

    def linear(self, state):
        return Linear(np.ones_like(state["mean"]), -state["mean"])


class Standardize(_OfChannels):
    """Gives each column mean 0 and standard deviation 1: (x - mean) / std.

    A column that is constant in the training rows becomes 0 in them.

    Parameters
    ----------
    channels : int, optional
        For images with so many channels, whose columns are pixel by pixel its channels: mean and
        standard deviation of each channel. By default every column has its own.

    Raises
    ------
    ValueError, TypeError
        If `channels` is no whole number of at least 1; in a fit, if X has no such columns.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Dense, Sequential, Standardize
    >>> X, y = [[170.0, 0.002], [180.0, 0.004], [160.0, 0.003]], [1.0, 2.0, 0.0]
    >>> net = Sequential([Standardize(), Dense(1)])
    >>> _ = net.fit(X, y, epochs=1, progress=False)
    >>> net.state_dict()["0.mean"].round(3)
    array([1.7e+02, 3.0e-03], dtype=float32)
    """

    def shapes(self, n_inputs):
        return {**super().shapes(n_inputs), "std": (n_inputs,)}

    def learn(self, X):
        means, deviations = centred(X)
        mean = by_channel(means, self.channels)
        # The variance over all elements of a channel, whose columns have different means.
        variances = np.square(deviations).mean(axis=0) + (means - mean) ** 2
        std = np.sqrt(by_channel(variances, self.channels))
        return {"mean": mean, "std": np.where(std > rounding(mean), std, 1)}

    def linear(self, state):
        return Linear(1 / state["std"], -state["mean"] / state["std"])


class MinMax(Preprocessing):
    """Maps each column from [min, max] of the training rows to an interval.

    A column that is constant in the training rows becomes `low` in them. Other rows may lie
    outside.

    Parameters
    ----------
    low, high : float, default 0 and 1

    Raises
    ------
    ValueError, TypeError
        If they are no numbers with low < high.

    Examples
    --------
    >>> from fastnn import Dense, MinMax, Sequential
    >>> from fastnn.initializers import Constant
    >>> net = Sequential([MinMax(), Dense(1, init=Constant(1))]).adapt([[10.0], [30.0]])
    >>> net.logits([[10.0], [20.0], [40.0]])
    array([[0. ],
           [0.5],
           [1.5]], dtype=float32)
    """

    subtracts = "min"

    def __init__(self, low=0.0, high=1.0):
        self.low, self.high = real_number(low, "low"), real_number(high, "high")
        if not self.low < self.high:
            raise ValueError(f"low must be below high, not {low!r} and {high!r}")

    def shapes(self, n_inputs):
        return {"min": (n_inputs,), "range": (n_inputs,)}

    def learn(self, X):
        least = X.min(axis=0)
        spread = X.max(axis=0) - least
        return {"min": least, "range": np.where(spread > rounding(least), spread, 1)}

    def linear(self, state):
        scale = (self.high - self.low) / state["range"]
        return Linear(scale, self.low - state["min"] * scale)


class Rescale(Preprocessing):
    """Multiplies by a factor and adds an offset: x factor + offset. It learns nothing.

    Parameters
    ----------
    factor : float
        Such as 1/255 for images of bytes.
    offset : float, default 0

    Raises
    ------
    ValueError, TypeError
        If the factor is 0, or one is no finite number.

    Examples
    --------
    >>> from fastnn import Dense, Rescale, Sequential
    >>> from fastnn.initializers import Constant
    >>> net = Sequential([Rescale(1 / 127.5, -1), Dense(1, init=Constant(1))], n_inputs=1)
    >>> net.logits([[0.0], [255.0]])
    array([[-1.],
           [ 1.]], dtype=float32)
    """

    learns = False

    def __init__(self, factor, offset=0.0):
        self.factor, self.offset = real_number(factor, "factor"), real_number(offset, "offset")
        if self.factor == 0:
            raise ValueError("factor must not be 0, which makes all columns constant")

    def linear(self, state):
        return Linear(np.array([self.factor]), np.array([self.offset]))


class RobustScale(Preprocessing):
    """Subtracts the median and divides by the inter-quartile range, then limits smoothly.

    Outliers move neither median nor quartiles. What is left of them is limited: x becomes
    x / sqrt(1 + (x / clip)^2), which hardly changes small numbers and stays between -clip and clip
    (D. Holzmüller et al., Better by default, 2024). A column whose quartiles are equal is divided
    by half of its range instead, and one that is constant becomes 0 in the training rows.

    Parameters
    ----------
    clip : float or None, default 3.0
        The limit; None for none.

    Raises
    ------
    ValueError, TypeError
        If `clip` is not above 0.

    Examples
    --------
    >>> from fastnn import Dense, RobustScale, Sequential
    >>> from fastnn.initializers import Constant
    >>> net = Sequential([RobustScale(), Dense(1, init=Constant(1))])
    >>> _ = net.adapt([[0.0], [1.0], [2.0], [3.0], [4.0]])
    >>> net.logits([[2.0], [4.0], [1e6]]).round(2)
    array([[0.  ],
           [0.95],
           [3.  ]], dtype=float32)
    """

    subtracts = "median"

    def __init__(self, clip=3.0):
        self.clip = None if clip is None else real_number(clip, "clip", positive=True)
        self.is_linear = clip is None

    def shapes(self, n_inputs):
        return {"median": (n_inputs,), "scale": (n_inputs,)}

    def learn(self, X):
        low, median, high = np.quantile(X, [0.25, 0.5, 0.75], axis=0)
        spread, half = high - low, (X.max(axis=0) - X.min(axis=0)) / 2
        least = rounding(median)
        spread = np.where(spread > least, spread, half)
        return {"median": median, "scale": np.where(spread > least, spread, 1)}

    def transform(self, X, state):
        if self.clip is None:
            return super().transform(X, state)
        X -= state["median"]
        X /= state["scale"]
        X /= np.hypot(1, X / self.clip)  # whose square may overflow
        return X

    def linear(self, state):
        return Linear(1 / state["scale"], -state["median"] / state["scale"])
