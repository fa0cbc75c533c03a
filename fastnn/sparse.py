"""SciPy's sparse matrices as rows that engines gather; SciPy is not imported for it.

Everything that compiled code will index with is checked here: a sparse matrix is an object whose
arrays anybody can replace.
"""

from __future__ import annotations

import sys

import numpy as np

from .engines.csr import CSR

#: Stored elements, or rows, that are looked at at once.
_BLOCK = 1 << 20

_INDEX_TYPES = (np.dtype(np.int32), np.dtype(np.int64))


def is_sparse(X) -> bool:
    """Whether X is a sparse matrix or array of SciPy: only where that is imported can it be one."""
    issparse = getattr(sys.modules.get("scipy.sparse"), "issparse", None)
    return issparse is not None and bool(issparse(X))


def compressed_rows(X, what: str = "X") -> CSR:
    """A sparse matrix (m, n) of SciPy in compressed rows, whose values may have any type.

    A CSR matrix is not copied, unless it stores an element twice: these are added up in their
    order, as ``X.toarray()`` does. Others are converted.

    Raises
    ------
    ValueError
        If its arrays contradict each other or its shape.
    """
    n_rows, n_columns = X.shape
    if X.format == "csr":
        parts = _checked(X.data, X.indices, X.indptr, n_rows, n_columns, f"{what} (CSR)")
    elif X.format == "csc":
        # SciPy's conversion checks nothing.
        _checked(X.data, X.indices, X.indptr, n_columns, n_rows, f"{what} (CSC)")
        X = X.tocsr()
        parts = X.data, X.indices, X.indptr
    else:
        parts = _of_coordinates(X.tocoo(), what)
    return _without_duplicates(_with_one_index_type(parts, n_columns))


def _checked(values, indices, indptr, n_major: int, n_minor: int, what: str):
    """The arrays of a matrix in compressed rows (of columns: transposed), as vectors.

    Raises
    ------
    ValueError
    """

    def refuse(reason: str):
        raise ValueError(f"{what} is damaged: {reason}; X.check_format() may say more")

    values, indices, indptr = (np.asarray(array) for array in (values, indices, indptr))
    for name, array in (("indices", indices), ("indptr", indptr)):
        if array.ndim != 1 or array.dtype.kind not in "iu":
            refuse(f"{name} must be a vector of whole numbers")
    if values.ndim != 1:
        refuse("data must be a vector")
    if len(indptr) != n_major + 1:
        refuse(f"indptr has {len(indptr)} elements instead of {n_major + 1}")
    if len(values) != len(indices):
        refuse(f"data has {len(values)} elements, but indices has {len(indices)}")
    if int(indptr[0]) != 0:
        refuse(f"indptr begins with {int(indptr[0])} instead of 0")
    if any((part[1:] < part[:-1]).any() for part in _overlapping(indptr)):
        refuse("indptr descends")
    n_stored = int(indptr[-1])
    if n_stored > len(indices):
        refuse(f"indptr ends with {n_stored}, but indices has {len(indices)} elements")
    indices, values = indices[:n_stored], values[:n_stored]
    wrong = _out_of_range(indices, n_minor)
    if wrong is not None:
        refuse(f"indices holds {wrong}, but must be 0 to {n_minor - 1}")
    return values, indices, indptr


def _out_of_range(numbers: np.ndarray, n: int) -> int | None:
    """A number that is not one of 0, ..., n - 1, or None."""
    if not len(numbers):
        return None
    least, most = int(numbers.min()), int(numbers.max())
    if least < 0:
        return least
    return most if most >= n else None


def _overlapping(array: np.ndarray):
    """Blocks of a vector, each with the first element of the next one."""
    for first in range(0, len(array), _BLOCK):
        yield array[first : first + _BLOCK + 1]


def _of_coordinates(X, what: str):
    """The compressed rows of a matrix in coordinates; elements of a row keep their order."""
    n_rows, n_columns = X.shape
    values, rows, columns = np.asarray(X.data), np.asarray(X.row), np.asarray(X.col)
    whole = rows.dtype.kind in "iu" and columns.dtype.kind in "iu"
    if not (whole and values.ndim == 1 and values.shape == rows.shape == columns.shape):
        raise ValueError(
            f"{what} (COO) is damaged: data, row and col must be equally long vectors, of which "
            "row and col hold whole numbers"
        )
    for name, numbers, n in (("row", rows, n_rows), ("col", columns, n_columns)):
        wrong = _out_of_range(numbers, n)
        if wrong is not None:
            raise ValueError(
                f"{what} (COO) is damaged: {name} holds {wrong}, but must be 0 to {n - 1}"
            )
    rows = rows.astype(np.int64)
    order = np.argsort(rows, kind="stable")
    counts = np.bincount(rows, minlength=n_rows)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return values[order], columns[order], indptr


def _with_one_index_type(parts: tuple, n_columns: int) -> CSR:
    """The matrix with indices that kernels read: both vectors int32, or both int64."""
    values, indices, indptr = parts
    narrow, wide = _INDEX_TYPES
    fits = indices.dtype == narrow and int(indptr[-1]) <= np.iinfo(narrow).max
    common = narrow if fits else wide
    native = values.dtype.newbyteorder("=")
    return CSR(
        np.require(values, native, ["C", "A"]), np.require(indices, common, ["C", "A"]),
        np.require(indptr, common, ["C", "A"]), n_columns,
    )  # fmt: skip


def _without_duplicates(X: CSR) -> CSR:
    """X itself, or if it stores elements twice, a copy with their sums."""
    if _ascends(X):
        return X
    n_rows, indices = len(X), X.indices
    rows = np.repeat(np.arange(n_rows), np.diff(X.indptr))
    order = np.lexsort((indices, rows))  # stable: elements of one place stay in their order
    rows, columns = rows[order], indices[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    if is_first.all():
        return X  # only unsorted
    places = np.cumsum(is_first) - 1
    sums = np.zeros(int(places[-1]) + 1, X.dtype)
    np.add.at(sums, places, X.values[order])
    counts = np.bincount(rows[is_first], minlength=n_rows)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(X.indptr.dtype)
    return CSR(sums, np.ascontiguousarray(columns[is_first]), indptr, X.n_columns)


def _ascends(X: CSR) -> bool:
    """Whether the columns of each row ascend strictly, so that none is there twice."""
    indptr, indices, n_rows = X.indptr, X.indices, len(X)
    row = 0
    while row < n_rows:
        # As many whole rows as have at most _BLOCK elements together, or one row.
        wanted = int(indptr[row]) + _BLOCK
        end = int(np.searchsorted(indptr, wanted, side="right")) - 1
        end = min(max(end, row + 1), n_rows)
        first, last = int(indptr[row]), int(indptr[end])
        part = indices[first:last]
        rises = np.empty(last - first + 1, bool)
        rises[1:-1] = part[1:] > part[:-1]
        rises[indptr[row : end + 1] - first] = True  # a row may begin anywhere
        if not rises.all():
            return False
        row = end
    return True
