"""Metric: base of the metrics, and a function of the user's as one."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from .compared import Form, Targets
from .losses import LossFunction
from .names import unknown

_NEEDS = ("predictions", "probabilities")

#: Most characters of a name.
_MOST = 100


class Metric:
    """A function of your own as a metric.

    Parameters
    ----------
    function : callable
        ``function(y_true, y_pred)`` returns a number. Both are arrays in the form of fit's y,
        read-only, and have the same rows.
    name : str, optional
        Its name in the history, after "val_"; by default the function's own.
    needs : {"predictions", "probabilities"}
        What y_pred is: as `predict` or as `predict_proba` returns it.
    greater_is_better : bool, optional
        By default True, unless the name ends with "error", "loss" or "deviance".

    Raises
    ------
    TypeError, ValueError
        If it is not a function of two arguments, or another argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Dense, Sequential
    >>> from fastnn.metrics import Metric
    >>> def worst(y_true, y_pred):
    ...     return np.abs(y_true - y_pred).max()
    >>> net = Sequential([Dense(1, init="zeros")])
    >>> _ = net.fit([[0.0]], [0.0], loss="mse", epochs=1, progress=False)
    >>> net.evaluate([[0.0], [0.0]], [1.0, 2.0], metrics=[Metric(worst, greater_is_better=False)])
    {'loss': 2.5, 'worst': 2.0}
    """

    name: str
    needs: str
    greater_is_better: bool
    #: Whether the engines count it along with the loss.
    is_counted = False

    def __init__(
        self, function: Callable, name: str | None = None, needs: str = "predictions",
        greater_is_better: bool | None = None,
    ):  # fmt: skip
        _check_function(function)
        self.function: Callable | None = function
        self.name = _name_of(function) if name is None else _check_name(name)
        if needs not in _NEEDS:
            raise unknown("kind of predictions that a metric needs", needs, _NEEDS)
        self.needs = needs
        if greater_is_better is None:
            greater_is_better = not self.name.endswith(("error", "loss", "deviance"))
        elif not isinstance(greater_is_better, bool):
            raise TypeError(f"greater_is_better must be True or False, not {greater_is_better!r}")
        self.greater_is_better = greater_is_better

    def __repr__(self) -> str:
        return f"Metric({self.name})"

    def _key(self) -> tuple:
        return type(self), self.function, self.name, self.needs, self.greater_is_better

    def __eq__(self, other) -> bool:
        return self._key() == other._key() if isinstance(other, Metric) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    # -- what fit and evaluate call; fastnn's own metrics say more -----------------------------

    def check(self, form: Form) -> None:
        """Refuse targets and losses that it does not go with."""
        if self.needs == "probabilities" and not form.has_probabilities:
            raise ValueError(
                f"the metric {self.name!r} needs probabilities, which the loss {form.loss.name} "
                "does not give: fit with a cross entropy or the focal loss, or leave it out"
            )

    def check_rows(self, targets: Targets) -> None:
        """Refuse rows that it cannot be computed of."""

    def _compute(self, targets: Targets, predicted: np.ndarray) -> Any:
        """The value, of predictions or probabilities as the network gives them."""
        assert self.function is not None
        return self.function(targets.y, predicted)

    def value(self, targets: Targets, predicted: np.ndarray) -> float:
        """The value as a float.

        Raises
        ------
        TypeError
            If the function does not return a number.
        Exception
            Whatever it raises, with a note that names the metric.
        """
        try:
            value = self._compute(targets, predicted)
        except Exception as error:
            error.add_note(f"fastnn: raised by the metric {self.name!r}")
            raise
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value[()]
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(
                f"the metric {self.name!r} must return a number, but it returned {_shown(value)}"
            )
        return float(value)


def _check_function(function) -> None:
    """Refuse what cannot be called with two arguments."""
    if not callable(function) or isinstance(function, type | Metric | LossFunction):
        hint = ""
        if isinstance(function, type) and issubclass(function, Metric):
            hint = f": write {function.__name__}(...), with parentheses"
        elif isinstance(function, LossFunction):
            hint = ": the loss of the fit is among its values already"
        raise TypeError(
            f"a metric must be a name, a function(y_true, y_pred) or a Metric, not {function!r}"
            + hint
        )
    try:
        signature = inspect.signature(getattr(function, "py_func", function))
    except (TypeError, ValueError):  # a function of C may have none
        return
    try:
        signature.bind(None, None)
    except TypeError:
        raise TypeError(
            f"a metric takes (y_true, y_pred), but {_name_of(function)} takes {signature}"
        ) from None


def _name_of(function) -> str:
    name = str(getattr(function, "__name__", type(function).__name__))
    return "".join(c for c in name if c.isprintable())[:_MOST] or "metric"


def _check_name(name) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a metric must be text, not {name!r}")
    if not 1 <= len(name) <= _MOST or not name.isprintable():
        raise ValueError(
            f"the name of a metric must have 1 to {_MOST} printable characters, not "
            f"{name[:_MOST]!r}"
        )
    return name


def _shown(value) -> str:
    shown = repr(value)
    return shown if len(shown) <= _MOST else f"{shown[:_MOST]}... ({type(value).__name__})"
