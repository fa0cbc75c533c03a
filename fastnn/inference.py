"""Inference: predictions, losses and gradients of a network with its present parameters."""

from __future__ import annotations

import functools
import logging
from typing import Self

import numpy as np

from . import engines, idle, losses, run
from . import metrics as metric_functions
from .checks import is_finite, true_or_false, whole_number
from .custom_loss import Custom
from .engines.workspace import Data, Steps, aligned_zeros
from .errors import NotFittedError
from .features import check_features, check_names, dense_array
from .losses import LossFunction
from .network import Network
from .tables import INPUT
from .targets import (
    Target,
    check_weights,
    choose_loss,
    describe_target,
    given_classes,
    make_data,
    probability_function,
)
from .validation import Validation

#: What targets without classes are, in messages.
_KINDS = {"one_hot": "rows of 0 and 1", "multilabel": "columns of 0 and 1", "values": "numbers"}

#: What gives a network its loss and its labels.
_FIRST = "call fit first, or set_targets(y) after a training loop of your own"


log = logging.getLogger("fastnn")


class Inference(Network):
    """Base of :class:`fastnn.Sequential`: everything that changes no parameter."""

    @functools.cached_property
    def _idle(self) -> idle.IdleWorkspaces:
        return idle.IdleWorkspaces()

    def _data(self, X, y, target: Target, loss: LossFunction, what: str = "y") -> Data:
        """X, which is checked already, and y in the form that engines read."""
        return make_data(X, y, self.n_outputs, target, loss, self.dtype, self.input_scale, what)

    def _describe(self, y, n_rows: int, loss, classes=None) -> tuple[LossFunction, Target]:
        """The loss and the kind of targets; those of the last fit if the loss is the same.

        `classes` are all labels of y, if they are given.
        """
        if isinstance(loss, str) and loss == "auto":
            in_columns = np.ndim(y) == 2 and np.shape(y)[1] > 1
            known = y if classes is None or in_columns else classes
            chosen = self._loss or losses.get(choose_loss(known, self.n_outputs).name)
        else:
            chosen = losses.get(loss)
        if isinstance(chosen, Custom):
            chosen.check_function()
        if self._target is not None and self._loss is not None and _alike(chosen, self._loss):
            target = self._target
        else:
            target = describe_target(y, n_rows, self.n_outputs, chosen, classes)
        if classes is not None:
            _check_classes(classes, target, self.n_outputs, chosen)
        return chosen, target

    def set_targets(self, y, loss="auto", classes=None) -> Self:
        """Tell the network its loss and its labels as a fit does, without training.

        After a training loop of one's own, `predict`, `predict_proba` and `evaluate` then answer as
        after :meth:`fit`; see :meth:`fastnn.Sequential.step`.

        Parameters
        ----------
        y : array_like, shape (m,) or (m, n_outputs)
            Targets of any rows: labels of any type, or numbers.
        loss : str or loss, default "auto"
            As for :meth:`fit`; "auto" is inferred from y, by the same rule, whatever the last fit
            had. Logging says which it is, and ``history.loss_name`` of the next fit.
        classes : array_like, optional
            All labels, where y does not hold every one.

        Returns
        -------
        Sequential
            The network.

        Raises
        ------
        ShapeError, ValueError, TypeError
            If y does not fit the loss or the network; nothing has changed then.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1, init="zeros")], n_inputs=1)
        >>> net.flat_params = [1.0, -0.5]
        >>> net.set_targets(["no", "yes"]).predict([[0.0], [1.0]])
        array(['no', 'yes'], dtype='<U3')
        """
        before, is_inferred = (self._loss, self._target), isinstance(loss, str) and loss == "auto"
        self.set_fitted(None, None)
        try:
            n_rows = (*dense_array(y, "y").shape, 0)[0]  # a number has no rows
            loss, target = self._describe(y, n_rows, loss, classes)
            self._data(np.empty((n_rows, 0), self.dtype), y, target, loss)
            if self.n_inputs is not None:
                self.lower(loss)  # refuses a loss that contradicts the last layer
        except BaseException:
            self.set_fitted(*before)
            raise
        if is_inferred:
            log.info("loss='auto' is %s for these targets", loss.name)
        return self.set_fitted(loss, target)

    # -- prediction ---------------------------------------------------------------------------

    def _forward(self, X, loss: LossFunction | None, function: str) -> np.ndarray:
        params, plan = self._built(), self.lower(loss)
        folded = self._folded(plan) if self._chain and self._chain.is_linear else None
        if folded is None:
            X = self._features(X, self.n_inputs)
        else:
            check_names(X, self.feature_names_in_)
            params, X = folded, check_features(X, self.n_inputs, self.dtype)
        out = np.empty((len(X), self.n_outputs), self.dtype)
        data = Data(X, scale=self.input_scale, batch_size=run.chunk_rows(plan, len(X)))
        ws = self._idle.take(plan, params, self._statistics, data.batch_size)
        run.forward(engines.current(), ws, data, out, function)
        self._idle.put_back(ws)
        return out

    def _folded(self, plan) -> np.ndarray | None:
        """The parameters with the preprocessing folded into those of the first layer, or None.

        They are kept for the next call, and made anew if a parameter has changed.
        """
        now = self._built(), self._statistics
        kept = self.__dict__.get("_fold")
        if kept is not None and all(
            len(old) == len(new) and bool((old == new).all())
            for old, new in zip(kept, now, strict=False)
        ):
            return kept[2]
        folded = self._fold_first(plan)
        self._fold = (*(flat.copy() for flat in now), folded)
        return folded

    @np.errstate(all="ignore")
    def _fold_first(self, plan) -> np.ndarray | None:
        first = str(len(self._chain))
        named = {p.name: p for p in plan.parameters}
        W, b = named.get(f"{first}.W"), named.get(f"{first}.b")
        statistics = self._named_statistics()
        is_first = plan.prediction.ops["x"].tolist().count(INPUT) == 1
        if W is None or b is None or not is_first or not self._chain.is_learned(statistics):
            return None
        params = self._built()
        folded = self._chain.folded(W.view(params), b.view(params), statistics)
        if folded is None:
            return None
        found = aligned_zeros(len(params), self.dtype)
        found[:] = params
        W.view(found)[...], b.view(found)[...] = folded
        return found if is_finite(found) else None

    def logits(self, X) -> np.ndarray:
        """The output of the last layer, before sigmoid, softmax or what else the loss contains.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (m, n_inputs)

        Returns
        -------
        ndarray, shape (m, n_outputs), of the network's dtype
            In the compiled engines row i depends on row i of X alone and equals
            ``logits(X[i:i+1])[0]`` bit for bit.

        Raises
        ------
        NotFittedError, ShapeError, ValueError, TypeError
            If there are no parameters yet, or X does not fit.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1, init="zeros")], n_inputs=2)
        >>> net.logits([[1.0, 2.0]])
        array([[0.]], dtype=float32)
        """
        return self._forward(X, self._loss, "logits")

    def predict(self, X) -> np.ndarray:
        """Labels of the type that was given to fit, or values.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (m, n_inputs)

        Returns
        -------
        ndarray, shape (m,) or (m, n_outputs)
            In the form of y in the fit; for several quantiles and for ``gaussian_nll`` all
            outputs, see :mod:`fastnn.losses`. A network that was never fitted, but whose parameters
            were set, gives the outputs of its last layer.

        Raises
        ------
        NotFittedError
            If the parameters are still the initial ones.
        ShapeError, ValueError, TypeError
            If X does not fit.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1)])
        >>> _ = net.fit([[0.0], [1.0]], ["no", "yes"], epochs=500, progress=False)
        >>> net.predict([[-1.0], [2.0]])
        array(['no', 'yes'], dtype='<U3')
        """
        if self._target is None:
            if self._params is None or self._is_untrained():
                raise NotFittedError("the network has not been trained: call fit first")
            return self._forward(X, None, "output")
        assert self._loss is not None
        function = self._target.function(self._loss, self.n_outputs)
        return self._target.predictions(self._forward(X, self._loss, function))

    def predict_proba(self, X) -> np.ndarray:
        """Probabilities, for the cross entropies and the focal loss.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (m, n_inputs)

        Returns
        -------
        ndarray, shape (m, number of classes)
            Columns are in the order of ``classes_``; one output gives two columns. For
            independent 0/1 targets, the probability of each being 1.

        Raises
        ------
        NotFittedError
            Before fit.
        ValueError
            If the loss is neither a cross entropy nor focal.
        ShapeError, TypeError
            If X does not fit.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1)])
        >>> _ = net.fit([[0.0], [1.0]], ["no", "yes"], epochs=500, progress=False)
        >>> net.predict_proba([[-1.0], [2.0]]).argmax(axis=1)
        array([0, 1])
        """
        if self._loss is None or self._target is None:
            raise NotFittedError(f"the network has no loss yet: {_FIRST}")
        function = probability_function(self._loss, self.n_outputs)
        if function is None:
            raise ValueError(
                "predict_proba needs a cross entropy or the focal loss, but the loss is "
                f"{self._loss.name}: use predict"
            )
        return self._target.probabilities(self._forward(X, self._loss, function))

    @property
    def classes_(self) -> np.ndarray | None:
        return None if self._target is None else self._target.classes

    @np.errstate(all="ignore")
    def evaluate(self, X, y, loss="auto", metrics=()) -> dict[str, float]:
        """The loss of the last fit on other rows, the accuracy of a classification, and metrics.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (m, n_inputs)
        y : array_like, shape (m,) or (m, n_outputs)
        loss : str or loss, default "auto"
            Another loss than that of the last fit.
        metrics : iterable of str, callable or Metric
            Names of :mod:`fastnn.metrics` such as "f1", functions of (y, predictions), or
            :class:`fastnn.metrics.Metric`.

        Returns
        -------
        dict
            ``{"loss": ...}``, with ``"accuracy"`` for classes, and the metrics by their names.

        Raises
        ------
        NotFittedError
            Before fit.
        ShapeError, ValueError, TypeError
            If X or y does not fit the network, y has a label that fit has not seen, or a metric
            does not go with the targets, these rows or the loss.
        ImportError
            If a metric needs scikit-learn, which is missing.
        Exception
            Whatever a metric of your own raises.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1)])
        >>> _ = net.fit([[0.0], [1.0]], ["no", "yes"], epochs=500, progress=False)
        >>> net.evaluate([[-1.0], [2.0]], ["no", "no"])["accuracy"]
        0.5
        """
        if self._loss is None or self._target is None:
            raise NotFittedError(f"the network has no loss yet: {_FIRST}")
        X = self._features(X, self.n_inputs)
        loss_function, target = self._describe(y, len(X), loss)
        data = self._data(X, y, target, loss_function)
        found = metric_functions.get(metrics, target, loss_function, self.n_outputs)
        plan, engine = self.lower(loss_function), engines.current()
        validation = Validation(engine, plan, data, y, target, loss_function, found)
        ws = self._idle.take(plan, self._built(), self._statistics, data.batch_size)
        values = validation.values(ws, prefix="")
        self._idle.put_back(ws)
        return values

    @np.errstate(all="ignore")
    def loss_and_grad(
        self, X, y, loss="auto", sample_weight=None, step=0
    ) -> tuple[float, np.ndarray]:
        """The loss of all rows as one batch, and its gradient by backpropagation.

        They are those of training: with masks and noise, and with statistics of the batch; running
        statistics do not change. Large batches run in pieces, so the memory is bounded for any
        number of rows, unless the network has a BatchNorm.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (m, n_inputs)
        y : array_like, shape (m,) or (m, n_outputs)
        loss : str or loss, default "auto"
            As for :meth:`fit`; "auto" is the loss of the last fit if there was one.
        sample_weight : array_like, shape (m,), optional
            As for :meth:`fit`.
        step : int, default 0
            The step of a training whose masks, noise and scheduled rates are taken.

        Returns
        -------
        loss : float
            With the penalties of the layers.
        gradient : ndarray, shape (number of parameters,)
            In the order of ``flat_params``.

        Raises
        ------
        NotFittedError
            If the number of features is not known yet.
        ShapeError, ValueError, TypeError
            If an argument does not fit.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1, init="zeros")], n_inputs=1)
        >>> loss, gradient = net.loss_and_grad([[2.0], [4.0]], [1.0, 3.0], loss="mse")
        >>> loss, gradient
        (5.0, array([-14.,  -4.], dtype=float32))
        """
        step = whole_number(step, "step", least=0)
        loss_function, data = self._one_batch(X, y, loss, sample_weight)
        plan = self.lower(loss_function)
        data.batch_size = run.piece_rows(plan, len(data.X))
        params, rows = self._built(), data.batch_size
        ws = self._idle.take(plan, params, self._statistics, rows, total_rows=len(data.X))
        steps = Steps(run.with_schedules(plan, np.empty((1, 0)), step), self.seed, step)
        total, _ = run.loss_and_grad(engines.current(), ws, data, steps)
        gradient = ws.grad.copy()
        self._idle.put_back(ws)
        return total / data.weight_sum if plan.mean else total, gradient

    def _one_batch(self, X, y, loss, sample_weight) -> tuple[LossFunction, Data]:
        """The arguments of a loss of all rows, checked."""
        self._built()
        X = self._features(X, self.n_inputs)
        loss_function, target = self._describe(y, len(X), loss)
        data = self._data(X, y, target, loss_function)
        data.weights = check_weights(sample_weight, len(X))
        return loss_function, data

    @np.errstate(all="ignore")
    def trace(self, X, y=None, loss="auto", step=0) -> dict[str, np.ndarray]:
        """All intermediate values of the forward pass and, given y, of the backward pass.

        z is a layer's weighted sum, a its output, and dz, da, dW and db are derivatives of the loss
        with respect to them, named as in A. Ng's course "Deep Learning". The reference engine
        computes them as there: a derivative with respect to z or a is that of the row's own loss,
        and the factor 1/m of a mean is in dW and db.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (m, n_inputs)
        y : array_like, shape (m,) or (m, n_outputs), optional
        loss : str or loss, default "auto"
            As for :meth:`fit`. The last layer includes the output function of a cross entropy.
        step : int, default 0
            As for :meth:`loss_and_grad`; without y there are neither masks nor noise.

        Returns
        -------
        dict
            For layer i ``"i.z"`` and ``"i.a"`` (m, units), and with y also ``"i.da"``,
            ``"i.dz"``, ``"i.dW"`` (n_in, units) and ``"i.db"`` (units,). A layer that is an
            activation has no z, dW and db; PReLU has ``"i.dalpha"``. BatchNorm has ``"i.mean"``,
            ``"i.variance"`` and ``"i.normalised"`` (x-hat), of the batch with y and the running
            ones without, then ``"i.dgamma"`` and ``"i.dbeta"``; so do LayerNorm and GroupNorm, for
            each row and group. Embedding has ``"i.dE3"`` for column 3. The z of a Residual is its
            sum; the layers inside it have names such as ``"i.0.z"`` and ``"i.projection.dW"``.
            The derivative with respect to X is not computed.

        Raises
        ------
        NotFittedError, ShapeError, ValueError, TypeError
            As for :meth:`loss_and_grad`.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1, "sigmoid", init="zeros")], n_inputs=2)
        >>> trace = net.trace([[1.0, 2.0]], [1.0], loss="binary_cross_entropy")
        >>> sorted(trace)
        ['0.a', '0.dW', '0.da', '0.db', '0.dz', '0.z']
        >>> float(trace["0.a"][0, 0]), float(trace["0.dz"][0, 0])
        (0.5, -0.5)
        """
        from .tracing import trace

        step = whole_number(step, "step", least=0)
        self._built()
        if y is None:
            X = self._features(X, self.n_inputs)
            data, loss_function = Data(X, scale=self.input_scale), self._loss
        else:
            loss_function, data = self._one_batch(X, y, loss, None)
        plan = self.lower(loss_function)
        return trace(plan, self._built(), self._statistics, data, loss_function, self.seed, step)

    def __getstate__(self):
        # Workspaces hold addresses of this process, and plans belong to this version.
        return {**self.__dict__, "_idle": idle.IdleWorkspaces(), "_plans": {}, "_fold": None}

    # -- files --------------------------------------------------------------------------------

    def save(self, path, training=False) -> None:
        """Write the network to a safetensors file: parameters, layers, loss and labels.

        The file is replaced only once the new one is complete.

        Parameters
        ----------
        path : str or path
        training : bool, default False
            Whether the file has the state of training, too: that of the optimizer, the counters
            that choose orders and masks, schedule and average. A fit of the network that is loaded
            then goes on as if there had been no file, bit for bit. It takes one to three times the
            memory of the parameters; the history is not in it.

        Raises
        ------
        NotFittedError
            If the number of features is not known yet.
        OSError
            If the file cannot be written; an older one is then untouched.
        TypeError
            If the labels are neither text nor numbers, or a schedule of training is a function.
        ValueError
            If a parameter is not finite, or the description is too large for a file.

        Examples
        --------
        >>> import tempfile, os, fastnn
        >>> net = fastnn.Sequential([fastnn.Dense(2)], n_inputs=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     net.save(os.path.join(folder, "net.safetensors"))
        ...     back = fastnn.load(os.path.join(folder, "net.safetensors"))
        >>> bool((back.flat_params == net.flat_params).all())
        True
        """
        from . import files, training_files

        tensors = {**self.parameters(), **self._named_statistics()}
        description = {
            **self.config(),
            "loss": None if self._loss is None else self._loss.config(),
            "target": files.describe_targets(self._target),
        }
        # Earlier versions read what has neither.
        if self.feature_names_in_ is not None:
            description |= {"format": 2, "feature_names": self.feature_names_in_}
        if true_or_false(training, "training"):
            about, of_training = training_files.describe(self._state)
            description |= {"format": 2, "training": about}
            tensors |= of_training
        files.write(path, tensors, {"format": 1, **description})


def _check_classes(classes, target: Target, n_outputs: int, loss: LossFunction) -> None:
    """Refuse classes that are not those of the targets."""
    if target.classes is None:
        raise ValueError(
            f"classes belongs to labels, but with the loss {loss.name} these targets are "
            f"{_KINDS[target.kind]}: leave classes out"
        )
    found = given_classes(classes, n_outputs, loss)
    if found.shape != target.classes.shape or (found != target.classes).any():
        raise ValueError(
            f"classes is {found.tolist()}, but the network has been fitted with "
            f"{target.classes.tolist()}: leave classes out, or use a new network"
        )


def _alike(loss: LossFunction, other: LossFunction) -> bool:
    """Whether two losses take the same targets."""
    return loss.code == other.code and (not isinstance(loss, Custom) or loss == other)
