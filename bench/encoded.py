"""Data sets as scikit-learn's users prepare them: StandardScaler and OneHotEncoder in front.

Digits come with scikit-learn; tables and MNIST are in a folder as ``datasets.py`` describes it.
"""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mnist import load as load_mnist
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


class Encoded(NamedTuple):
    """Rows for training and for the test; a quarter of all are for the test, except of MNIST."""

    is_regression: bool
    X: np.ndarray  # or a CSR array
    X_test: np.ndarray
    y: np.ndarray
    y_test: np.ndarray


def encoded(folder: Path, name: str, dtype: str, sparse: bool = False) -> Encoded:
    """A data set as numbers of a type, dense or as CSR.

    Numbers are standardised, missing ones at their median; the targets of a regression too.
    """
    if name == "mnist":
        X, y, X_test, y_test = load_mnist(folder / "mnist", quick=False)
        return Encoded(False, X.astype(dtype), X_test.astype(dtype), y, y_test)
    regression, encoder = False, StandardScaler()
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        if sparse:
            encoder = OneHotEncoder(handle_unknown="ignore")
    else:
        X, y, regression, encoder = _table(folder / name, sparse)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    X, X_test = (
        part.astype(dtype) for part in (encoder.fit_transform(X), encoder.transform(X_test))
    )
    if regression:
        y, y_test = ((part - y.mean()) / y.std() for part in (y, y_test))
    return Encoded(regression, X, X_test, y, y_test)


def _table(folder: Path, sparse: bool):
    """(columns of numbers and texts, targets, whether it is a regression, the encoder)."""
    schema = json.loads((folder / "schema.json").read_text())
    with gzip.open(folder / f"{folder.name}.csv.gz", "rt", newline="") as file:
        _, *lines = csv.reader(file)
    cells = np.array(lines, dtype=object)
    X, targets = cells[:, :-1], cells[:, -1]
    numeric = np.array([column["kind"] == "numeric" for column in schema["columns"]])
    for column in np.flatnonzero(numeric):
        X[:, column] = [float(text) if text else np.nan for text in X[:, column]]
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    encoder = make_column_transformer(
        (numbers, np.flatnonzero(numeric)),
        (OneHotEncoder(handle_unknown="ignore"), np.flatnonzero(~numeric)),
        sparse_threshold=1.0 if sparse else 0.0,
    )
    regression = schema["task"] == "regression"
    return X, targets.astype(float if regression else str), regression, encoder
