"""Check X, and convert it to the array that engines read."""

from __future__ import annotations

import os
import reprlib
from dataclasses import replace
from datetime import date, timedelta

import numpy as np

from .checks import is_finite, is_missing
from .engines.csr import CSR
from .errors import ShapeError
from .sparse import compressed_rows, is_sparse
from .tables import FEATURE_TYPES, STORED_TYPES

#: Elements. A smaller X is converted as a whole, which saves compiling a kernel.
_SMALL = 1 << 17

#: What to do about elements that are no numbers.
_MISSING = "replace or drop missing values first"
_DATES = "write dates as numbers, such as days since the first of them"
_TEXT = (
    "leave the column out, or code it as numbers, for instance by pandas.get_dummies, or by "
    "OneHotEncoder or OrdinalEncoder of scikit-learn"
)


def check_features(X, n_inputs: int | None, dtype, what: str = "X", named=None) -> np.ndarray | CSR:
    """X as a contiguous matrix (m, n_inputs) of the network's dtype or one that engines convert.

    It is copied only if it is small, not contiguous or aligned, or of a type that engines do not
    read. A sparse matrix stays one unless the dense one is small. `named` is the data frame that X
    comes from, if it is none itself.

    Raises
    ------
    ShapeError
        If it is not a matrix, is empty, or has the wrong number of columns.
    TypeError
        If its elements are not real numbers; the error names a column of a data frame.
    ValueError
        If it contains NaN or infinity, or numbers too large for the dtype.
    """
    sparse = type(X) is not np.ndarray and is_sparse(X)
    array = X if sparse or isinstance(X, CSR) else dense_array(X, what)
    _check_shape(array, n_inputs, what)
    columns = _columns(X if named is None else named, array)
    if sparse:
        array = compressed_rows(X, what)
    if isinstance(array, CSR):
        if array.size > _SMALL:
            return _stored_values(array, dtype, what)
        array = array.dense(slice(None))
    if array.size <= _SMALL or array.dtype not in FEATURE_TYPES or array.dtype == dtype:
        return real_array(array, dtype, what, columns)
    array = _contiguous(array)
    if array.dtype.kind == "f" and not _are_within(array, dtype):
        raise _not_finite(array, dtype, what, columns)
    return array


def names_of(X) -> list[str] | None:
    """The names of the columns, if X is a data frame in which all of them are text."""
    columns = None if type(X) is np.ndarray else getattr(X, "columns", None)
    try:
        names = [] if columns is None else list(columns)
    except TypeError:
        return None
    return names if names and all(isinstance(name, str) for name in names) else None


def check_names(X, known: list[str] | None, what: str = "X") -> None:
    """Refuse a data frame whose columns are others than those of the fit, or in another order.

    Raises
    ------
    ShapeError, ValueError
        As scikit-learn does; what has no names is taken as it is.
    """
    names = names_of(X) if known is not None else None
    if known is None or names is None or names == known:
        return
    absent = [name for name in known if name not in set(names)]
    others = [name for name in names if name not in set(known)]
    choose = f"give {what}[net.feature_names_in_]"
    if sorted(names) == sorted(known):
        at = next(at for at, name in enumerate(names) if name != known[at])
        raise ValueError(
            f"{what} has the columns of the fit in another order: column {at} is {names[at]!r}, "
            f"but was {known[at]!r}; {choose}"
        )
    parts = [f"lacks the column {reprlib.repr(absent)[1:-1]} of the fit"] if absent else []
    parts += [f"has {reprlib.repr(others)[1:-1]}, which the fit had not"] if others else []
    error = ShapeError if len(names) != len(known) else ValueError
    raise error(
        f"{what} {' and '.join(parts) or 'has a column twice'}: "
        + ("give the columns of the fit, which are in net.feature_names_in_" if absent else choose)
    )


def _columns(X, array) -> list | None:
    """The names of the columns, if X is a data frame."""
    columns = getattr(X, "columns", None)
    try:
        names = None if columns is None else list(columns)
    except TypeError:
        return None
    return names if names and len(names) == array.shape[1] else None


def _check_shape(array, n_inputs: int | None, what: str) -> None:
    """Refuse what is no matrix with at least one row and the right number of columns."""
    if array.ndim != 2:
        hint = ""
        if array.ndim == 1:
            hint = "; for one row use X.reshape(1, -1), for one feature X.reshape(-1, 1)"
        raise ShapeError(f"{what} must be a matrix (rows, features), not {array.ndim}-D{hint}")
    if n_inputs is not None and array.shape[1] != n_inputs:
        raise ShapeError(f"{what} has {array.shape[1]} features, but the network takes {n_inputs}")
    if 0 in array.shape:
        raise ShapeError(f"{what} is empty: its shape is {array.shape}")


def _are_within(array: np.ndarray, dtype) -> bool:
    """Whether all elements are finite, and not too large for the dtype; without a copy."""
    least, most = array.min(), array.max()
    limit = min(np.finfo(dtype).max, np.finfo(array.dtype).max)
    return bool(-limit <= least and most <= limit)


def _stored_values(X: CSR, dtype, what: str) -> CSR:
    """A sparse matrix with values of a type that engines read: converted if they are few."""
    values = X.values
    if values.size <= _SMALL or values.dtype not in STORED_TYPES or values.dtype == dtype:
        values = _as_real(values, dtype, what)
        finite = is_finite(values)
    else:
        finite = _are_within(values, dtype)
    if not finite:
        with np.errstate(over="ignore", under="ignore"):
            first = int(np.isfinite(X.values.astype(dtype)).argmin())
        row = int(np.searchsorted(X.indptr, first, side="right")) - 1
        place = _place((row, X.indices[first]), what, None)
        raise _not_finite_at(X.values[first], place, dtype, what)
    return X if values is X.values else replace(X, values=values)


def are_array(X) -> bool:
    """Whether an object is an array, a data frame or the like, as a whole."""
    return any(hasattr(X, name) for name in ("__array__", "__array_interface__", "toarray"))


def dense_array(values, what: str) -> np.ndarray:
    if type(values) is np.ndarray:
        return values
    if is_name(values):
        raise TypeError(no_array(values, what))
    if hasattr(values, "toarray"):
        raise TypeError(
            f"{what} is a sparse matrix: only X may be one, of SciPy; use {what}.toarray()"
        )
    if isinstance(values, np.ma.MaskedArray) and values.mask.any():
        raise ValueError(f"{what} is a masked array with masked elements: fill or drop them first")
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ShapeError(f"{what} is not a rectangular array: {error}") from None


def _contiguous(array: np.ndarray) -> np.ndarray:
    """The array if it is contiguous and aligned, or a copy."""
    array = np.ascontiguousarray(array)
    return array if array.flags.aligned else array.copy()


def is_name(values) -> bool:
    """Whether an argument is text or a path where an array belongs."""
    return isinstance(values, str | bytes | os.PathLike)


def no_array(name, what: str, column=None) -> str:
    """What to write instead of a name where an array belongs; `column` is what y is."""
    if what == "X":
        y = column if isinstance(column, str) else "target"
        return (
            f"X is {os.fspath(name)!r}, a name and not the rows themselves: read the file, for "
            f"instance by table = pandas.read_csv({os.fspath(name)!r}), and give X = "
            f"table.drop(columns={y!r}) and y = table[{y!r}]"
        )
    if what == "y":
        return (
            f"y is {name!r}, a name and not the targets themselves: give y = table[{name!r}] and "
            f"X = table.drop(columns={name!r})"
        )
    return f"{what} must be an array, not {name!r}"


def real_array(array: np.ndarray, dtype, what: str, columns: list | None = None) -> np.ndarray:
    result = _as_real(array, dtype, what, columns)
    if is_finite(result):
        return result
    raise _not_finite(array, dtype, what, columns)


def _as_real(array: np.ndarray, dtype, what: str, columns: list | None = None) -> np.ndarray:
    """The array, or a copy, contiguous and in the dtype, whose elements may not be finite."""
    if array.dtype.kind not in "biufO":
        raise _no_numbers(array, what, columns)
    try:
        if array.dtype == dtype:
            return _contiguous(array)
        with np.errstate(over="ignore", under="ignore"):
            return np.ascontiguousarray(array, dtype=dtype)
    except (TypeError, ValueError):
        raise _no_numbers(array, what, columns) from None


def _no_numbers(array: np.ndarray, what: str, columns: list | None) -> Exception:
    """The error that names the first element which is no real number, and what to do about it."""
    if array.dtype.kind not in "OUSTmM":
        return TypeError(f"{what} must hold real numbers, not {array.dtype}")
    for place in np.ndindex(array.shape):
        value = array[place]
        if array.dtype.kind == "O" and is_missing(value):
            return _missing(place, value, what, columns)
        if not _is_number(value):
            break
    else:  # text, all of which are numbers
        place, value = (0,) * array.ndim, array.flat[0]
        return TypeError(
            f"{what} must hold real numbers, but it holds text, {what}{list(place)} is "
            f"{_as_given(value)}: convert it, such as by {what}.astype(float)"
        )
    hint = "give numbers"
    if isinstance(value, date | timedelta | np.datetime64 | np.timedelta64):
        hint = _DATES
    elif isinstance(value, str | bytes):
        hint = _TEXT
    return TypeError(
        f"{what} must hold real numbers, but {_place(place, what, columns)} is {_as_given(value)}, "
        f"which cannot be converted to one: {hint}"
    )


def _is_number(value) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, np.datetime64 | np.timedelta64)


def _as_given(value) -> str:
    """An element for a message: text in quotes, and nothing long."""
    return reprlib.repr(value.item() if isinstance(value, np.generic) else value)


def _place(place, what: str, columns: list | None) -> str:
    shown = f"{what}[{', '.join(map(str, place))}]"
    return shown if columns is None else f"{shown}, in the column {columns[place[1]]!r},"


def _missing(place, value, what: str, columns: list | None) -> ValueError:
    return ValueError(f"{_place(place, what, columns)} is {value}: {_MISSING}")


def _not_finite(array: np.ndarray, dtype, what: str, columns: list | None = None) -> ValueError:
    """The error that names the first element which is not finite in `dtype`."""
    step = max(1, _SMALL // max(1, array[:1].size))  # the array may be larger than memory
    with np.errstate(over="ignore", under="ignore"):
        first, part = next(
            (first, ~np.isfinite(array[first : first + step].astype(dtype)))
            for first in range(0, len(array), step)
            if not np.isfinite(array[first : first + step].astype(dtype)).all()
        )
    bad = np.argwhere(part)[0]
    bad[0] += first
    value = array[tuple(bad)]
    if array.dtype.kind == "O" and is_missing(value):
        return _missing(bad, value, what, columns)
    return _not_finite_at(value, _place(bad, what, columns), dtype, what)


def _not_finite_at(value, place: str, dtype, what: str) -> ValueError:
    place = f"{place} is {value}"
    if not isinstance(value, np.integer | np.bool_) and not np.isfinite(float(value)):
        return ValueError(f"{place}: replace or drop NaN and infinity first")
    return ValueError(f"{place}, which is too large for {np.dtype(dtype).name}: scale {what} first")
