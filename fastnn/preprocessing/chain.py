"""The preprocessing layers of a network: what they learn, and what they make of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..checks import is_finite, is_missing
from ..engines.csr import CSR
from ..errors import NotFittedError
from ..features import check_features, dense_array
from ..layer import Layer
from ..sparse import is_sparse
from .base import LEARNED, Preprocessing

#: Elements that are prepared at once.
_BLOCK = 1 << 18

#: Elements that are copied at once to learn from them.
_LEARNED_AT_ONCE = 1 << 24

#: How far off 0 columns may lie, in units of their spread, for layers to be folded into weights:
#: what is then lost to cancellation are four bits.
_FARTHEST = 16.0

State = Mapping[str, np.ndarray]


class Chain:
    """The preprocessing layers at the beginning of a network.

    Parameters
    ----------
    layers : iterable of Layer
        All layers of the network.
    dtype : dtype
        Of the network.
    """

    def __init__(self, layers: Iterable[Layer], dtype: np.dtype):
        self._layers: list[tuple[str, Preprocessing]] = []
        for index, layer in enumerate(layers):
            if not isinstance(layer, Preprocessing):
                break
            self._layers.append((str(index), layer))
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._layers)

    def read(self, X, n_inputs: int | None, what: str = "X") -> np.ndarray:
        """X as given, checked: a matrix of real numbers, of which some may be missing.

        Raises
        ------
        ShapeError, TypeError, ValueError
            As :func:`fastnn.features.check_features`, and for sparse matrices.
        """
        if isinstance(X, CSR) or is_sparse(X):
            raise TypeError(
                f"{what} is a sparse matrix, which would become dense by {self._layers[0][1]!r}: "
                "give X.toarray(), or prepare it without moving its zeros"
            )
        if self._layers[0][1].takes_missing:
            return _read_missing(X, n_inputs, what)
        found = check_features(X, n_inputs, np.dtype(np.float64), what)
        assert isinstance(found, np.ndarray)
        return found

    def is_learned(self, state: State) -> bool:
        """Whether the layers have learned from rows; `state` is that of the network, by name."""
        names = [f"{name}.{LEARNED}" for name, layer in self._layers if layer.learns]
        return all(name in state and state[name][0] > 0 for name in names)

    def learn(self, X: np.ndarray, rows: np.ndarray | None) -> tuple[dict[str, np.ndarray], Any]:
        """What the layers learn from some rows of X, by name, and all rows prepared by it.

        Raises
        ------
        ValueError
            If nothing can be learned from them.
        """
        learned: dict[str, np.ndarray] = {}
        for name, layer in self._layers:
            with np.errstate(all="ignore"):
                state = self._learned(layer, X if rows is None else X[rows]) if layer.learns else {}
            for key, value in state.items():
                if not is_finite(value.reshape(-1)):
                    raise ValueError(
                        f"{layer!r} cannot learn from X: its {key} is not finite in "
                        f"{self._dtype.name}; scale X first"
                    )
                learned[f"{name}.{key}"] = value
            X = self._apply([(name, layer)], X, learned, "X")
        return learned, X

    def _learned(self, layer: Preprocessing, X: np.ndarray) -> dict[str, np.ndarray]:
        """What a layer learns, some columns after others where that is the same."""
        each = max(1, _LEARNED_AT_ONCE // len(X)) if layer.is_by_column else X.shape[1]
        parts: dict[str, list[np.ndarray]] = {}
        farthest = 0.0
        for first in range(0, X.shape[1], each):
            columns = self._rounded(X[:, first : first + each], layer).astype(np.float64)
            farthest = max(farthest, _distance(columns))
            for key, value in layer.learn(columns).items():
                parts.setdefault(key, []).append(value)
        state = {key: np.concatenate(values, axis=-1) for key, values in parts.items()}
        state[LEARNED] = np.array([len(X), farthest])
        return {key: value.astype(self._dtype) for key, value in state.items()}

    def transform(self, X: np.ndarray, state: State, what: str = "X") -> np.ndarray:
        """Rows that were read, prepared.

        Raises
        ------
        NotFittedError
            If a layer has not learned yet.
        ValueError
            If a number becomes too large for the network's dtype.
        """
        if not self.is_learned(state):
            raise NotFittedError(
                f"{self._layers[0][1]!r} has learned nothing yet: call fit on arrays, or "
                "net.adapt(X) with training rows first"
            )
        return self._apply(self._layers, X, state, what)

    def _apply(self, layers, X: np.ndarray, state: State, what: str) -> np.ndarray:
        width = X.shape[1]
        known = []
        for name, layer in layers:
            names = layer.shapes(width)
            known.append({key: state[f"{name}.{key}"].astype(np.float64) for key in names})
            width = layer.width(width)
        found = np.empty((len(X), width), self._dtype)
        step = max(1, _BLOCK // max(1, X.shape[1], width))
        with np.errstate(all="ignore"):
            for first in range(0, len(X), step):
                block = X[first : first + step]
                for (_, layer), values in zip(layers, known, strict=True):
                    block = layer.transform(self._rounded(block, layer).astype(np.float64), values)
                    block = block.astype(self._dtype)
                found[first : first + step] = block
        if not is_finite(found.reshape(-1)):
            row, column = np.argwhere(~np.isfinite(found))[0].tolist()
            raise ValueError(
                f"row {row} of {what}, prepared by {self._layers[-1][1]!r}, is not finite in "
                f"{self._dtype.name} in column {column}: look for numbers far from all others"
            )
        return found

    def _rounded(self, X: np.ndarray, layer: Preprocessing) -> np.ndarray:
        return X.astype(self._dtype) if layer.rounds_inputs else X

    def folded(
        self, W: np.ndarray, b: np.ndarray, state: State
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Weights and biases that make of rows as given what W and b make of prepared ones.

        None if a layer is not linear, changes the number of columns, or if columns lie so far off 0
        that the difference of large numbers would lose what they tell.
        """
        W, b = W.astype(np.float64), b.astype(np.float64)
        for name, layer in reversed(self._layers):
            shapes = layer.shapes(W.shape[0])
            own = {key: state[f"{name}.{key}"].astype(np.float64) for key in shapes}
            linear = layer.linear(own)
            if linear is None or (layer.learns and state[f"{name}.{LEARNED}"][1] > _FARTHEST):
                return None
            b = b + np.broadcast_to(linear.shift, len(W)) @ W
            W = linear.scale @ W if linear.scale.ndim == 2 else linear.scale[:, None] * W
        return W, b


def _distance(X: np.ndarray) -> float:
    """How far off 0 the columns lie at most, in units of their spread; at most a million."""
    known = ~np.isnan(X)
    counts = np.maximum(known.sum(axis=0), 1)
    means = np.sum(X, axis=0, where=known) / counts
    variances = np.sum((X - means) ** 2, axis=0, where=known) / counts
    least = 1e-6 * np.abs(means) + np.finfo(np.float64).tiny
    return float((np.abs(means) / np.maximum(np.sqrt(variances), least)).max(initial=0.0))


def _read_missing(X, n_inputs: int | None, what: str) -> np.ndarray:
    """X as float64 with NaN where a value is missing."""
    if isinstance(X, np.ma.MaskedArray):
        X = np.ma.filled(X.astype(np.float64), np.nan)
    array = dense_array(X, what)
    if array.dtype.kind == "f":
        missing = np.isnan(array)
    elif array.dtype.kind == "O":
        missing = np.array([is_missing(value) for value in array.flat], bool).reshape(array.shape)
    else:
        missing = np.zeros(array.shape, bool)
    given = X
    if missing.any():
        given = np.where(missing, 0, array)
        if hasattr(X, "columns"):  # for the names of columns in messages
            given = type(X)(given, columns=X.columns)
    found = check_features(given, n_inputs, np.dtype(np.float64), what)
    assert isinstance(found, np.ndarray)
    if missing.any():
        found = found.astype(np.float64)
        found[missing] = np.nan
    return found
