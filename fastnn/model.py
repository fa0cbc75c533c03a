"""Sequential: layers in, a trained network out."""

from __future__ import annotations

import functools
import sys

import numpy as np

from . import averages, engines, full_batch, interrupts, optimizers, run, schedules
from .averages import Averaging
from .checks import whole_number
from .engines.workspace import Data
from .errors import DivergedError
from .inference import Inference
from .run import Fit, TrainingState
from .training import History, Progress, value_names
from .training import train as train_in_steps
from .weights import weights_of_rows


class Sequential(Inference):
    """A feed-forward network: layers one after another.

    Parameters
    ----------
    layers : iterable of Layer
        From input to output; the units of the last :class:`Dense` or :class:`Maxout` are the
        outputs.
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
        batch_size="auto",
        *,
        sample_weight=None,
        class_weight=None,
        validation_data=None,
        shuffle=True,
        freeze=(),
        accumulate=1,
        ema=None,
        swa=None,
        progress="auto",
        schedule=None,
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
            A name of :mod:`fastnn.losses`, or an object such as ``CrossEntropy(0.1)`` or
            ``Custom(function)``; "auto" is inferred from y and reported.
        optimizer : str or Optimizer, default "adam"
        epochs : int, default 10
        batch_size : int, None or "auto", default "auto"
            Rows per step; "auto" is 32, or all rows for :class:`fastnn.LBFGS`. The last step of an
            epoch takes the remaining rows. 1 is stochastic descent, None takes all rows at once.
            Large batches run in pieces of bounded memory, unless the network has a BatchNorm.
        sample_weight : array_like, shape (m,), optional
            Weight of each row, at least 0: a mean becomes the weighted mean over the batch.
            Accuracies ignore the weights.
        class_weight : None, "balanced" or dict, optional
            A dict has a weight for each label (for each column's number if y is one-hot rows),
            which multiplies the sample weights of the rows of that class. "balanced" makes all
            classes count alike, as in scikit-learn: n_rows / (n_classes * rows of the class),
            where a row with a sample weight counts as so many rows. Validation and `evaluate` are
            not weighted.
        validation_data : tuple (X, y), optional
            Rows to evaluate after every epoch.
        shuffle : bool, default True
            Whether every epoch takes the rows in a new order.
        freeze : iterable of int or str, optional
            What stays as it is in this fit: layers by number or name ("2.0" inside a Residual), or
            parameters ("4.W"). Frozen layers also keep their max-norm weights and the running
            statistics of a BatchNorm, which still normalises by the batch; dropout and noise go
            on, and so do penalties in the loss. The backward pass ends at the lowest trained
            operation. The optimizer's state of what is frozen waits: a later fit without `freeze`
            continues with it.
        accumulate : int, default 1
            Batches per step: the gradient of a step is that of all their rows together, the
            (weighted) mean over the rows and not the mean of the batches' means. So it equals a
            batch of accumulate * batch_size rows, and is run as one, except where there is a
            BatchNorm: that normalises each of the small batches by its own statistics and moves
            the running ones with each. The last step of an epoch takes the batches that remain.
        ema : float or EMA, optional
            An exponential moving average of the weights, with this decay; see
            :class:`fastnn.EMA`.
        swa : int, float or SWA, optional
            The mean of the weights at the ends of epochs, from this epoch on (the first is 0) or
            after this fraction of the epochs; see :class:`fastnn.SWA`. The network has the average
            after the fit, unless EMA or SWA say otherwise.
        progress : bool or "auto"
            "auto" shows a bar on a terminal.
        schedule : Schedule, callable or array_like, optional
            Factors of the learning rate, one for each step: a schedule of
            :mod:`fastnn.schedules`, a function of the step, or a list. It begins with its step 0,
            unless the last fit had an equal one, whose steps are counted on; one that lasts a
            fit, such as ``Cosine()``, begins with each.

        Returns
        -------
        History

        Raises
        ------
        ShapeError, ValueError, TypeError
            If an argument is invalid; the network is then unchanged.
        DivergedError
            If a loss, parameter or optimizer slot becomes infinite or NaN.
        Exception
            Whatever a loss of your own raises; the parameters are those of the last complete step.
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
        _check_options(batch_size, shuffle, progress)
        accumulate = whole_number(accumulate, "accumulate")
        average = averages.get(ema, swa)
        engine, n_threads = engines.current(), engines.get_num_threads()
        X = self._features(X, self.n_inputs)
        loss_function, target = self._describe(y, len(X), loss)
        data = self._data(X, y, target, loss_function)
        data.weights = weights_of_rows(sample_weight, class_weight, data, target)
        batch_size = _rows_of_batch(batch_size, optimizer, len(X))
        data.batch_size = min(batch_size * accumulate, len(X))
        valid = self._validation_data(validation_data, X.shape[1], target, loss_function)
        plan = self.lower(loss_function, X.shape[1])
        if optimizer.full_batch:
            full_batch.check(plan, schedule, average, accumulate)

        params, statistics = self._params, self._statistics
        if params is None:
            params, statistics = self._initial(plan)
        small = run.small_batches(plan, batch_size, accumulate)
        data.separate = small is not None
        fit = run.prepare(
            self._prepared, self._state, engine, plan, params, statistics, optimizer,
            data.batch_size, freeze, small, average is not None,
        )  # fmt: skip
        schedule = None if schedule is None else schedules.get(schedule)
        names = value_names(data, valid is not None, average is not None)
        shuffles = bool(shuffle) and not optimizer.full_batch
        fit.begin(data, shuffles, self.seed, n_epochs, schedule, names)
        validate = None
        if valid is not None:
            valid.batch_size = run.chunk_rows(plan, len(valid.X))
            ws = self._idle.take(plan, params, statistics, valid.batch_size)
            engine.evaluate(ws, valid, np.zeros((0, 2)), 0, 0)  # binds its kernels
            validate = functools.partial(run.metrics, engine, ws, valid, "val_")
        averaging = None if average is None else Averaging(average, fit, n_epochs, valid)
        if averaging is not None and validate is not None:
            validate = functools.partial(averaging.validate, validate)
        bar = Progress(progress, n_epochs * len(X))
        arguments = {"progress": bar, "validate": validate}
        if optimizer.full_batch:
            train = functools.partial(full_batch.train, fit, n_epochs, **arguments)
        else:
            train = functools.partial(
                train_in_steps, fit, n_epochs, shuffle=bool(shuffle), **arguments
            )
        history = History(loss_function.name, engine.name, n_threads, len(X))
        if loss == "auto" and progress is not False and self._loss is None:
            tell(f"fastnn: loss='auto' is {loss_function.name} for these targets")

        # Up to here the network is unchanged.
        before = dict(self.__dict__)
        self.n_inputs, self._state, self._prepared = X.shape[1], fit.state, fit
        self._params, self._statistics, self.history = params, statistics, history
        self.set_fitted(loss_function, target)
        with bar:
            self._run(fit, train, bar, n_epochs, averaging, before)
        if valid is not None:
            self._idle.put_back(ws)
        return history

    def _run(
        self, fit: Fit, train, bar: Progress, n_epochs: int, averaging: Averaging | None,
        before: dict,
    ) -> None:  # fmt: skip
        """Run the epochs of a fit; if it fails before its first step, nothing of it remains.

        ``train(record)`` trains, and calls `record` with the values of each epoch.
        """
        history = self.history
        assert history is not None

        def record(values: dict[str, float]) -> None:
            history.append(**values)
            bar.finish_epoch(len(history["loss"]), n_epochs, values)

        try:
            if averaging is not None:
                averaging.begin()
            train(record)
        except (DivergedError, KeyboardInterrupt):  # as their documentation says
            raise
        except BaseException:
            if not fit.steps_done:
                if averaging is not None:
                    averaging.cancel()
                self.__dict__.clear()
                self.__dict__.update(before)
            raise
        finally:
            history.stopped = fit.stopped
            if averaging is not None:
                averaging.finish()
            history.threads_used = fit.threads_used  # self.history may be an earlier fit's again
            fit.release()

    def _validation_data(self, validation, n_inputs, target, loss) -> Data | None:
        if validation is None:
            return None
        if not isinstance(validation, tuple | list) or len(validation) != 2:
            raise TypeError("validation_data must be a pair (X, y)")
        X = self._features(validation[0], n_inputs, "validation X")
        return self._data(X, validation[1], target, loss, "validation y")

    def __getstate__(self):
        # A prepared fit holds addresses of this process.
        return {**super().__getstate__(), "_prepared": None}


#: Rows of a batch, if the user leaves it open.
_BATCH_SIZE = 32


def _rows_of_batch(batch_size, optimizer, n_rows: int) -> int:
    """The rows of a batch of a fit, from a checked `batch_size`."""
    if isinstance(batch_size, str):
        batch_size = None if optimizer.full_batch else _BATCH_SIZE
    if optimizer.full_batch and batch_size is not None and batch_size < n_rows:
        raise ValueError(
            f"{type(optimizer).__name__} takes all {n_rows} rows at once, but batch_size is "
            f"{batch_size}: leave it out, or use another optimizer such as 'adam'"
        )
    return n_rows if batch_size is None else min(int(batch_size), n_rows)


def _check_options(batch_size, shuffle, progress) -> None:
    if progress not in (True, False, "auto"):
        raise ValueError(f"progress must be True, False or 'auto', not {progress!r}")
    if not isinstance(shuffle, bool | np.bool_):
        raise TypeError(f"shuffle must be True or False, not {shuffle!r}")
    if batch_size is not None and not (isinstance(batch_size, str) and batch_size == "auto"):
        whole_number(batch_size, "batch_size")


def tell(message: str) -> None:
    """Print a message to stderr, unless the process has none."""
    if sys.stderr is not None:
        print(message, file=sys.stderr)
