"""Layers that draw random numbers in training. They hold no arrays."""

from __future__ import annotations

from . import schedules
from .checks import real_number
from .layer import Layer
from .ops import dropout, gaussian_noise


class Dropout(Layer):
    """Sets a random part of its inputs to 0 in training (N. Srivastava et al., 2014).

    Every element of every row is dropped independently, in new places at every step. They follow
    from the network's seed, the step, the layer and the element, so equal seeds give equal
    networks, and a resumed fit drops what an uninterrupted one does.

    Parameters
    ----------
    rate : float, schedule or callable
        The probability of a 0, at least 0 and below 1; a schedule of :mod:`fastnn.schedules`, or
        a function of the step (0, 1, ...) gives one for every step.
    scale_at : {"train", "test"}
        "train" divides what is kept by 1 - rate in training, so that predictions use the network
        as it is. "test" multiplies by 1 - rate in predictions instead, as in the paper of N.
        Srivastava et al. (2014); the expectations are the same. A schedule needs "train".

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type. A fit raises ValueError before an
        epoch in which a schedule gives no rate.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Dense, Dropout, Sequential
    >>> from fastnn.initializers import Constant
    >>> net = Sequential([Dropout(0.5), Dense(1, init=Constant(1))], n_inputs=8)
    >>> net.logits(np.ones((1, 8)))
    array([[8.]], dtype=float32)
    >>> trace = net.trace(np.ones((1, 8)), [8.0], loss="mse")  # as in training
    >>> trace["0.a"]
    array([[2., 2., 0., 0., 0., 0., 0., 2.]], dtype=float32)
    """

    def __init__(self, rate, scale_at="train"):
        if scale_at not in ("train", "test"):
            raise ValueError(f"scale_at must be 'train' or 'test', not {scale_at!r}")
        self.rate: float | schedules.Schedule
        if schedules.follows(rate):
            self.rate = schedules.of_hyperparameter(rate, "a dropout rate")
            if scale_at == "test":
                raise ValueError(
                    "a dropout rate that follows a schedule has no value in predictions: use "
                    "scale_at='train'"
                )
            for end, value in self.rate.extremes().items():
                real_number(value, f"{end} of a dropout rate", least=0, below=1)
        else:
            self.rate = real_number(rate, "rate", least=0, below=1)
        self.scale_at = scale_at

    def lower(self, lowering, name):
        dropout.lower(lowering, name, self.rate, self.scale_at == "test")

    def config(self):
        rate = self.rate.config() if isinstance(self.rate, schedules.Schedule) else self.rate
        return {"layer": "Dropout", "rate": rate, "scale_at": self.scale_at}

    def __repr__(self):
        scale_at = "" if self.scale_at == "train" else f", scale_at={self.scale_at!r}"
        return f"Dropout({self.rate!r}{scale_at})"


class GaussianNoise(Layer):
    """Adds normal noise to every element in training; predictions leave it out.

    As the first layer it is noise of the features. Like the places of a :class:`Dropout`, it
    follows from the network's seed, the step, the layer and the element.

    Parameters
    ----------
    std : float
        Its standard deviation, at least 0.

    Raises
    ------
    ValueError, TypeError
        If std is out of range or no number.

    Examples
    --------
    >>> from fastnn import Dense, GaussianNoise, Sequential
    >>> Sequential([GaussianNoise(0.1), Dense(1)])
    Sequential([GaussianNoise(0.1), Dense(1)], seed=0, dtype='float32')
    """

    def __init__(self, std):
        self.std = real_number(std, "std", least=0)

    def lower(self, lowering, name):
        gaussian_noise.lower(lowering, name, self.std)

    def config(self):
        return {"layer": "GaussianNoise", "std": self.std}

    def __repr__(self):
        return f"GaussianNoise({self.std!r})"
