"""What is drawn for a fit, in the order in which scikit-learn's MLP draws it.

From the same `random_state` come the same initial weights, the same validation rows and the same
orders of the rows: the network is then scikit-learn's, to rounding.
"""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import train_test_split

from ..model import Sequential


def initial_weights(net: Sequential, random: np.random.RandomState, factors: list[float]) -> None:
    """Draw the weights and biases of all Dense layers, from input to output.

    Both are uniform within sqrt(factor / (inputs + units)) of 0 (X. Glorot and Y. Bengio, 2010).
    A bias that a BatchNorm has made useless is drawn and dropped.
    """
    parameters = net.parameters()
    matrices = [name for name in parameters if name.endswith(".W")]
    matrices.sort(key=lambda name: int(name.split(".")[0]))
    for name, factor in zip(matrices, factors, strict=True):
        W = parameters[name]
        bound = np.sqrt(factor / sum(W.shape))
        W[:] = random.uniform(-bound, bound, W.shape)
        biases = random.uniform(-bound, bound, W.shape[1])
        if (place := name[:-1] + "b") in parameters:
            parameters[place][:] = biases


def validation_rows(
    random: np.random.RandomState, n_rows: int, fraction: float, classes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the training and of the validation rows.

    Parameters
    ----------
    classes : ndarray of shape (n_rows,) or None
        The classes whose proportions both keep.

    Raises
    ------
    ValueError
        If one has too few rows.
    """
    train, valid = train_test_split(
        np.arange(n_rows), random_state=random, test_size=fraction, stratify=classes
    )
    if len(valid) < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of your "
            "dataset."
        )
    return train, valid


class Orders:
    """The order of the rows in each epoch: each shuffles that of the epoch before."""

    def __init__(self, random: np.random.RandomState, n_rows: int):
        self._random, self._order = random, np.arange(n_rows)

    def __call__(self, epoch: int, n_rows: int) -> np.ndarray:
        self._random.shuffle(self._order)
        return self._order
