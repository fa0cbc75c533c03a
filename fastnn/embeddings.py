"""Embedding: the layer that replaces columns of codes by learned vectors. It holds no arrays."""

from __future__ import annotations

import numpy as np

from . import initializers
from .checks import whole_number
from .engines.csr import CSR
from .layer import Layer
from .ops import embedding

#: Most values of an embedded column: float32 represents every code below it.
_MOST_VALUES = 1 << 24


class Embedding(Layer):
    """Learned vectors in place of columns of codes: a network's first layer.

    A code v of an embedded column, a whole number from 0 to n_values - 1, is replaced by row v of
    the column's table E (C. Guo and F. Berkhahn, Entity embeddings of categorical variables, 2016).
    The output begins with the other columns of X; the vectors follow in the order of their columns.

    Parameters
    ----------
    columns : dict of int to (int, int)
        For each embedded column of X, (n_values, dim): how many codes there are, and the number of
        columns that replace it. ``{3: (7, 4)}`` replaces column 3 by 4 columns.
    init : str or initialiser, optional
        Initial tables (n_values, dim); by default uniform between -1/sqrt(dim) and 1/sqrt(dim)
        (Y. Gorishniy et al., Revisiting deep learning models for tabular data, 2021).

    Raises
    ------
    ValueError, TypeError
        If there is no column, or a number is out of range or not whole.

    Notes
    -----
    Tables are no weight matrices: neither the network's l1 and l2 nor weight decay change them.
    X is checked in fit and prediction: a code out of range is an error. `input_scale` must be 1.

    Examples
    --------
    >>> from fastnn import Dense, Embedding, Sequential
    >>> net = Sequential([Embedding({1: (7, 4)}), Dense(1)], n_inputs=3)
    >>> {name: view.shape for name, view in net.parameters().items()}
    {'1.W': (6, 1), '0.E1': (7, 4), '1.b': (1,)}
    """

    def __init__(self, columns, init=None):
        if not isinstance(columns, dict) or not columns:
            raise TypeError(
                f"Embedding takes a dict of columns such as {{3: (n_values, dim)}}, not {columns!r}"
            )
        found = {}
        for column, sizes in columns.items():
            if not isinstance(sizes, tuple | list) or len(sizes) != 2:
                raise TypeError(f"column {column!r} needs (n_values, dim), not {sizes!r}")
            place = f"of column {column!r}"
            found[whole_number(column, "an embedded column", least=0)] = (
                whole_number(sizes[0], f"n_values {place}", most=_MOST_VALUES),
                whole_number(sizes[1], f"dim {place}"),
            )
        self.columns: dict[int, tuple[int, int]] = dict(sorted(found.items()))
        self.init = None if init is None else initializers.spelled(init)

    def lower(self, lowering, name):
        embedding.lower(lowering, name, self.columns, self._init)

    def _init(self, dim: int) -> initializers.Initializer:
        if self.init is not None:
            return initializers.get(self.init)
        return initializers.Uniform(-(dim**-0.5), dim**-0.5)

    def check(self, X, dtype, what: str = "X") -> None:
        """Refuse codes that no table has.

        Parameters
        ----------
        X : ndarray or CSR, shape (m, n_inputs)
        dtype : dtype
            Of the network, which the codes are converted to.

        Raises
        ------
        ValueError
            If a code of an embedded column is not a whole number below its n_values.
        """
        for column, (n_values, _) in self.columns.items():
            if column >= X.shape[1]:
                continue  # refused where the network is lowered
            codes = (X.column(column) if isinstance(X, CSR) else X[:, column]).astype(dtype)
            wrong = ~((codes >= 0) & (codes < n_values) & (codes == np.floor(codes)))
            if wrong.any():
                row = int(wrong.argmax())
                code = codes[row].item()
                shown = int(code) if code.is_integer() else code
                raise ValueError(
                    f"{what}[{row}, {column}] is {shown}, but the embedded column {column} "
                    f"has the codes 0 to {n_values - 1}: code its values as such whole numbers"
                )

    def config(self):
        init = {} if self.init is None else {"init": initializers.config(self.init)}
        columns = [[column, *sizes] for column, sizes in self.columns.items()]
        return {"layer": "Embedding", "columns": columns, **init}

    def __repr__(self):
        init = "" if self.init is None else f", init={initializers.shown(self.init)}"
        return f"Embedding({self.columns!r}{init})"
