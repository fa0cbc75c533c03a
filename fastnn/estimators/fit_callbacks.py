"""Callbacks of an estimator's fit: fastnn's own, and those of scikit-learn's callback protocol.

scikit-learn >= 1.9 has callbacks such as ProgressBar, which `set_callbacks` gives to an estimator.
They see a fit as tasks within tasks: here the fit, and in it each epoch. Earlier versions have no
such protocol, and the estimators then have no `set_callbacks`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..callbacks import Callback

if TYPE_CHECKING:
    from ..training import Training

try:
    from sklearn.callback import CallbackSupportMixin, FitCallback, with_callbacks
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands for the mixin that this scikit-learn does not have."""

    FitCallback = None

    def with_callbacks(method):
        return method


class EpochTasks(Callback):
    """Tell the callbacks of scikit-learn that an estimator has of a fit and of its epochs.

    Parameters
    ----------
    estimator : FitCallbacks
    X, y
        The rows of the fit, as they were given to it.
    metadata : dict
        What else the fit was given, such as the weights of the rows.
    """

    def __init__(self, estimator: Any, X, y, metadata: dict[str, Any]):
        self._estimator = estimator
        self._given = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._fit: Any = None
        self._epoch: Any = None

    def on_fit_begin(self, training: Training) -> None:
        if self._fit is None:
            n_epochs = training.n_epochs  # None if only time ends the fit
            self._fit = self._estimator._init_callback_context(max_subtasks=n_epochs)
            self._fit.call_on_fit_task_begin(**self._given)

    def on_epoch_begin(self, training: Training) -> None:
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._given)

    def on_epoch_end(self, training: Training) -> None:
        stops = self._epoch.call_on_fit_task_end(
            **self._given, reconstruction_attributes=lambda: self._fitted(training)
        )
        if stops:
            training.stop("a callback of scikit-learn ended it")

    def _fitted(self, training: Training) -> dict[str, Any]:
        """What a copy of the estimator needs to predict as the network does now."""
        return {"net_": training.net.copy(), "_tasks": None}

    def complete(self) -> None:
        """The fit is done, and the estimator has all its attributes."""
        if self._fit is not None:
            attributes = {"_tasks": None}
            self._fit.call_on_fit_task_end(**self._given, reconstruction_attributes=attributes)


class FitCallbacks(CallbackSupportMixin):
    """Estimators with a parameter `callbacks`; their `fit` is decorated by :func:`followed`."""

    callbacks: Any
    _tasks: EpochTasks | None = None

    def _fit_callbacks(self) -> tuple[Any, ...]:
        """The callbacks for :meth:`fastnn.Sequential.fit`."""
        own = tuple(one for one in _listed(self.callbacks) if not _is_foreign(one))
        return own if self._tasks is None else (*own, self._tasks)


def followed(fit: Callable) -> Callable:
    """Decorator of an estimator's fit(X, y, ...): callbacks of scikit-learn follow its epochs."""

    @with_callbacks
    def followed_fit(self, foreign, X, y, arguments, options):
        before = self.__dict__.get("_skl_callbacks")
        if foreign:
            self.set_callbacks(*(before or ()), *foreign)
        names = ("sample_weight",)
        given = dict(zip(names, arguments, strict=False)) | options
        metadata = {name: given[name] for name in names if given.get(name) is not None}
        self._tasks = EpochTasks(self, X, y, metadata)
        try:
            fit(self, X, y, *arguments, **options)
            self._tasks.complete()
        finally:
            del self._tasks
            if foreign:
                self.set_callbacks(*(before or ()))
        return self

    @functools.wraps(fit)
    def fit_with_callbacks(self, X, y=None, *arguments, **options):
        foreign = [one for one in _listed(self.callbacks) if _is_foreign(one)]
        if not foreign and "_skl_callbacks" not in self.__dict__:
            return fit(self, X, y, *arguments, **options)
        return followed_fit(self, foreign, X, y, arguments, options)

    return fit_with_callbacks


def _listed(callbacks) -> Iterable[Any]:
    """What the parameter `callbacks` holds: nothing, one or several."""
    if callbacks is None:
        return ()
    return callbacks if isinstance(callbacks, list | tuple) else (callbacks,)


def _is_foreign(callback) -> bool:
    """Whether a callback is one of scikit-learn's protocol."""
    return (
        FitCallback is not None
        and not isinstance(callback, Callback | type)
        and isinstance(callback, FitCallback)
    )
