"""LBFGS: the declaration of the quasi-Newton method; :mod:`.full_batch` runs it."""

from __future__ import annotations

from typing import ClassVar

from .checks import real_number, whole_number
from .optimizer import Optimizer, declaration
from .tables import Rule


@declaration
class LBFGS(Optimizer):
    """L-BFGS, a quasi-Newton method on all rows at once, for small data and smooth losses.

    SciPy's L-BFGS-B searches along each direction for a lower loss (C. Zhu, R. H. Byrd, P. Lu and
    J. Nocedal, Algorithm 778, 1997). An epoch of fit is one iteration, which takes one or two
    passes over the rows, and the fit ends early where it has converged: ``history.stopped`` then
    says why. The loss, the accuracy and the validation of an epoch are those after its iteration.

    The rows are never shuffled, and there is no learning rate (``history["lr"]`` is 1, the length
    of the first step of a search). Dropout, noise and max-norm are refused. A BatchNorm normalises
    by all rows; its running statistics become theirs, whatever its momentum.

    SciPy computes in float64, whatever the network's dtype: in float32 every point is rounded
    before the loss is computed, so some 1e-6 of the loss may be missing to its minimum. SciPy's
    sums go through BLAS, so equal seeds give equal bits on one machine only. A second fit starts
    with an empty history: two fits of 5 epochs do not equal one of 10.

    Parameters
    ----------
    history : int, default 10
        Pairs of steps and changes of the gradient from which the curvature is estimated.
    gtol : float, default 1e-5
        It has converged where no element of the gradient is larger, at least 0.
    ftol : float, default 1e-9
        It has converged where an iteration lowers the loss by at most this fraction of it, or of 1
        if the loss is less; at least 0.
    max_evaluations : int, default 15000
        Passes over the rows after which a fit ends with the iteration.
    max_line_search : int, default 20
        Passes over the rows in a single search.

    Raises
    ------
    ValueError, TypeError
        If a hyperparameter is out of range or not a number, or one of the other optimizers is
        given: weight decay (use the penalty l2), clipping, factors.

    Examples
    --------
    >>> from fastnn import LBFGS, Dense, Sequential
    >>> net = Sequential([Dense(1)], dtype="float64")
    >>> history = net.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0], loss="mse",
    ...                   optimizer=LBFGS(), epochs=100, progress=False)
    >>> net.predict([[10.0]]).round(4), history.stopped
    (array([21.]), 'converged: no element of the gradient is above gtol')
    """

    history: int = 10
    gtol: float = 1e-5
    ftol: float = 1e-9
    max_evaluations: int = 15000
    max_line_search: int = 20

    rule: ClassVar[Rule] = Rule.sgd  # which has no state either
    lr: ClassVar[float] = 1.0
    full_batch: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        for name, instead in _REFUSED.items():
            if getattr(self, name):
                raise ValueError(f"LBFGS takes no {name}{instead}")
        for name in ("history", "max_evaluations", "max_line_search"):
            whole_number(getattr(self, name), name)
        for name in ("gtol", "ftol"):
            real_number(getattr(self, name), name, least=0)


#: What the other optimizers have, and what to do without.
_REFUSED = {
    "weight_decay": ": use the penalty l2 of the layers or of Sequential",
    "clip_norm": ": its line search limits the steps",
    "clip_value": ": its line search limits the steps",
    "lr_factors": ": use freeze of fit for what should stay as it is",
    "decay_factors": ": use the penalty l2 of the layers",
}
