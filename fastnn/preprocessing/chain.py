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
from .base import LEARNED, REST, Preprocessing

#: Elements that are prepared at once.
_BLOCK = 1 << 18

#: Elements that are copied at once to learn from them.
_LEARNED_AT_ONCE = 1 << 24

#: How far off 0 columns may lie, in units of their spread, for layers to be folded into weights:
#: what is then lost to cancellation are four bits.
_FARTHEST = 16.0

#: The most that is told apart of that.
_MOST_DISTANCE = 1e6

#: Factors that are folded into weights lie between 1 / this and this: no weight becomes so small,
#: and no element of X so large, that float32 cannot hold it.
_MOST_FACTOR = 1e12

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
        prepared = X if rows is None else X[rows]
        for name, layer in self._layers:
            with np.errstate(all="ignore"):
                state = self._learned(layer, prepared) if layer.learns else {}
            for key, value in state.items():
                if not is_finite(value.reshape(-1)):
                    raise ValueError(
                        f"{layer!r} cannot learn from X: its {key} is not finite in "
                        f"{self._dtype.name}; scale X first"
                    )
                learned[f"{name}.{key}"] = value
            if name != self._layers[-1][0]:
                prepared = _apply([(name, layer)], prepared, learned, "X", np.dtype(np.float64))
        del prepared  # which may take more memory than what is returned
        return learned, _apply(self._layers, X, learned, "X", self._dtype)

    def _learned(self, layer: Preprocessing, X: np.ndarray) -> dict[str, np.ndarray]:
        """What a layer learns, some columns after others where that is the same."""
        each = max(1, _LEARNED_AT_ONCE // len(X)) if layer.is_by_column else X.shape[1]
        parts: dict[str, list[np.ndarray]] = {}
        farthest = 0.0
        for first in range(0, X.shape[1], each):
            columns = X[:, first : first + each].astype(np.float64)
            found = layer.learn(columns)
            farthest = max(farthest, _distance(columns, found.get("matrix")))
            for key, value in found.items():
                parts.setdefault(key, []).append(value)
        state = {key: np.concatenate(values, axis=-1) for key, values in parts.items()}
        state[LEARNED] = np.array([len(X), farthest])
        if layer.subtracts is not None:
            exact = state[layer.subtracts]
            state[REST] = exact - exact.astype(self._dtype)
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
        return _apply(self._layers, X, state, what, self._dtype)

    @np.errstate(over="ignore", under="ignore", invalid="ignore")
    def in_dtype(self, state: State, dtype: np.dtype) -> State:
        """The state for a network of a dtype that may round off more."""
        found = dict(state)
        for name, layer in self._layers:
            if layer.subtracts is not None:
                key, rest = f"{name}.{layer.subtracts}", f"{name}.{REST}"
                exact = state[key].astype(np.float64) + state[rest]
                found[key] = exact.astype(dtype)
                found[rest] = exact - found[key]
        return found

    @property
    def is_linear(self) -> bool:
        """Whether all layers are linear, so that they can be folded into weights."""
        return all(layer.is_linear for _, layer in self._layers)

    def folded(
        self, W: np.ndarray, b: np.ndarray, state: State
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Weights and biases that make of rows as given what W and b make of prepared ones.

        All layers must be linear. None if columns lie so far off 0 that the difference of large
        numbers would lose what they tell, or if they are very large or small.
        """
        W, b = W.astype(np.float64), b.astype(np.float64)
        factors = np.ones(len(W))  # by which the layers from here on multiply a column at most
        for name, layer in reversed(self._layers):
            linear = layer.linear(_values(name, layer, len(W), state))
            shift = np.broadcast_to(linear.shift, len(W))
            distance = np.abs(shift * factors).max()
            if layer.learns:
                distance = state[f"{name}.{LEARNED}"][1]
            if distance > _FARTHEST:
                return None
            b = b + shift @ W
            if linear.scale.ndim == 2:
                W, factors = linear.scale @ W, (np.abs(linear.scale) * factors).max(axis=1)
            else:
                W, factors = linear.scale[:, None] * W, np.abs(linear.scale) * factors
        used = factors[factors != 0]
        is_moderate = ((used >= 1 / _MOST_FACTOR) & (used <= _MOST_FACTOR)).all()
        return (W, b) if is_moderate else None


def _apply(
    layers: list[tuple[str, Preprocessing]], X: np.ndarray, state: State, what: str,
    dtype: np.dtype,
) -> np.ndarray:  # fmt: skip
    """Rows as layers prepare them; between these they are float64.

    Raises
    ------
    ValueError
        If a number becomes too large for the dtype.
    """
    width = X.shape[1]
    known = []
    for name, layer in layers:
        known.append(_values(name, layer, width, state))
        width = layer.width(width)
    found = np.empty((len(X), width), dtype)
    step = max(1, _BLOCK // max(1, X.shape[1], width))
    with np.errstate(all="ignore"):
        for first in range(0, len(X), step):
            block = X[first : first + step].astype(np.float64)
            for (_, layer), values in zip(layers, known, strict=True):
                block = layer.transform(block, values)
            found[first : first + step] = block
    if not is_finite(found.reshape(-1)):
        row, column = np.argwhere(~np.isfinite(found))[0].tolist()
        raise ValueError(
            f"row {row} of {what}, prepared by {layers[-1][1]!r}, is not finite in "
            f"{dtype.name} in column {column}: look for numbers far from all others"
        )
    return found


def _values(name: str, layer: Preprocessing, width: int, state: State) -> dict[str, np.ndarray]:
    """What a layer has learned of so many columns, in float64."""
    found = {key: state[f"{name}.{key}"].astype(np.float64) for key in layer.shapes(width)}
    if layer.subtracts is not None:
        found[layer.subtracts] += state[f"{name}.{REST}"]
    return found


def _distance(X: np.ndarray, matrix: np.ndarray | None) -> float:
    """How far off 0 the columns lie at most, in units of their spread; at most a million.

    Where a matrix makes differences of them, with a spread of 1, as far as its largest terms.
    """
    known = ~np.isnan(X)
    counts = np.maximum(known.sum(axis=0), 1)
    means = np.sum(X, axis=0, where=known) / counts
    variances = np.sum((X - means) ** 2, axis=0, where=known) / counts
    spreads = np.sqrt(variances)
    least = np.abs(means) / _MOST_DISTANCE + np.finfo(np.float64).tiny
    found = (np.abs(means) / np.maximum(spreads, least)).max()
    if matrix is not None:
        found = max(found, np.sqrt(variances @ matrix**2).max())
    return float(found) if found <= _MOST_DISTANCE else _MOST_DISTANCE  # also if it is NaN


def _read_missing(X, n_inputs: int | None, what: str) -> np.ndarray:
    """X as float64 with NaN where a value is missing."""
    is_masked = isinstance(X, np.ma.MaskedArray)
    array = dense_array(X.data if is_masked else X, what)
    if array.dtype.kind == "f":
        missing = np.isnan(array)
    elif array.dtype.kind == "O":
        missing = np.array([is_missing(value) for value in array.flat], bool).reshape(array.shape)
    else:
        missing = np.zeros(array.shape, bool)
    if is_masked:
        missing |= np.ma.getmaskarray(X)
    given = np.where(missing, 0, array) if missing.any() else array
    found = check_features(given, n_inputs, np.dtype(np.float64), what, named=X)
    assert isinstance(found, np.ndarray)
    if missing.any():
        found = found.astype(np.float64)
        found[missing] = np.nan
    return found
