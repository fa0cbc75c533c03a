"""Averages of the weights over the steps of a fit: EMA, and SWA.

The engines average after each step, a + share (w - a) for the weights w and the running statistics;
what is here decides on the share of each step, and on the weights that a network has after a fit.
"""

from __future__ import annotations

import math
import numbers
from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from .checks import real_number, true_or_false, whole_number
from .described import PublicABC
from .engines.workspace import Workspace, aligned_zeros
from .run import Fit
from .scheduling import ENDLESS
from .training_state import TrainingState
from .validation import Validation

_KEPT = ("average", "last", "best")


_MACHINERY = ("check_length", "first", "has_begun", "is_fraction", "like", "shares")


@dataclass(frozen=True, kw_only=True)
class Average(
    metaclass=PublicABC,
    hides=("check_length", "first", "has_begun", "is_fraction", "like", "shares"),
):
    """Base of the averages: declarations without state."""

    keep: str = "average"

    def __post_init__(self):
        if self.keep not in _KEPT:
            raise ValueError(f"keep must be one of {', '.join(_KEPT)}, not {self.keep!r}")

    def like(self, other: Average) -> bool:
        """Whether two averages are the same, whatever is kept of them."""
        return replace(self, keep="last") == replace(other, keep="last")

    @abstractmethod
    def first(self, n_epochs: int) -> int:
        """The number of steps or epochs before the first that counts, in a fit of `n_epochs`."""

    @abstractmethod
    def shares(self, first: int, step: int, epoch: int, count: int, ends: bool) -> np.ndarray:
        """The share of the weights in the average after each of `count` steps.

        `step` and `epoch` are those before the first of them, and `ends` says whether the last one
        ends an epoch. All numbers count from the beginning of the average.
        """

    @abstractmethod
    def has_begun(self, first: int, step: int, epoch: int) -> bool:
        """Whether anything has been averaged after so many steps and epochs."""

    @abstractmethod
    def check_length(self, first: int, steps: int, epochs: int) -> None:
        """Refuse an average of nothing: `steps` and `epochs` are those after the fit."""


@dataclass(frozen=True)
class EMA(Average):
    """Exponential moving average of the weights, a = decay a + (1 - decay) w after a step.

    It starts with the weights of the beginning. After the fit the network predicts with the
    average, and a further fit of the same rule with an equal average goes on from the last
    weights, as if there had been one fit. Running statistics of BatchNorm are averaged like the
    weights. With validation data the average is validated after each epoch, too:
    ``average_val_loss`` and ``average_val_accuracy`` in the history.

    Parameters
    ----------
    decay : float, default 0.999
        Above 0 and below 1. Weights count 1 / (1 - decay) updates long or so.
    warm_up : bool, default True
        Whether update t, from 0 on, takes min(decay, (1 + t) / (10 + t)), as in TensorFlow, so that
        the weights of the beginning are forgotten early.
    every : int, default 1
        Steps per update of the average.
    start : int, default 0
        Steps before the average starts, with the weights of then.
    keep : {"average", "last", "best"}, default "average"
        The weights that the network has after the fit: the average, those of the last step, or
        whichever of both had the lowest validation loss after an epoch of this fit.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type; in fit if there are not enough steps
        for one update, or there are no validation data to choose the best by.

    Examples
    --------
    >>> from fastnn import EMA, Dense, Sequential
    >>> X, y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]
    >>> net = Sequential([Dense(1)])
    >>> history = net.fit(X, y, epochs=50, ema=EMA(0.9), validation_data=(X, y), progress=False)
    >>> bool(net.evaluate(X, y)["loss"] == history["average_val_loss"][-1])
    True
    """

    decay: float = 0.999
    warm_up: bool = True
    every: int = 1
    start: int = 0

    def __post_init__(self):
        real_number(self.decay, "the decay of an EMA", positive=True, below=1.0)
        true_or_false(self.warm_up, "warm_up")
        whole_number(self.every, "every")
        whole_number(self.start, "start", least=0)
        super().__post_init__()

    def first(self, n_epochs: int) -> int:
        """See the base."""
        return self.start

    def shares(self, first: int, step: int, epoch: int, count: int, ends: bool) -> np.ndarray:
        """See the base."""
        done = np.arange(step + 1, step + count + 1) - first  # since the start, after each step
        decay = np.full(count, self.decay)
        if self.warm_up:
            update = np.maximum(done // self.every - 1, 0)
            decay = np.minimum(decay, (1 + update) / (10 + update))
        counts = (done > 0) & (done % self.every == 0)
        # The vector is 0 before the start, and then becomes the weights.
        return np.where(counts, 1 - decay, np.where(done == 0, 1.0, 0.0))

    def has_begun(self, first: int, step: int, epoch: int) -> bool:
        """See the base."""
        return step >= first

    def check_length(self, first: int, steps: int, epochs: int) -> None:
        """See the base."""
        if steps < first + self.every:
            raise ValueError(
                f"{self} would not be updated in {steps} steps: lower start or every, or train "
                "for more epochs"
            )


@dataclass(frozen=True)
class SWA(Average):
    """Stochastic weight averaging: the mean of the weights at the ends of epochs.

    (P. Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, 2018.)
    The paper's constant or cyclic learning rate is a schedule of the fit, beside this. As with
    :class:`EMA`, running statistics are averaged like the weights, the average has a validation of
    its own, and a further fit of the same rule with an equal average goes on from the last weights.
    If `start` is a fraction, a further fit averages anew, from the weights that the network has.

    Parameters
    ----------
    start : float or int, default 0.75
        A fraction of the fit's epochs that are not averaged, rounded down to whole ones; or the
        number of the first epoch that is, counted from 0.
    every : int, default 1
        Epochs from one that is averaged to the next.
    keep : {"average", "last", "best"}, default "average"
        As for :class:`EMA`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type; in fit if no epoch would be averaged,
        or there are no validation data to choose the best by.

    Examples
    --------
    >>> from fastnn import SWA, Dense, Sequential
    >>> net = Sequential([Dense(1)])
    >>> _ = net.fit([[0.0], [1.0]], [1.0, 3.5], epochs=12, swa=SWA(0.5), progress=False)
    >>> net.training_state.average.first
    6
    """

    start: float | int = 0.75
    every: int = 1

    def __post_init__(self):
        if isinstance(self.start, float):
            real_number(self.start, "start, if it is a fraction,", least=0.0, below=1.0)
        else:
            whole_number(self.start, "start", least=0)
        whole_number(self.every, "every")
        super().__post_init__()

    @property
    def is_fraction(self) -> bool:
        """Whether `start` is a fraction."""
        return isinstance(self.start, float)

    def first(self, n_epochs: int) -> int:
        """See the base."""
        return math.floor(self.start * n_epochs) if self.is_fraction else int(self.start)

    def shares(self, first: int, step: int, epoch: int, count: int, ends: bool) -> np.ndarray:
        """See the base."""
        shares, since = np.zeros(count), epoch - first
        if ends and since >= 0 and since % self.every == 0:
            shares[-1] = 1 / (since // self.every + 1)
        return shares

    def has_begun(self, first: int, step: int, epoch: int) -> bool:
        """See the base."""
        return epoch > first

    def check_length(self, first: int, steps: int, epochs: int) -> None:
        """See the base."""
        if epochs <= first:
            raise ValueError(
                f"{self} would average no epoch: after this fit there are {epochs}, counted from "
                "0; lower start, or train for more epochs"
            )


def get(ema, swa) -> Average | None:
    """The average that the arguments of fit mean, if any.

    Raises
    ------
    ValueError, TypeError
        If there are two, or one is out of range or of the wrong type.
    """
    if ema is not None and swa is not None:
        raise ValueError("ema and swa cannot both be given: a fit has one average")
    if isinstance(ema, EMA):
        return ema
    if ema is not None:
        if isinstance(ema, bool) or not isinstance(ema, numbers.Real):
            raise TypeError(f"ema must be a decay such as 0.999 or an EMA, not {ema!r}")
        return EMA(float(ema))
    if swa is None or isinstance(swa, SWA):
        return swa
    if isinstance(swa, bool) or not isinstance(swa, numbers.Real):
        raise TypeError(f"swa must be an epoch, a fraction of the epochs or an SWA, not {swa!r}")
    return SWA(float(swa) if isinstance(swa, np.floating) else swa)  # type: ignore[arg-type]


@dataclass(frozen=True)
class AverageState:
    """What an average keeps from fit to fit.

    Attributes
    ----------
    rule : EMA or SWA
    vector : ndarray, shape (n_params + n_state,)
        The average of the parameters, then of the statistics.
    first : int
        As :meth:`Average.first` gave it.
    first_step, first_epoch : int
        Those of the training when the average began.
    last, held : ndarray, shape (n_params + n_state,), optional
        Between two fits: those of the last step, and those that the network was given.
    """

    rule: Average
    vector: np.ndarray
    first: int
    first_step: int
    first_epoch: int
    last: np.ndarray | None = None
    held: np.ndarray | None = None

    def shares(self, state: TrainingState, count: int, ends: bool) -> np.ndarray:
        """The share of the weights in the average after each of the next `count` steps."""
        return self.rule.shares(self.first, *self._since(state), count, ends)

    def has_begun(self, state: TrainingState) -> bool:
        """Whether anything has been averaged."""
        return self.rule.has_begun(self.first, *self._since(state))

    def check_length(self, state: TrainingState, n_epochs: int, n_steps: int) -> None:
        """Refuse an average of nothing, after so many epochs and steps more."""
        step, epoch = self._since(state)
        self.rule.check_length(self.first, step + n_steps, epoch + n_epochs)

    def _since(self, state: TrainingState) -> tuple[int, int]:
        return state.total_steps - self.first_step, state.epoch - self.first_epoch


class Averaging:
    """The average of one fit. Nothing changes before :meth:`begin`.

    Parameters
    ----------
    rule : EMA or SWA
    fit : Fit
        Prepared, with its rows.
    length : tuple of (int or None, int or None)
        Epochs and steps of the fit, where they are known.
    validation : Validation, optional
    is_resumed : bool
        Whether the average in the state of training is that of this very fit.

    Raises
    ------
    ValueError
        If nothing would be averaged, or there are no rows to choose the best weights by.
    """

    def __init__(
        self, rule: Average, fit: Fit, length: tuple[int | None, int | None],
        validation: Validation | None, is_resumed: bool = False,
    ):  # fmt: skip
        if rule.keep == "best" and validation is None:
            raise ValueError("keep='best' compares validation losses: give validation_data")
        self._fit, self._rule, self._validation = fit, rule, validation
        self._before = fit.state.average
        self._continues = self._is_continued()
        n_epochs, n_steps = length
        resumed = self._before if is_resumed else None
        self._now = self._begun(n_epochs) if resumed is None else resumed
        if n_epochs is not None:
            self._now.check_length(fit.state, n_epochs, ENDLESS if n_steps is None else n_steps)
        self._is_open = False
        self._best: np.ndarray | None = None
        self._lowest = math.inf
        if validation is not None:
            ws, dtype = fit.ws, fit.ws.params.dtype
            params = aligned_zeros(ws.plan.n_params, dtype)
            statistics = aligned_zeros(ws.plan.n_state, dtype)
            self._ws = Workspace(ws.plan, params, statistics, validation.batch_size)
            validation.bind(self._ws)

    def _is_continued(self) -> bool:
        """Whether the last fit's average goes on: the network is as that fit left it."""
        old = self._before
        if old is None or old.held is None or not old.rule.like(self._rule):
            return False
        if isinstance(self._rule, SWA) and self._rule.is_fraction:
            return False
        return all(
            not (array != held).any()
            for array, held in zip(self._arrays, self._split(old.held), strict=True)
        )

    def _begun(self, n_epochs: int | None) -> AverageState:
        vector, state = self._fit.ws.average, self._fit.state
        if self._continues:
            assert self._before is not None
            return replace(self._before, rule=self._rule, vector=vector, last=None, held=None)
        if n_epochs is None and isinstance(self._rule, SWA) and self._rule.is_fraction:
            raise ValueError(
                f"{self._rule} begins after a fraction of the epochs, whose number this fit does "
                "not know: give start as a number of epochs"
            )
        first = self._rule.first(n_epochs or 0)
        return AverageState(self._rule, vector, first, state.total_steps, state.epoch)

    @property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return self._fit.ws.params, self._fit.ws.state

    def _split(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n_params = self._fit.ws.plan.n_params
        return flat[:n_params], flat[n_params:]

    def _set(self, flat: np.ndarray) -> None:
        for array, values in zip(self._arrays, self._split(flat), strict=True):
            array[:] = values

    def begin(self) -> None:
        """Go on from the last weights, or begin a new average; a checkpoint is read after this."""
        self._is_open = True
        vector, old = self._now.vector, self._before
        if self._continues:
            assert old is not None
            assert old.last is not None
            if old.vector is not vector:
                vector[:] = old.vector
            self._set(old.last)
        elif self._now.has_begun(self._fit.state):
            vector[:] = np.concatenate(self._arrays)
        else:
            vector.fill(0)
        self._fit.state.average = self._now

    def reached(self) -> tuple[dict[str, int | float], np.ndarray | None]:
        """What a checkpoint holds of it besides the average: counters, and the best weights."""
        now = self._now
        counters = {
            "first": now.first, "first_step": now.first_step, "first_epoch": now.first_epoch,
            "lowest": self._lowest,
        }  # fmt: skip
        return counters, self._best

    def restore(self, lowest: float, best: np.ndarray | None) -> None:
        """Go on with the best weights of earlier epochs, and their validation loss."""
        self._lowest, self._best = lowest, best

    def cancel(self) -> None:
        """Undo :meth:`begin`, if no step has been taken since."""
        if not self._is_open:
            return
        self._is_open = False
        old = self._before
        if self._continues:
            assert old is not None
            assert old.held is not None
            self._set(old.held)
            self._fit.state.average = old
        else:  # an older average may have lost its vector, and would not have gone on
            self._fit.state.average = None

    def validated(self, values: dict[str, float]) -> dict[str, float]:
        """The values of the validation, and those of the average; the best weights are kept."""
        average = {f"average_{name}": value for name, value in values.items()}
        has_begun = self._now.has_begun(self._fit.state)
        if has_begun:
            assert self._validation is not None
            ws = self._ws
            for array, source in zip(
                (ws.params, ws.state), self._split(self._now.vector), strict=True
            ):
                array[:] = source
            average = self._validation.values(ws, "average_val_")
        if self._rule.keep == "best":
            self._keep_best(values["val_loss"], lambda: np.concatenate(self._arrays))
            if has_begun:
                self._keep_best(average["average_val_loss"], self._now.vector.copy)
        return values | average

    def _keep_best(self, loss: float, weights) -> None:
        if loss < self._lowest:
            self._lowest, self._best = loss, weights()

    def snapshot(self) -> np.ndarray:
        """The average as it is now: of the weights, before it has begun."""
        if self._now.has_begun(self._fit.state):
            return self._now.vector.copy()
        return np.concatenate(self._arrays)

    def finish(self) -> None:
        """Give the network the weights that it keeps."""
        if not self._is_open:
            return
        self._is_open = False
        last = np.concatenate(self._arrays)
        held = last
        if self._rule.keep == "best" and self._best is not None:
            held = self._best
        elif self._rule.keep == "average" and self._now.has_begun(self._fit.state):
            held = self._now.vector
        self._fit.state.average = replace(self._now, last=last, held=held)
        if held is not last:
            self._set(held)
