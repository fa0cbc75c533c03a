"""The fit of MLPClassifier and MLPRegressor: from checked rows to a trained network."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight

from .. import optimizers
from ..activations import ActivationFunction
from ..errors import DivergedError
from ..lbfgs import LBFGS
from ..losses import LossFunction
from ..ops.loss import output_function
from ..optimizer import Optimizer
from . import draws, solvers
from .architecture import NORMALIZATIONS, Architecture, function_of
from .base import warn
from .rules import EpochRecord, Rules

#: scikit-learn's names of what a loss makes of the outputs.
_OUT_ACTIVATIONS = {"sigmoid": "logistic", "mean_variance": "identity"}

#: Relative decrease of the loss at which SciPy's L-BFGS-B ends by default.
_FTOL = 2.220446049250313e-09

_NON_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)


@dataclass
class Rows:
    """The rows of a fit, checked and encoded.

    Attributes
    ----------
    X, y : array
        All rows, with targets as the network takes them.
    weight : ndarray or None
        Those given for the rows, times the weights of their classes.
    train : ndarray or None
        The numbers of the rows to train on, if not all.
    valid : tuple (X, y, weight) or None
        Validation rows; their targets are as the network takes them.
    """

    X: Any
    y: np.ndarray
    weight: np.ndarray | None
    train: np.ndarray | None = None
    valid: tuple[Any, np.ndarray, np.ndarray | None] | None = None

    @property
    def n_train(self) -> int:
        return self.X.shape[0] if self.train is None else len(self.train)


class Perceptron(Architecture):
    """Base of the two estimators, which document the parameters."""

    _parameter_constraints: ClassVar[dict] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [str, ActivationFunction, list, tuple],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "loss": [str, LossFunction],
        "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
        "normalization": [StrOptions(set(NORMALIZATIONS)), None],
        "output_activation": [str, ActivationFunction],
        "optimizer": [str, Optimizer, None],
        "schedule": "no_validation",
        "callbacks": "no_validation",
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "engine": [StrOptions({"auto", "numba", "c", "numpy"}), None],
        "dtype": [StrOptions({"float32", "float64"}), None],
    }

    # What fits leave to the next one.
    _rate: Any = None
    _no_improvement_count: int = 0
    _best_state: dict[str, np.ndarray] | None = None
    _optimizer: Optimizer
    # None where they do not apply.
    best_loss_: Any
    best_validation_score_: Any
    validation_scores_: Any

    # -- the fit ------------------------------------------------------------------------------

    @abstractmethod
    def _targets_to_fit(self, y, first: bool, incremental: bool, classes) -> np.ndarray:
        """y as the network takes it; in a first fit it sets the classes."""

    @abstractmethod
    def _validation_targets(self, y) -> tuple[np.ndarray, np.ndarray | None]:
        """The targets of validation rows as the network takes them, and their weights."""

    @abstractmethod
    def _validation_score(self, rows, loss) -> Callable[[dict[str, float]], float]:
        """The score of validation rows (X, y, weight) as a function of an epoch's values."""

    @abstractmethod
    def _loss_to_fit(self, y: np.ndarray) -> tuple[LossFunction, int]:
        """The loss, and how many outputs the network needs for it."""

    def _fit(
        self, X, y, sample_weight=None, X_val=None, y_val=None, incremental=False, classes=None
    ):  # fmt: skip
        with self._undone_if_it_fails():
            self._fit_rows(X, y, sample_weight, X_val, y_val, incremental, classes)
        return self

    def _fit_rows(self, X, y, sample_weight, X_val, y_val, incremental: bool, classes) -> None:
        self._hidden_units()
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = "net_" not in self.__dict__ or not (self.warm_start or incremental)
        X, y = self._rows_to_fit(X, y, reset=first, **self._checks)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        encoded = self._targets_to_fit(y, first, incremental, classes)
        rows = Rows(X, encoded, self._with_class_weights(y, sample_weight))
        loss, n_outputs = self._loss_to_fit(encoded)
        random = check_random_state(self.random_state)
        if first:
            self.net_ = self._new_net(loss, n_outputs, X.dtype, random)
            self._begin_attributes(loss)
        elif not incremental:
            self.net_ = self._continued(loss, n_outputs, X.dtype, random)
        else:
            self.net_.set_penalties(l2=self.alpha / 2)
        self._set_validation(rows, X_val, y_val, random)
        with self._running():
            self._train(rows, loss, random, incremental)

    def _begin_attributes(self, loss: LossFunction) -> None:
        net = self.net_
        self.n_outputs_, self.n_layers_ = net.n_outputs, len(self._hidden_units()) + 2
        function = output_function(loss.code, net.n_outputs) or function_of(net.layers[-1]).name
        self.out_activation_ = _OUT_ACTIVATIONS.get(function, function)
        self.n_iter_, self.t_ = 0, 0
        self.loss_curve_: list[float] = []
        self.validation_curve_: list[float] = []
        self._no_improvement_count = 0
        self._best_state = None
        self.best_loss_ = None
        self.validation_scores_ = None
        self.best_validation_score_ = None

    def _set_validation(self, rows: Rows, X_val, y_val, random) -> None:
        """The validation rows: those given, or a part of the training rows."""
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val belong together: give both or none")
        if X_val is not None:
            X_val = self._rows(X_val)
            rows.valid = X_val, *self._validation_targets(y_val)
            return
        if not self.early_stopping or self._takes_all_rows():
            return
        n_rows, y, weight = rows.X.shape[0], rows.y, rows.weight
        classes = self._classes_to_stratify(y)
        train, valid = draws.validation_rows(random, n_rows, self.validation_fraction, classes)
        if weight is not None and not (weight[train].any() and weight[valid].any()):
            raise ValueError(
                "Sample weights must contain at least one non-zero number, in the training and in "
                "the validation rows: give weights to more rows, or give X_val and y_val"
            )
        rows.train = train
        rows.valid = rows.X[valid], y[valid], None if weight is None else weight[valid]

    def _takes_all_rows(self) -> bool:
        """Whether the optimizer is L-BFGS; the parameters may still be invalid."""
        if self.optimizer is None:
            return isinstance(self.solver, str) and self.solver == "lbfgs"
        if isinstance(self.optimizer, str):
            return self.optimizer.lower() == "lbfgs"
        return bool(getattr(self.optimizer, "full_batch", False))

    def _given_optimizer(self) -> Optimizer:
        """The optimizer that the parameters mean."""
        given = self.optimizer
        if given is None:
            if self.solver == "lbfgs":
                return LBFGS(gtol=self.tol, ftol=_FTOL, max_evaluations=self.max_fun)
            return solvers.of_solver(self.solver, self)
        found = optimizers.get(given)
        if isinstance(given, str) and not found.full_batch:
            found = dataclasses.replace(found, lr=float(self.learning_rate_init))  # type: ignore[call-arg]
        return found

    def _train(self, rows: Rows, loss: LossFunction, random, incremental: bool) -> None:
        if not (incremental and "_optimizer" in self.__dict__):
            self._optimizer, self._rate = self._given_optimizer(), None
        optimizer, net = self._optimizer, self.net_
        record = self._record(rows, loss, optimizer)
        shuffles = self.shuffle and not optimizer.full_batch
        labels = rows.y.ndim == 1 and self._classes_of_net() is not None
        options: dict[str, Any] = {
            "loss": loss, "optimizer": optimizer, "epochs": 1 if incremental else self.max_iter,
            "batch_size": self._batch_rows(rows.n_train, optimizer), "rows": rows.train,
            "sample_weight": rows.weight,
            "classes": self._classes_of_net() if labels else None,
            "validation_data": None if rows.valid is None else rows.valid[:2],
            "callbacks": (record, *self._fit_callbacks()),
            "shuffle": draws.Orders(random, rows.n_train) if shuffles else False,
            "schedule": self.schedule, "progress": False,
        }  # fmt: skip
        interrupted, history = False, net.history
        try:
            net.fit(rows.X, rows.y, **options)
        except KeyboardInterrupt:
            if net.history is history:  # it has not begun to train
                raise
            interrupted = True
            warn("Training interrupted by user.")
        except DivergedError as error:
            raise DivergedError(f"{_NON_FINITE} {error}", error.epoch, error.batch) from None
        if self._scores_validation and self._best_state is not None:
            net.load_state_dict(self._best_state)
        if not (interrupted or incremental):
            self._warn_unless_converged(optimizer)

    def _record(self, rows: Rows, loss: LossFunction, optimizer: Optimizer) -> EpochRecord:
        """The callback that follows the fit."""
        constants = self._constants(rows.y, loss)
        options: dict[str, Any] = {"constants": constants}
        if constants is not None and rows.valid is not None:
            of_valid = self._constants(rows.valid[1], loss)
            assert of_valid is not None
            options["valid_constant"] = float(of_valid.mean())
        self._scores_validation = self.early_stopping and not optimizer.full_batch
        if optimizer.full_batch:
            return EpochRecord(self, **options)
        score = None
        if self._scores_validation:
            if self.validation_scores_ is None:
                self.validation_scores_, self.best_validation_score_ = [], -np.inf
                self._best_state = self.net_.state_dict()
            score = self._validation_score(rows.valid, loss)
        elif self.best_loss_ is None:
            self.best_loss_ = np.inf
        own = self.optimizer is not None
        mode = self.learning_rate if own or self.solver == "sgd" else "constant"
        rate = optimizer.lr if isinstance(optimizer.lr, Real) else self.learning_rate_init
        return Rules(self, float(rate), mode, score, **options)

    def _constants(self, y: np.ndarray, loss: LossFunction) -> np.ndarray | None:
        """What scikit-learn's loss of each row has besides that of the network; None for 0."""
        return None

    def _with_class_weights(self, y, weights: np.ndarray | None) -> np.ndarray | None:
        """The weights of rows times those of their classes, if there are any."""
        return weights

    def _classes_of_net(self) -> np.ndarray | None:
        """The positions of the classes, if the network is trained on positions."""
        return None

    def _classes_to_stratify(self, y: np.ndarray) -> np.ndarray | None:
        """The classes whose proportions the validation rows keep."""
        return None

    def _batch_rows(self, n_rows: int, optimizer: Optimizer) -> int | None:
        if optimizer.full_batch:
            return None
        if self.batch_size == "auto":
            return min(200, n_rows)
        if self.batch_size > n_rows:
            warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                "clipped",
            )
        return min(self.batch_size, n_rows)

    def _warn_unless_converged(self, optimizer: Optimizer) -> None:
        history = self.net_.history
        assert history is not None
        if optimizer.full_batch:
            if history.stopped is None or not history.stopped.startswith("converged"):
                reason = history.stopped or "max_iter is reached"
                warn(
                    f"lbfgs failed to converge after {self.n_iter_} iteration(s): {reason}. "
                    f"Increase max_iter (now {self.max_iter}) or max_fun (now {self.max_fun}), or "
                    "standardise X",
                    ConvergenceWarning,
                )
        elif history.stopped is None and self.n_iter_ == self.max_iter:
            warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
            )


def check_partial_fit(estimator) -> bool:
    """Whether partial_fit exists: for all optimizers that take steps on batches."""
    if not estimator._takes_all_rows():
        return True
    raise AttributeError(
        "partial_fit is only available for stochastic optimizers. lbfgs is not stochastic."
    )
