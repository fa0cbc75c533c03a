"""Checks of arguments. Messages say what was given, what was expected and what to do."""

from __future__ import annotations

import math
import numbers
import operator

import numpy as np

#: Elements up to which BLAS takes a dot product in one thread, and in less time than the call of
#: a sum.
_SMALL = 10_000

#: Elements that are looked at at once: an array may be a file that is larger than memory.
_BLOCK = 1 << 20


def whole_number(value, what: str, least: int = 1, most: int = 2**31 - 1) -> int:
    """`value` as an int within [least, most].

    Raises
    ------
    TypeError, ValueError
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{what} must be a whole number, not {value!r}")
    value = operator.index(value)
    if value < least:
        raise ValueError(f"{what} must be at least {least}, not {value}")
    if value > most:
        raise ValueError(f"{what} must be at most {most}, not {value}")
    return value


def real_number(
    value, what: str, least: float = -math.inf, below: float = math.inf, positive: bool = False
) -> float:
    """`value` as a finite float with least <= value < below, and above 0 if `positive`.

    Raises
    ------
    TypeError, ValueError
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{what} must be a number, not {value!r}")
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"{what} must be finite, not {value}")
    if positive and value <= 0:
        raise ValueError(f"{what} must be above 0, not {value}")
    if value < least:
        raise ValueError(f"{what} must be at least {least}, not {value}")
    if value >= below:
        raise ValueError(f"{what} must be below {below}, not {value}")
    return value


def true_or_false(value, what: str) -> bool:
    """`value`, if it is a bool.

    Raises
    ------
    TypeError
    """
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, not {value!r}")
    return value


def is_finite(array: np.ndarray) -> bool:
    """Whether no element is infinite or NaN."""
    # An infinite or NaN element makes the sum infinite or NaN, so one pass suffices unless the sum
    # itself overflows. np.vdot has the least call overhead.
    if array.size <= _SMALL:
        if math.isfinite(np.vdot(array, array)):
            return True
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            if math.isfinite(array.sum()):
                return True
    flat = array.reshape(-1)
    return all(
        np.isfinite(flat[first : first + _BLOCK]).all() for first in range(0, flat.size, _BLOCK)
    )


def is_missing(value) -> bool:
    """Whether an object stands for a missing value: None, NaN, NaT or pandas' NA."""
    if value is None or type(value).__name__ == "NAType":
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # an array, for instance
        return False


def check_dtype(dtype) -> np.dtype:
    """The network's dtype, float32 or float64.

    Raises
    ------
    ValueError
    """
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found not in (np.float32, np.float64):
        raise ValueError(f"dtype must be 'float32' or 'float64', not {dtype!r}")
    return found


def check_scale(scale, dtype: np.dtype) -> float:
    """`scale`, the factor of X, as a float: finite and not 0 in the network's dtype.

    Raises
    ------
    TypeError, ValueError
    """
    scale = real_number(scale, "input_scale")
    with np.errstate(over="ignore", under="ignore"):
        converted = dtype.type(scale)
    if converted == 0 or not np.isfinite(converted):
        raise ValueError(f"input_scale must be finite and not 0 in {dtype.name}, not {scale}")
    return scale
