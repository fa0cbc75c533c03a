"""Checks of arguments, at the door: what came, what was expected, what to do."""

from __future__ import annotations

import math
import numbers
import operator


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
