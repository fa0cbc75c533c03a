"""Data sets by name: MNIST and Fashion-MNIST in a folder, and those of scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from .digits import load_digits
from .idx import mnist_images
from .split import split_rows, stratified_split

#: Data sets in MNIST's four files, and what they show.
IN_A_FOLDER = {
    "mnist": "60000 images of handwritten digits",
    "fashion_mnist": "60000 images of articles of clothing",
}
#: Data sets of :mod:`sklearn.datasets` except the digits, which fastnn contains itself.
OF_SKLEARN = {
    "iris": "3 species of iris, by 4 lengths of flowers",
    "wine": "3 cultivars of wine, by 13 measurements",
    "breast_cancer": "malignant and benign tumours, by 30 measurements",
    "diabetes": "how diabetes progresses in a year, by 10 measurements (regression)",
    "linnerud": "weight, waist and pulse, by 3 exercises of 20 men (regression)",
}
#: All names.
SHOWN = {"digits": "1347 real handwritten digits, which are part of fastnn"}
SHOWN |= IN_A_FOLDER | OF_SKLEARN
REGRESSIONS = ("diabetes", "linnerud")


class Named(NamedTuple):
    """A data set.

    Attributes
    ----------
    X, X_test : ndarray, shape (m, n)
        As they are: not scaled.
    y, y_test : ndarray
        Labels; of a regression values, of shape (m,) or (m, n_outputs).
    is_regression : bool
    shape : tuple of int, optional
        (height, width) of the images that the rows are.
    """

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    is_regression: bool
    shape: tuple[int, ...] | None = None


def load_named(name: str, folder=None) -> Named:
    """A data set by its name; a quarter of the rows is for the test where none are given.

    Parameters
    ----------
    name : str
        One of `SHOWN`.
    folder : str or path, optional
        Of the four idx files, or the one that contains a folder `name` of them.

    Raises
    ------
    ValueError, OSError
        If there is no such name, or the files are missing or damaged.
    ImportError
        If scikit-learn is needed and is not installed.

    Examples
    --------
    >>> from fastnn.data.named import load_named
    >>> data = load_named("iris")
    >>> data.X.shape, data.X_test.shape, data.is_regression
    ((114, 4), (36, 4), False)
    """
    if name in IN_A_FOLDER:
        if folder is None:
            raise ValueError(f"{name} needs the folder of its four idx files")
        folder = Path(folder)
        inside = folder / name
        (X, y), (X_test, y_test) = mnist_images(inside if inside.is_dir() else folder)
        rows, test_rows = (images.reshape(len(images), -1) for images in (X, X_test))
        return Named(rows, y, test_rows, y_test, False, X.shape[1:])
    if name == "digits":
        X, y = load_digits()
        return _parted(X, y, *stratified_split(y))
    if name not in OF_SKLEARN:
        raise ValueError(f"there is no data set {name!r}: choose from {', '.join(SHOWN)}")
    try:
        from sklearn import datasets
    except ImportError:
        raise ImportError(
            f"{name} is part of scikit-learn: pip install 'fastnn-cpu[sklearn]'"
        ) from None
    found = getattr(datasets, f"load_{name}")()
    X, y = found.data, found.target
    if name in REGRESSIONS:
        return _parted(X, y, *split_rows(None, len(X), 0.25, seed=0))._replace(is_regression=True)
    return _parted(X, y, *stratified_split(y))


def _parted(X: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> Named:
    return Named(X[train], y[train], X[test], y[test], False)
