"""The images that bench/accuracy.py trains on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

#: Data sets in idx files; "digits", 8 x 8, come with fastnn and stand for them in a quick run.
NAMES = ("mnist", "fashion_mnist")


@dataclass(frozen=True)
class Pictures:
    """Rows of pixels, float32, and labels, int64.

    The training pixels, all together, have mean 0 and standard deviation 1; `mean` and `spread` are
    those that they had between 0 and 1.
    """

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    mean: np.float32
    spread: np.float32

    @property
    def blank(self) -> float:
        """The background of the images."""
        return -float(self.mean / self.spread)


def missing(folder: Path, name: str) -> str | None:
    """Why a data set cannot be read, if so."""
    if name == "digits" or (folder / name).is_dir():
        return None
    return f"{folder} has no folder {name}: name the folder of both data sets with --data"


def standardised(folder: Path, name: str, rows: int | None, held_out: bool) -> Pictures:
    """A data set; of the training images only the first rows, if so many are given.

    If `held_out`, its last 10,000 training images stand for the test images: recipes are chosen
    with them.
    """
    from fastnn import data

    if name == "digits":
        X, y = data.load_digits()
        train, test = data.stratified_split(y)
        (X, y), (X_test, y_test), most = (X[train], y[train]), (X[test], y[test]), 16
    else:
        (X, y), (X_test, y_test) = data.load_mnist(folder / name)
        most = 255
        if held_out:
            (X, y), (X_test, y_test) = (X[:-10_000], y[:-10_000]), (X[-10_000:], y[-10_000:])
    X, X_test = (np.asarray(values, np.float32) / most for values in (X[:rows], X_test))
    mean, spread = X.mean(), X.std()
    X, X_test = ((values - mean) / spread for values in (X, X_test))
    return Pictures(X, y[:rows], X_test, y_test, mean, spread)
