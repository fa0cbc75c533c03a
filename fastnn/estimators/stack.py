"""What the estimators of any layers have in common: parameters, the network, its training."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from scipy import sparse
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight

from .. import early_stopping, losses, schedules
from ..checks import whole_number
from ..layers import Dense, Layer
from ..losses import LossFunction
from ..metric import Metric
from ..model import Sequential
from ..preprocessing.base import Preprocessing
from ..targets import check_weights
from .base import READ_AS_THEY_ARE, NetworkEstimator

#: Share of the rows that early stopping and metrics get where nothing says it.
_VALIDATION_FRACTION = 0.1


class SequentialEstimator(NetworkEstimator):
    """What both estimators do; they document the parameters."""

    #: What :func:`sklearn.utils.validation.validate_data` is told of y.
    _checks_of_y: ClassVar[dict[str, Any]] = {}

    # The parameters; the classes document them.
    layers: Any
    loss: Any
    optimizer: Any
    epochs: int | None
    batch_size: Any
    steps: int | None
    seconds: float | None
    accumulate: int
    schedule: Any
    metrics: Any
    early_stopping: Any
    validation_fraction: float | None
    shuffle: Any
    augment: Any
    freeze: Any
    ema: Any
    swa: Any
    l1: float
    l2: float
    penalties: str
    input_scale: float
    random_state: Any
    warm_start: bool
    verbose: bool

    n_outputs_: int

    @abstractmethod
    def _prepared(self, X, y, goes_on: bool, classes=None) -> Sequential:
        """The network to train: the present one, or a new one for these targets."""

    @abstractmethod
    def _described_targets(self, n_outputs: int) -> str:
        """What y has, for a message; a network for it has so many outputs."""

    @abstractmethod
    def _chosen_loss(self) -> LossFunction:
        """The loss of a fit; it is never inferred from the labels of a part of the rows."""

    @abstractmethod
    def _targets(self, y, what: str = "y") -> np.ndarray:
        """y as the network takes it; `what` is the name of the argument."""

    def _check_first_part(self, y, classes) -> None:
        """Refuse a first call of partial_fit that does not say what the others need."""
        return

    def _takes_missing(self) -> bool:
        """Whether the layers are a list whose first one replaces missing values."""
        layers = self.layers
        first = layers[0] if isinstance(layers, list | tuple) and layers else None
        return isinstance(first, Preprocessing) and first.takes_missing

    @property
    def _all_finite(self) -> bool | str:  # type: ignore[override]
        # Of a function's layers the network itself refuses what they do not take.
        return "allow-nan" if callable(self.layers) or self._takes_missing() else True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._takes_missing()
        return tags

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Keep the arguments of the constructor as they are."""
        for name in arguments.keys() - {"self", "__class__"}:
            setattr(self, name, arguments[name])

    def _float_types(self):
        return READ_AS_THEY_ARE

    # -- the network --------------------------------------------------------------------------

    def _network(self, n_inputs: int, n_outputs: int, choices: tuple[int, ...]) -> Sequential:
        """A new network.

        Parameters
        ----------
        n_inputs : int
            Features.
        n_outputs : int
            What a function that returns the layers is given.
        choices : tuple of int
            Numbers of outputs that go with the targets.

        Raises
        ------
        ValueError, TypeError
            If the layers make no network, or its outputs are not as many.
        """
        layers = self._layers(n_inputs, n_outputs)
        if self.n_threads is not None:
            whole_number(self.n_threads, "n_threads")
        net = Sequential(
            layers, seed=self._seed(), dtype=self.dtype, l1=self.l1, l2=self.l2,
            penalties=self.penalties, input_scale=self.input_scale,
        )  # fmt: skip
        if net.n_outputs not in choices:
            wanted = " or ".join(f"Dense({n})" for n in choices)
            raise ValueError(
                f"the last layer has {net.n_outputs} unit{'s' * (net.n_outputs != 1)}, but "
                f"{self._described_targets(n_outputs)}: let `layers` end with {wanted}, or let it "
                "be a function of (n_inputs, n_outputs) whose list ends with Dense(n_outputs)"
            )
        return net

    def _layers(self, n_inputs: int, n_outputs: int) -> list[Layer]:
        """Copies of the layers, so that no later change of the user's reaches the network."""
        given = self.layers
        if given is None:
            return [Dense(100, "relu"), Dense(n_outputs)]
        if callable(given) and not isinstance(given, Layer | type):
            given = given(n_inputs, n_outputs)
        if isinstance(given, Layer | str | bytes) or not hasattr(given, "__iter__"):
            raise TypeError(
                "layers must be a list of layers such as [Dense(100, 'relu'), Dense(1)], or a "
                f"function of (n_inputs, n_outputs) that returns one, not {given!r}"
            )
        return copy.deepcopy(list(given))

    def _seed(self) -> int:
        """The seed of the network: a whole number is the seed itself."""
        state = self.random_state
        if hasattr(state, "__index__"):
            return state
        return int(check_random_state(state).randint(np.iinfo(np.int32).max))

    def _given_loss(self) -> LossFunction | None:
        """The loss, or None if it is to be inferred."""
        is_auto = isinstance(self.loss, str) and self.loss == "auto"
        return None if is_auto else losses.get(self.loss)

    # -- training -----------------------------------------------------------------------------

    def _validation(self, X_val, y_val) -> dict[str, Any]:
        """The options of a fit that say on which rows it is validated."""
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val belong together: give both or none")
        if X_val is not None:
            X_val, y_val = self._rows_to_fit(X_val, y_val, reset=False, **self._checks_of_y)
            return {"validation_data": (_read(X_val), self._targets(y_val, "y_val"))}
        share = self.validation_fraction
        if share is None:
            rule = early_stopping.get(self.early_stopping)
            follows = rule is not None and "val_" in rule.metric
            share = _VALIDATION_FRACTION if follows or self._metrics() else 0.0
        return {"validation_split": share}

    def _metrics(self) -> tuple[Any, ...]:
        given = self.metrics
        if given is None:
            return ()
        return (given,) if isinstance(given, str | Metric) or callable(given) else tuple(given)

    def _options(self, y, sample_weight) -> dict[str, Any]:
        """Arguments of `fit` and `partial_fit` of the network."""
        return {
            "loss": self._chosen_loss(), "optimizer": self.optimizer,
            "batch_size": self.batch_size, "sample_weight": self._weights(y, sample_weight),
            "callbacks": self._fit_callbacks(), "shuffle": self.shuffle, "augment": self.augment,
            "freeze": self.freeze, "accumulate": self.accumulate, "ema": self.ema, "swa": self.swa,
        }  # fmt: skip

    def _weights(self, y, sample_weight) -> np.ndarray | None:
        """The weights of the rows.

        Raises
        ------
        ValueError
            If they are no weights of these rows.
        """
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, y)
        weights = check_weights(sample_weight, len(y), some=False)
        if weights is not None and not weights.any():
            raise ValueError("sample_weight is zero for every row: some rows must count")
        return weights

    def _run(self, net: Sequential, fit, X, y, goes_on: bool, **options) -> None:
        """Call `fit` of a network, and set the attributes that say what came of it."""
        curves = ("loss_curve_", "validation_curve_")
        earlier = [list(getattr(self, name, ())) if goes_on else [] for name in curves]
        history = net.history
        try:
            with self._running():
                fit(_read(X), self._targets(y), **options)
        finally:  # after Ctrl-C, too
            if net.history is not None and net.history is not history:
                self.net_, self.history_ = net, net.history
                self.n_outputs_ = net.n_outputs
                for name, values, key in zip(curves, earlier, ("loss", "val_loss"), strict=True):
                    setattr(self, name, values + list(self.history_.get(key, ())))
                self.n_iter_ = len(self.loss_curve_)

    def _fit(self, X, y, sample_weight, validation: tuple, **options):
        with self._undone_if_it_fails():
            self._fit_rows(X, y, sample_weight, validation, options)
        return self

    def _fit_rows(self, X, y, sample_weight, validation: tuple, options: dict[str, Any]) -> None:
        goes_on = bool(self.warm_start) and "net_" in self.__dict__
        X, y = self._rows_to_fit(X, y, reset=not goes_on, **self._checks_of_y)
        if not goes_on:
            self.__dict__.pop("net_", None)
        net = self._prepared(X, y, goes_on)
        options |= self._options(y, sample_weight) | self._validation(*validation)
        options |= {
            "epochs": self.epochs, "steps": self.steps, "seconds": self.seconds,
            "metrics": self._metrics(), "early_stopping": self.early_stopping,
            "schedule": self.schedule, "progress": bool(self.verbose),
        }  # fmt: skip
        self._run(net, net.fit, X, y, goes_on, **options)

    def _partial_fit(self, X, y, sample_weight, classes=None, **options):
        with self._undone_if_it_fails():
            self._partial_fit_rows(X, y, sample_weight, classes, options)
        return self

    def _partial_fit_rows(self, X, y, sample_weight, classes, options: dict[str, Any]) -> None:
        goes_on = "net_" in self.__dict__
        X, y = self._rows_to_fit(X, y, reset=not goes_on, **self._checks_of_y)
        if not goes_on:
            self._check_first_part(y, classes)
        net = self._prepared(X, y, goes_on, classes)
        options |= self._options(y, sample_weight)
        if self.schedule is not None:
            schedule = schedules.get(self.schedule)
            if not schedule.lasts_a_fit:  # which would begin again with every call
                options["schedule"] = schedule
        self._run(net, net.partial_fit, X, y, goes_on, **options)


def _read(X):
    """X as the network reads it: a sparse matrix holds floats."""
    if sparse.issparse(X) and X.dtype.kind != "f":
        return X.astype(np.float32)
    return X
