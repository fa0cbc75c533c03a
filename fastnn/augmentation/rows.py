"""Augmentation of any rows: noise and mixup."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from ..checks import real_number
from ..errors import ShapeError


class RowWise(ABC):
    """Base of augmentations that change each row by itself, by random numbers of its own.

    So the numbers of several batches can be drawn batch by batch, and applied to all at once.
    """

    @property
    def n_inputs(self) -> int | None:
        """Elements of a row, if it takes no others."""
        return None

    @abstractmethod
    def draw(
        self, shape: tuple[int, int], dtype: np.dtype, rng: np.random.Generator
    ) -> tuple[np.ndarray | None, ...]:
        """The random numbers of a batch: arrays with as many rows, or None for what is not used."""

    @abstractmethod
    def apply(self, batch: np.ndarray, drawn: Sequence[np.ndarray | None]) -> None:
        """Change a contiguous batch of floats in place by what was drawn."""

    def __call__(self, batch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The changed rows of a batch, (m, n_inputs), of float32 or float64.

        Raises
        ------
        TypeError, ShapeError
            If it is no matrix of floats, or its rows have another length.
        """
        _check(batch, self.n_inputs, f"the batch of {self!r}")
        changed = np.array(batch, order="C")
        self.apply(changed, self.draw(changed.shape, changed.dtype, rng))
        return changed


class Noise(RowWise):
    """Normal noise on every element of any data.

    Parameters
    ----------
    std : float
        Its standard deviation.

    Raises
    ------
    ValueError, TypeError
        If it is negative or no number.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.augmentation import Noise
    >>> noisy = Noise(0.1)(np.zeros((1000, 10)), np.random.default_rng(0))
    >>> float(noisy.std().round(2))
    0.1
    """

    def __init__(self, std):
        self.std = real_number(std, "std", least=0.0)

    def draw(self, shape, dtype, rng):
        return (rng.standard_normal(shape, dtype),)

    def apply(self, batch, drawn):
        add_noise(batch, self.std, drawn[0])

    def __repr__(self) -> str:
        return f"Noise(std={self.std})"


class Mixup:
    """Weighted means of two rows and, with the same weights, of their targets.

    Row i becomes w_i x_i + (1 - w_i) x_j, where j is a row of the batch at random and w_i is
    drawn from the distribution Beta(alpha, alpha): H. Zhang et al., mixup: beyond empirical risk
    minimization, 2018. Labels become one-hot rows, so accuracies of training count the larger
    share. The weight of a row stays that of x_i.

    Parameters
    ----------
    alpha : float, default 0.2
        Above 0; the larger it is, the more rows are mixed in equal parts.

    Raises
    ------
    ValueError, TypeError
        If it is not above 0, or no number.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.augmentation import Mixup
    >>> X, y = np.array([[0.0], [8.0]]), np.eye(2)
    >>> X, y = Mixup(1.0).augment_pairs(X, y, np.random.default_rng(0))
    >>> bool((X[:, 0] == 8 * y[:, 1]).all())
    True
    """

    def __init__(self, alpha=0.2):
        self.alpha = real_number(alpha, "alpha", positive=True)

    def augment_pairs(
        self, X: np.ndarray, y: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The mixed rows of a batch, (m, n_inputs), and their targets, (m, n), both of floats."""
        _check(X, None, f"X of {self!r}")
        _check(y, None, f"y of {self!r}")
        if len(X) != len(y):
            raise ShapeError(f"{self!r} takes as many rows of y as of X, not {len(y)} and {len(X)}")
        weights = rng.beta(self.alpha, self.alpha, len(X))[:, None]
        others = rng.permutation(len(X))
        return _mixed(X, weights, others), _mixed(y, weights, others)

    def __repr__(self) -> str:
        return f"Mixup(alpha={self.alpha})"


def _mixed(values: np.ndarray, weights: np.ndarray, others: np.ndarray) -> np.ndarray:
    weights = weights.astype(values.dtype)
    return weights * values + (1 - weights) * values[others]


def add_noise(batch: np.ndarray, std: float, noise: np.ndarray) -> None:
    """Add noise to a batch of floats, in place; destroys the noise, of standard deviation 1."""
    noise *= std
    batch += noise


def _check(array, n_columns: int | None, what: str) -> None:
    """Refuse what is no matrix of floats with so many columns."""
    if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64):
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{what} must be an array of float32 or float64, not {kind}")
    if array.ndim != 2 or n_columns not in (None, array.shape[1]):
        columns = "n" if n_columns is None else n_columns
        raise ShapeError(f"{what} must have the shape (m, {columns}), not {array.shape}")
