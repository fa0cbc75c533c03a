"""Sequential: layers in, a trained network out."""

from __future__ import annotations

import functools
import sys

import numpy as np

from . import engines, interrupts, losses, optimizers, run
from .checks import whole_number
from .engines.workspace import Data, Workspace
from .errors import NotFittedError
from .losses import LossFunction
from .network import Network
from .ops.loss import OUTPUT_OF
from .run import Fit, TrainingState
from .targets import (
    Target,
    check_features,
    check_weights,
    choose_loss,
    describe_target,
    make_data,
)
from .training import History, Progress
from .training import epochs as epochs_of


class Sequential(Network):
    """A feed-forward network: layers one after another.

    Parameters
    ----------
    layers : iterable of Layer
        From input to output; the units of the last :class:`Dense` are the outputs.
    n_inputs : int, optional
        Number of features; by default inferred from the first fit.
    seed : int or None, default 0
        It determines initial weights and shuffles: equal seeds give equal networks, bit for bit.
        None draws a seed and stores it in ``seed``.
    dtype : {"float32", "float64"}
        Type of the parameters and of all arithmetic.
    l1, l2 : float, default 0
        Penalties on the weights of all layers, l1 sum |W| + l2 sum W^2, in addition to those of
        single layers.
    input_scale : float, default 1
        Factor of every element of X, applied as a batch is read, in training and prediction:
        with 1/255, images of bytes need neither a copy nor a conversion.

    Attributes
    ----------
    n_inputs, n_outputs : int
        Features and outputs.
    classes_ : ndarray or None
        The labels of a classification, sorted.
    history : History or None
        History of the last fit, even if it was interrupted.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Sequential, Dense, Adam
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> y = np.array([0, 1, 1, 0])
    >>> net = Sequential([Dense(8, "tanh"), Dense(1)], seed=0)
    >>> _ = net.fit(X, y, optimizer=Adam(0.05), epochs=200, batch_size=4, progress=False)
    >>> net.predict(X)
    array([0, 1, 1, 0])
    """

    history: History | None = None
    _state: TrainingState | None = None
    _prepared: Fit | None = None

    @property
    def training_state(self) -> TrainingState | None:
        """What training keeps from step to step, or None before the first fit.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1)])
        >>> _ = net.fit([[0.0], [1.0]], [0.0, 1.0], epochs=3, progress=False)
        >>> net.training_state.epoch
        3
        """
        return self._state

    @functools.cached_property
    def _idle(self) -> run.IdleWorkspaces:
        return run.IdleWorkspaces()

    # -- training -----------------------------------------------------------------------------

    @interrupts.deferred
    @np.errstate(all="ignore")
    def fit(
        self,
        X,
        y,
        loss="auto",
        optimizer="adam",
        epochs=10,
        batch_size=32,
        *,
        sample_weight=None,
        validation_data=None,
        shuffle=True,
        progress="auto",
    ) -> History:
        """Train by minibatch gradient descent, starting from the current parameters.

        A second call with an equal optimizer continues the first, including the optimizer's state
        and the sequence of shuffles: two fits of 5 epochs equal one of 10, bit for bit.

        Parameters
        ----------
        X : array_like, shape (m, n_inputs)
            Any real type. Integers, float16 and the other float are converted batch by batch,
            without a copy of X.
        y : array_like, shape (m,) or (m, n_outputs)
            Labels of any type, or numbers.
        loss : str or loss, default "auto"
            A name of :mod:`fastnn.losses`, or an object such as ``CrossEntropy(0.1)``; "auto" is
            inferred from y and reported.
        optimizer : str or Optimizer, default "adam"
        epochs : int, default 10
        batch_size : int or None, default 32
            Rows per step; the last step of an epoch takes the remaining rows. 1 is stochastic
            descent, None takes all rows at once. Large batches run in pieces of bounded memory.
        sample_weight : array_like, shape (m,), optional
            Weight of each row, at least 0: a mean becomes the weighted mean over the batch.
            Accuracies ignore the weights.
        validation_data : tuple (X, y), optional
            Rows to evaluate after every epoch.
        shuffle : bool, default True
            Whether every epoch takes the rows in a new order.
        progress : bool or "auto"
            "auto" shows a bar on a terminal.

        Returns
        -------
        History

        Raises
        ------
        ShapeError, ValueError, TypeError
            If an argument is invalid; the network is then unchanged.
        DivergedError
            If a loss, parameter or optimizer slot becomes infinite or NaN.
        KeyboardInterrupt
            After Ctrl-C; parameters and ``history`` are kept.

        Examples
        --------
        >>> from fastnn import SGD, Dense, Sequential
        >>> net = Sequential([Dense(1)])
        >>> history = net.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0], loss="mse",
        ...                   optimizer=SGD(0.1), epochs=200, batch_size=None, progress=False)
        >>> net.predict([[10.0]]).round(2)
        array([21.], dtype=float32)
        """
        optimizer = optimizers.get(optimizer)
        n_epochs = whole_number(epochs, "epochs")
        if batch_size is not None:
            batch_size = whole_number(batch_size, "batch_size")
        if progress not in (True, False, "auto"):
            raise ValueError(f"progress must be True, False or 'auto', not {progress!r}")
        if not isinstance(shuffle, bool | np.bool_):
            raise TypeError(f"shuffle must be True or False, not {shuffle!r}")
        engine, n_threads = engines.current(), engines.get_num_threads()
        X = check_features(X, self.n_inputs, self.dtype)
        loss_function, target = self._describe(y, len(X), loss)
        data = self._data(X, y, target, loss_function)
        data.weights = check_weights(sample_weight, len(X))
        data.batch_size = min(batch_size or len(X), len(X))
        valid = self._validation_data(validation_data, X.shape[1], target, loss_function)
        plan = self.lower(loss_function, X.shape[1])

        params, statistics = self._params, self._statistics
        if params is None:
            params, statistics = self._initial(plan)
        fit = run.prepare(
            self._prepared, self._state, engine, plan, params, statistics, optimizer,
            data.batch_size,
        )  # fmt: skip
        fit.begin(data, bool(shuffle), self.seed)
        validate = None
        if valid is not None:
            valid.batch_size = run.chunk_rows(plan, len(valid.X))
            ws = Workspace(plan, fit.ws.params, fit.ws.state, valid.batch_size)
            validate = functools.partial(run.metrics, engine, ws, valid, "val_")
        with Progress(progress, n_epochs * len(X)) as bar:
            if loss == "auto" and progress is not False and self._loss is None:
                tell(f"fastnn: loss='auto' is {loss_function.name} for these targets")
            history = History(loss_function.name, engine.name, n_threads, len(X))
            # Up to here the network is unchanged.
            self.history = history
            self.n_inputs, self._state, self._prepared = X.shape[1], fit.state, fit
            self._params, self._statistics = fit.ws.params, fit.ws.state
            self.set_fitted(loss_function, target)
            results = epochs_of(
                fit, n_epochs, shuffle=bool(shuffle), progress=bar, validate=validate
            )
            for epoch, values in enumerate(results):
                history.append(**values)
                bar.finish_epoch(epoch + 1, n_epochs, values)
        return history

    def _data(self, X, y, target: Target, loss: LossFunction, what: str = "y") -> Data:
        """X, which is checked already, and y in the form that engines read."""
        return make_data(
            X, y, self.n_outputs, target, loss.code, self.dtype, self.input_scale, what
        )

    def _describe(self, y, n_rows: int, loss) -> tuple[LossFunction, Target]:
        """The loss and the kind of targets; those of the last fit if the loss is the same."""
        if isinstance(loss, str) and loss == "auto":
            chosen = self._loss or losses.get(choose_loss(y, self.n_outputs).name)
        else:
            chosen = losses.get(loss)
        if self._target is not None and self._loss is not None and chosen.code == self._loss.code:
            return chosen, self._target
        return chosen, describe_target(y, n_rows, self.n_outputs, chosen.code)

    def _validation_data(self, validation, n_inputs, target, loss) -> Data | None:
        if validation is None:
            return None
        if not isinstance(validation, tuple | list) or len(validation) != 2:
            raise TypeError("validation_data must be a pair (X, y)")
        X = check_features(validation[0], n_inputs, self.dtype, "validation X")
        return self._data(X, validation[1], target, loss, "validation y")

    # -- prediction ---------------------------------------------------------------------------

    def _forward(self, X, loss: LossFunction | None, function: str) -> np.ndarray:
        params = self._built()
        X = check_features(X, self.n_inputs, self.dtype)
        out = np.empty((len(X), self.n_outputs), self.dtype)
        plan = self.lower(loss)
        data = Data(X, scale=self.input_scale, batch_size=run.chunk_rows(plan, len(X)))
        ws = self._idle.take(plan, params, self._statistics, data.batch_size)
        run.forward(engines.current(), ws, data, out, function)
        self._idle.put_back(ws)
        return out

    def logits(self, X) -> np.ndarray:
        """The output of the last layer, before sigmoid or softmax.

        Parameters
        ----------
        X : array_like, shape (m, n_inputs)

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
        X : array_like, shape (m, n_inputs)

        Returns
        -------
        ndarray, shape (m,) or (m, n_outputs)
            In the form of y in the fit. A network that was never fitted, but whose parameters
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
        if self._target.kind == "values":
            out = self._forward(X, self._loss, "output")
            return out[:, 0] if self._target.vector else out
        return self._target.decide(self.logits(X))

    def predict_proba(self, X) -> np.ndarray:
        """Probabilities, for the cross entropies.

        Parameters
        ----------
        X : array_like, shape (m, n_inputs)

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
            If the loss is not a cross entropy.
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
            raise NotFittedError("the network has not been trained: call fit first")
        if self._loss.code not in OUTPUT_OF:
            raise ValueError(
                f"predict_proba needs a cross entropy, but the loss is {self._loss.name}: "
                "use predict"
            )
        p = self._forward(X, self._loss, OUTPUT_OF[self._loss.code].name)
        if self.n_outputs == 1 and self._target.kind == "labels":
            return np.concatenate([1 - p, p], axis=1)
        return p

    @property
    def classes_(self) -> np.ndarray | None:
        return None if self._target is None else self._target.classes

    @np.errstate(all="ignore")
    def evaluate(self, X, y) -> dict[str, float]:
        """The loss of the last fit on other rows, and the accuracy of a classification.

        Parameters
        ----------
        X : array_like, shape (m, n_inputs)
        y : array_like, shape (m,) or (m, n_outputs)

        Returns
        -------
        dict
            ``{"loss": ...}``, with ``"accuracy"`` for classes.

        Raises
        ------
        NotFittedError
            Before fit.
        ShapeError, ValueError, TypeError
            If X or y does not fit the network, or y has a label that fit has not seen.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1)])
        >>> _ = net.fit([[0.0], [1.0]], ["no", "yes"], epochs=500, progress=False)
        >>> net.evaluate([[-1.0], [2.0]], ["no", "no"])["accuracy"]
        0.5
        """
        if self._loss is None or self._target is None:
            raise NotFittedError("the network has no loss yet: call fit first")
        X = check_features(X, self.n_inputs, self.dtype)
        data = self._data(X, y, self._target, self._loss)
        plan = self.lower(self._loss)
        data.batch_size = run.chunk_rows(plan, len(data.X))
        ws = self._idle.take(plan, self._built(), self._statistics, data.batch_size)
        values = run.metrics(engines.current(), ws, data)
        self._idle.put_back(ws)
        return values

    @np.errstate(all="ignore")
    def loss_and_grad(self, X, y, loss="auto", sample_weight=None) -> tuple[float, np.ndarray]:
        """The loss of all rows as one batch, and its gradient by backpropagation.

        Large batches run in pieces, so the memory is bounded for any number of rows.

        Parameters
        ----------
        X : array_like, shape (m, n_inputs)
        y : array_like, shape (m,) or (m, n_outputs)
        loss : str or loss, default "auto"
            As for :meth:`fit`; "auto" is the loss of the last fit if there was one.
        sample_weight : array_like, shape (m,), optional
            As for :meth:`fit`.

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
        loss_function, data = self._one_batch(X, y, loss, sample_weight)
        plan = self.lower(loss_function)
        data.batch_size = run.piece_rows(plan, len(data.X))
        params, rows = self._built(), data.batch_size
        ws = self._idle.take(plan, params, self._statistics, rows, total_rows=len(data.X))
        total, _ = run.loss_and_grad(engines.current(), ws, data)
        gradient = ws.grad.copy()
        self._idle.put_back(ws)
        return total / data.weight_sum if plan.mean else total, gradient

    def _one_batch(self, X, y, loss, sample_weight) -> tuple[LossFunction, Data]:
        """The arguments of a loss of all rows, checked."""
        self._built()
        X = check_features(X, self.n_inputs, self.dtype)
        loss_function, target = self._describe(y, len(X), loss)
        data = self._data(X, y, target, loss_function)
        data.weights = check_weights(sample_weight, len(X))
        return loss_function, data

    @np.errstate(all="ignore")
    def trace(self, X, y=None, loss="auto") -> dict[str, np.ndarray]:
        """All intermediate values of the forward pass and, given y, of the backward pass.

        The names are those of the study notes. The reference engine computes them as the notes do:
        a derivative with respect to z or a is that of the row's own loss, and the factor 1/m of a
        mean is in dW and db.

        Parameters
        ----------
        X : array_like, shape (m, n_inputs)
        y : array_like, shape (m,) or (m, n_outputs), optional
        loss : str or loss, default "auto"
            As for :meth:`fit`. The last layer includes the output function of a cross entropy.

        Returns
        -------
        dict
            For layer i ``"i.z"`` and ``"i.a"`` (m, units), and with y also ``"i.da"``,
            ``"i.dz"``, ``"i.dW"`` (n_in, units) and ``"i.db"`` (units,). A layer that is an
            activation has no z, dW and db; PReLU has ``"i.dalpha"``. The z of a Residual is its
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

        self._built()
        if y is None:
            X = check_features(X, self.n_inputs, self.dtype)
            data, loss_function = Data(X, scale=self.input_scale), self._loss
        else:
            loss_function, data = self._one_batch(X, y, loss, None)
        plan = self.lower(None if loss_function is None else loss_function)
        return trace(plan, self._built(), self._statistics, data, loss_function)

    def __getstate__(self):
        # Workspaces hold addresses of this process.
        return {**self.__dict__, "_idle": run.IdleWorkspaces(), "_prepared": None}


def tell(message: str) -> None:
    """Print a message to stderr, unless the process has none."""
    if sys.stderr is not None:
        print(message, file=sys.stderr)
