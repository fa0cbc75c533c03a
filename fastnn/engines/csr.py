"""Rows of X in compressed form: of each row only the stored elements, the others are 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class CSR:
    """A matrix (m, n_columns) in compressed sparse rows, checked; engines gather rows of it.

    Row i has values[k] in column indices[k] for k = indptr[i], ..., indptr[i + 1] - 1, each column
    at most once and in any order. Some rows are a view: they share values and indices.

    Attributes
    ----------
    values : ndarray of float32 or float64, shape (n_stored,)
        While X is being checked, of any type.
    indices : ndarray of int32 or int64, shape (n_stored,)
    indptr : ndarray of the same type, shape (m + 1,)
    n_columns : int
    """

    values: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    n_columns: int

    ndim = 2

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.n_columns

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    @property
    def size(self) -> int:
        """Elements of the dense matrix."""
        return len(self) * self.n_columns

    def __getitem__(self, rows: slice) -> CSR:
        """Rows one after another, as a view."""
        start, stop, _ = rows.indices(len(self))
        indptr = self.indptr[start : max(start, stop) + 1]
        return CSR(self.values, self.indices, indptr, self.n_columns)

    def stored(self, rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The stored elements of some rows, a slice or numbers: (place of the row, column, value).

        The places count the given rows from 0 and ascend.
        """
        begins, ends = self.indptr[:-1][rows].astype(np.int64), self.indptr[1:][rows]
        counts = ends - begins
        places = np.repeat(np.arange(len(counts)), counts)
        first = np.cumsum(counts) - counts  # of each row among those found
        found = np.arange(len(places)) + np.repeat(begins - first, counts)
        return places, self.indices[found], self.values[found]

    def dense(self, rows) -> np.ndarray:
        """Some rows, a slice or numbers, as a matrix of the type of the values."""
        places, columns, values = self.stored(rows)
        n_rows = len(self.indptr[:-1][rows])
        out = np.zeros((n_rows, self.n_columns), self.dtype)
        # As where they are added to zeros: a stored -0 becomes 0.
        out[places, columns] = values + self.dtype.type(0)
        return out

    def column(self, number: int) -> np.ndarray:
        """One column, dense, shape (m,)."""
        out = np.zeros(len(self), self.dtype)
        first, last = int(self.indptr[0]), int(self.indptr[-1])
        found = np.flatnonzero(self.indices[first:last] == number) + first
        out[np.searchsorted(self.indptr, found, side="right") - 1] = self.values[found]
        return out
