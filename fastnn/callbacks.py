"""Callbacks: code of the user that a fit calls between its steps and epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .checks import whole_number

if TYPE_CHECKING:
    from .training import Training


class Callback:
    """Base of the callbacks of a fit.

    A subclass defines some of the methods. Each gets the running
    :class:`~fastnn.training.Training`: what it has reached (``epoch``, ``step``, ``values``,
    ``history``, ``lr``), the network as it is now (``net``), and what may be changed
    (``lr_factor``, ``stop(reason)``, and the parameters of ``net``). An exception ends the fit: the
    network keeps what it has, and the exception goes on to the caller of fit.

    Attributes
    ----------
    every : int, default 1
        Steps from one call of :meth:`on_steps` to the next.

    Examples
    --------
    >>> from fastnn import Callback, Dense, Sequential
    >>> class StopWhenSmall(Callback):
    ...     def on_epoch_end(self, training):
    ...         if training.values["loss"] < 0.1:
    ...             training.stop("the loss is small enough")
    >>> net = Sequential([Dense(1)])
    >>> history = net.fit([[0.0], [1.0]], [0.0, 1.0], loss="mse", epochs=10_000,
    ...                   callbacks=[StopWhenSmall()], progress=False)
    >>> history.n_epochs < 10_000, history.stopped
    (True, 'the loss is small enough')
    """

    every: int = 1

    def on_fit_begin(self, training: Training) -> None:
        """Before the first step."""

    def on_epoch_begin(self, training: Training) -> None:
        """Before the first step of an epoch."""

    def on_steps(self, training: Training) -> None:
        """After every `every` steps of the fit. It cuts the run of steps, at the cost of a call."""

    def on_epoch_end(self, training: Training) -> None:
        """After an epoch and its validation; ``training.values`` are its values."""

    def on_fit_end(self, training: Training) -> None:
        """After the fit, also where an exception or Ctrl-C ended it: ``training.error``."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the callback: values that JSON can hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned, in a fit that is resumed.

        It is called before :meth:`on_fit_begin`, which finds ``training.resumed`` True.
        """


class _EpochEnd(Callback):
    """A function as a callback."""

    def __init__(self, function: Callable[[Training], Any]):
        self.function = function

    def on_epoch_end(self, training: Training) -> None:
        self.function(training)


def get(given) -> tuple[Callback, ...]:
    """The callbacks that the argument of fit means.

    Raises
    ------
    TypeError, ValueError
        If one is neither a :class:`Callback` nor a function, or its `every` is not at least 1.
    """
    if isinstance(given, Callback) or not isinstance(given, Iterable):
        given = (given,)
    found = []
    for one in given:
        if isinstance(one, type) and issubclass(one, Callback):
            raise TypeError(f"callbacks holds the class {one.__name__}: give {one.__name__}()")
        if not isinstance(one, Callback):
            if not callable(one):
                # In other libraries it is a callback.
                hint = ": give it as early_stopping="
                raise TypeError(
                    "callbacks must hold objects of fastnn.Callback or functions of the training, "
                    f"not {one!r}{hint * (type(one).__name__ == 'EarlyStopping')}"
                )
            one = _EpochEnd(one)
        whole_number(one.every, f"every of {type(one).__name__}")
        found.append(one)
    return tuple(found)


class Calls:
    """The callbacks of one fit, called in their order."""

    def __init__(self, callbacks: tuple[Callback, ...]):
        self._all = callbacks
        self._begun: list[Callback] = []
        self._after_steps = [
            one
            for one in callbacks
            if getattr(one.on_steps, "__func__", None) is not Callback.on_steps
        ]

    def fit_begin(self, training: Training) -> None:
        for one in self._all:
            self._begun.append(one)
            one.on_fit_begin(training)

    def epoch_begin(self, training: Training) -> None:
        for one in self._all:
            one.on_epoch_begin(training)

    def epoch_end(self, training: Training) -> None:
        for one in self._all:
            one.on_epoch_end(training)

    def fit_end(self, training: Training) -> None:
        """Tell all that were told of the beginning, in the same order, also if one raises."""
        if self._begun:
            try:
                self._begun.pop(0).on_fit_end(training)
            finally:
                self.fit_end(training)

    @property
    def follow_steps(self) -> bool:
        """Whether any is called between the steps of an epoch."""
        return bool(self._after_steps)

    def steps_to_next(self, step: int) -> int:
        """Steps after `step` until one is due."""
        return min(one.every - step % one.every for one in self._after_steps)

    def after_steps(self, training: Training) -> None:
        for one in self._after_steps:
            if training.step % one.every == 0:
                one.on_steps(training)
