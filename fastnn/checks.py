"""Checks of arguments, at the door: what came, what was expected, what to do."""

from __future__ import annotations

import math
import numbers
import operator

import numpy as np

#: So few elements are no work: what counts is the time of a call.
_FEW = 1000


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


def is_finite(array: np.ndarray) -> bool:
    """Whether no element is infinite or NaN."""
    # A sum is finite unless an element is not (or, seldom, it overflows): one cheap pass, and for
    # few elements the sum of their squares is the cheapest.
    if array.size <= _FEW:
        if math.isfinite(np.vdot(array, array)):
            return True
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            if math.isfinite(array.sum()):
                return True
    return bool(np.isfinite(array).all())


def check_dtype(dtype) -> np.dtype:
    """The network's type: float32 or float64.

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
    """The factor of X: a number that the network's type can hold, and not 0.

    Raises
    ------
    TypeError, ValueError
    """
    scale = real_number(scale, "input_scale")
    with np.errstate(over="ignore", under="ignore"):
        as_used = dtype.type(scale)
    if as_used == 0 or not np.isfinite(as_used):
        raise ValueError(
            f"input_scale must be a number that {dtype.name} can hold, and not 0, but it is {scale}"
        )
    return scale
