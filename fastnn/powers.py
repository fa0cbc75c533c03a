"""Powers of decay rates with the same bits on every processor, which np.power does not have."""

from __future__ import annotations

import functools
import math
from decimal import Decimal, localcontext

import numpy as np

#: The logarithm of a number that makes no difference to 1, far above the smallest normal one.
_NO_DIFFERENCE = math.log(1e-60)

#: Bits of a digit of an exponent, of which there are three.
_BITS = 11

_DIGITS = 3

#: Steps whose powers of a rate are computed at once and kept: short epochs ask for a few of them.
_BLOCK = 1024


def powers(beta, steps: np.ndarray) -> np.ndarray:
    """beta**steps, or for large steps another number so small that 1 - it is 1.

    So nothing underflows in a long run.

    Parameters
    ----------
    beta : float or ndarray
        At least 0 and below 1; an array has one for each step.
    steps : ndarray of int, shape (n,)
        At least 1.

    """
    if np.ndim(beta):
        return _of_each(beta, steps)
    if beta == 0:
        return np.zeros(len(steps))
    steps = np.minimum(steps, _most(beta))
    found = _table(beta, 0)[steps & (1 << _BITS) - 1]
    last = int(steps[-1]) if len(steps) else 0
    for digit in range(1, _DIGITS):
        if last >> digit * _BITS:
            found *= _table(beta, digit)[steps >> digit * _BITS & (1 << _BITS) - 1]
    return found


def consecutive_powers(beta: float, first: int, count: int, squared: bool = False) -> np.ndarray:
    """:func:`powers` of one beta in the steps first, ..., first + count - 1; it may be read-only.

    `squared` gives the bits of an array of equal betas.
    """
    block, at = divmod(first, _BLOCK)
    if at + count <= _BLOCK:
        return _kept(beta, block, squared)[at : at + count]
    last = (first + count - 1) // _BLOCK
    kept = [_kept(beta, number, squared) for number in range(block, last + 1)]
    return np.concatenate(kept)[at : at + count]


def _most(beta: float) -> int:
    """An exponent whose power makes no difference to 1."""
    return min(max(1, int(_NO_DIFFERENCE / math.log(beta))), (1 << _DIGITS * _BITS) - 1)


@functools.lru_cache(maxsize=32)
def _table(beta: float, digit: int) -> np.ndarray:
    """beta**(i * 2**(digit * _BITS)) for all values i of a digit; 0 once it is below 1e-60."""
    with localcontext(prec=40, Emin=-(10**9), Emax=10**9):
        factor = Decimal(beta)
        for _ in range(digit * _BITS):
            factor *= factor
        found, power = np.zeros(1 << _BITS), Decimal(1)
        for i in range(len(found)):
            found[i] = float(power)
            power *= factor
            if power < Decimal("1e-65"):
                break
    return found


@functools.lru_cache(maxsize=64)
def _kept(beta: float, block: int, squared: bool) -> np.ndarray:
    """Those of the steps in a block."""
    steps = np.arange(block * _BLOCK, (block + 1) * _BLOCK)
    found = powers(np.full(_BLOCK, beta) if squared else beta, steps)
    found.flags.writeable = False
    return found


def _of_each(beta: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Each beta to the power of its step, by squaring."""
    found, square = np.ones(len(steps)), beta.astype(np.float64)
    left = steps.copy()
    with np.errstate(under="ignore"):
        while left.any():
            found = np.where(left & 1, found * square, found)
            square = square * square
            left >>= 1
    return found
