"""Real data sets as arrays: digits, MNIST, and tables of numbers and categories.

A table is a folder with ``<name>.csv.gz`` (a header, the target last, empty fields missing) and
``schema.json`` with the kind of each column. Its numbers are standardised with the training rows,
after their missing values are set to the median; a category becomes a column for each level that
the training rows have.
"""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mnist import read_idx

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class Dataset:
    """Rows for training, for validation and for the test, float32.

    ``y`` are class numbers, or of a regression numbers whose training rows have mean 0 and standard
    deviation 1.
    """

    name: str
    task: str  # "classes" or "regression"
    X: np.ndarray
    y: np.ndarray
    X_valid: np.ndarray
    y_valid: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray

    @property
    def n_outputs(self) -> int:
        """Outputs of a network for it."""
        return 1 if self.task == "regression" else int(self.y.max()) + 1


def split(name: str, task: str, X, y, seed: int, test=None) -> Dataset:
    """A random fifth of the rows is for the test unless it is given, a fifth of the rest for
    validation."""
    order = np.random.default_rng(seed).permutation(len(X))
    X, y = X[order], y[order]
    if test is None:
        n = len(X) // 5
        test, X, y = (X[:n], y[:n]), X[n:], y[n:]
    n = len(X) // 5
    return Dataset(name, task, X[n:], y[n:], X[:n], y[:n], *test)


def digits(seed: int) -> Dataset:
    """The handwritten digits that come with fastnn, 8 x 8."""
    from fastnn.data import load_digits

    X, y = load_digits()
    return split("digits", "classes", np.asarray(X, np.float32) / 16, np.asarray(y), seed)


def mnist(folder: Path, seed: int, rows: int | None = None) -> Dataset:
    """MNIST, 28 x 28, with its own test images."""
    arrays = [read_idx(next(folder.glob(f"{part}-{kind}*.gz")))
              for part in ("train", "t10k") for kind in ("images", "labels")]  # fmt: skip
    X, y, X_test, y_test = arrays
    X, X_test = (a.reshape(len(a), -1).astype(np.float32) / 255 for a in (X, X_test))
    test = X_test, y_test.astype(int)
    return split("mnist", "classes", X[:rows], y[:rows].astype(int), seed, test)


def table(folder: Path, seed: int, rows: int | None = None) -> Dataset:
    """A table; of a longer one than `rows` a random part."""
    schema = json.loads((folder / "schema.json").read_text())
    with gzip.open(folder / f"{folder.name}.csv.gz", "rt", newline="") as file:
        _, *lines = csv.reader(file)
    order = np.random.default_rng(seed).permutation(len(lines))[:rows]
    columns = list(zip(*(lines[i] for i in order), strict=True))
    n_test = len(order) // 5
    trained = slice(n_test + (len(order) - n_test) // 5, None)
    parts = []
    for column, values in zip(schema["columns"], columns, strict=False):
        encode = _numbers if column["kind"] == "numeric" else _levels
        parts.append(encode(np.array(values), trained))
    X = np.concatenate(parts, axis=1).astype(np.float32)
    regression = schema["task"] == "regression"
    y = np.array(columns[-1], np.float32) if regression else np.unique(
        np.array(columns[-1]), return_inverse=True
    )[1]  # fmt: skip
    if regression:
        y = (y - y[trained].mean()) / y[trained].std()
    n_valid = trained.start
    return Dataset(
        folder.name, "regression" if regression else "classes", X[trained], y[trained],
        X[n_test:n_valid], y[n_test:n_valid], X[:n_test], y[:n_test],
    )  # fmt: skip


def _numbers(texts: np.ndarray, trained: slice) -> np.ndarray:
    """One standardised column."""
    values = np.array([float(text) if text else np.nan for text in texts])
    values[np.isnan(values)] = np.nanmedian(values[trained])
    spread = values[trained].std()
    return ((values - values[trained].mean()) / (spread if spread > 0 else 1))[:, None]


def _levels(texts: np.ndarray, trained: slice) -> np.ndarray:
    """A column for each level; a missing value is a level of its own."""
    return (texts[:, None] == np.unique(texts[trained])).astype(float)
