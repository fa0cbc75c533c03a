"""Sequential: layers in, a trained network out."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import threading
import weakref
from typing import Self

import numpy as np

from . import interrupts, names, streams
from .epochs import Epochs
from .history import History
from .inference import Inference
from .preparation import prepare
from .run import Fit
from .settings import Settings
from .training_state import TrainingState


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
    penalties : {"full", "per_row"}, default "full"
        How a minibatch of m rows counts all penalties l1 and l2 beside the mean of its rows'
        losses: in full, or divided by m (by the sum of the weights) as scikit-learn's MLP does,
        which is one more row of weight 1.
    input_scale : float, default 1
        Factor of every element of X, applied as a batch is read, in training and prediction:
        with 1/255, images of bytes need neither a copy nor a conversion.

    Attributes
    ----------
    n_inputs, n_outputs : int
        Features and outputs.
    classes_ : ndarray or None
        The labels of a classification, sorted.
    feature_names_in_ : list of str or None
        The columns, if X was a data frame: another one must have the same in the same order.
    history, history_ : History or None
        History of the last fit, even if it was interrupted; and of all fits together.

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
    _past: History | None = None  # of all fits before the last one
    _prepared: Fit | None = None
    # Weak, so that a loop that is left ends its fit at once.
    _epochs: weakref.ref[Epochs] | None = None

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

    @property
    def history_(self) -> History | None:
        """The epochs of all fits one after another, each of which continued the one before.

        Values that some of the fits have not are NaN there.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1)])
        >>> for epochs in (3, 2):
        ...     _ = net.fit([[0.0], [1.0]], [0.0, 1.5], epochs=epochs, progress=False)
        >>> net.history.n_epochs, net.history_.n_epochs
        (2, 5)
        """
        past, last = self._past, self.history
        if past is None or last is None:
            return last
        return past.copy() if past.has(last) else past.copy().join(last)

    # -- training -----------------------------------------------------------------------------

    @interrupts.deferred
    @np.errstate(all="ignore")
    @names.hinted
    def fit(
        self,
        X,
        y=None,
        loss="auto",
        optimizer="adam",
        epochs=None,
        batch_size="auto",
        *,
        steps=None,
        seconds=None,
        rows=None,
        sample_weight=None,
        class_weight=None,
        classes=None,
        validation_data=None,
        validation_split=0.0,
        metrics=(),
        early_stopping=None,
        callbacks=(),
        shuffle=True,
        augment=None,
        freeze=(),
        accumulate=1,
        ema=None,
        swa=None,
        schedule=None,
        checkpoint=None,
        checkpoint_every=1,
        resume=False,
        initial_epoch=0,
        progress="auto",
    ) -> History:
        """Train by minibatch gradient descent, starting from the current parameters.

        A second call continues the first, including the optimizer's state and the sequence of
        shuffles: two fits of 5 epochs equal one of 10, bit for bit. The state is kept as long as
        the optimizer's rule is the same, such as with another learning rate.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (m, n_inputs), or iterable of batches
            Any real type. Integers, float16 and the other float are converted batch by batch,
            without a copy of X, which may be a file larger than memory (``np.memmap``). A sparse
            matrix of SciPy stays one: only a batch of it is ever dense, and the result is that of
            ``X.toarray()``, bit for bit; other formats than CSR are converted to it. Without y,
            an iterable whose items (X, y) or (X, y, sample_weight) are one step each, in this
            order: a list or a loader, a function that returns an iterator for each epoch, or one
            iterator, which serves one epoch.
        y : array_like, shape (m,) or (m, n_outputs)
            Labels of any type, or numbers.
        loss : str or loss, default "auto"
            A name of :mod:`fastnn.losses`, or an object such as ``CrossEntropy(0.1)`` or
            ``Custom(function)``. "auto" is that of the last fit or, in the first, inferred from y
            by the rule of scikit-learn's ``type_of_target`` and the number of outputs: with one
            output, two classes (text, booleans, at most two different whole numbers, also 0.0 and
            1.0) give binary_cross_entropy, other numbers mse; with several outputs, a column of
            labels or one-hot rows give cross_entropy, other rows of 0 and 1 binary_cross_entropy,
            other rows mse. ``history.loss_name`` says which it is, and so does logging.
        optimizer : str or Optimizer, default "adam"
        epochs : int, optional
            By default 10, unless `steps` or `seconds` is given. Of several limits the first that is
            reached ends the fit.
        batch_size : int, None or "auto", default "auto"
            Rows per step; "auto" is 32, or all rows for :class:`fastnn.LBFGS`. The last step of an
            epoch takes the remaining rows. 1 is stochastic descent, None takes all rows at once.
            Large batches run in pieces of bounded memory, unless the network has a BatchNorm.
        steps : int, optional
            Steps of the fit; the last epoch may then be incomplete.
        seconds : float, optional
            The fit ends after this time, at most a tenth of a second later. What needs to know the
            number of steps, such as ``Cosine()``, is refused if nothing else says it.
        rows : array_like of int or bool, optional
            The rows of X and y to train on; X is not copied.
        sample_weight : array_like, shape (m,), optional
            Weight of each row, at least 0: a mean becomes the weighted mean over the batch.
            Accuracies ignore the weights.
        class_weight : None, "balanced" or dict, optional
            A dict has a weight for each label (for each column's number if y is one-hot rows),
            which multiplies the sample weights of the rows of that class. "balanced" makes all
            classes count alike, as in scikit-learn: n_rows / (n_classes * rows of the class),
            where a row with a sample weight counts as so many rows. Validation and `evaluate` are
            not weighted.
        classes : array_like, optional
            All labels that y may hold, for where the rows of this fit, or the first of several
            batches, do not hold every one.
        validation_data : tuple (X, y), optional
            Rows to evaluate after every epoch.
        validation_split : float, default 0
            The fraction of the rows that is not trained on but evaluated after every epoch, drawn
            by the network's seed, with the same proportions of the classes.
        metrics : iterable of str, callable or Metric, optional
            What else is computed on the validation rows: see :mod:`fastnn.metrics`.
        early_stopping : int or EarlyStopping, optional
            A patience: the fit ends after so many epochs in which ``val_loss`` has not improved,
            and the network gets the parameters of the best one.
        callbacks : Callback, callable or iterable of them, optional
            Code that the fit calls; a function gets the training after every epoch. See
            :class:`fastnn.Callback`.
        shuffle : bool or callable, default True
            Whether every epoch takes the rows in a new order; or a function ``shuffle(epoch,
            n_rows)`` that returns the order: the numbers 0 to n_rows - 1, each once, of the rows
            that are trained on.
        augment : callable or list of them, optional
            ``augment(batch, rng)`` returns what is trained on instead of a batch: an array of the
            same shape and dtype. `batch` is a copy of its rows in the network's dtype, times
            `input_scale` or after the preprocessing layers, which may be changed; `rng` is a
            ``numpy.random.Generator`` that depends on (seed, epoch, batch) alone. An object with
            ``augment_pairs(X, y, rng)`` returns (X, y), where y are rows of numbers: labels are
            one-hot. Several are applied in order. They should depend on nothing else, since they
            may be called ahead in another thread.
            Validation rows stay as they are. See :mod:`fastnn.augmentation`.
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
        schedule : Schedule, callable or array_like, optional
            Factors of the learning rate, one for each step: a schedule of
            :mod:`fastnn.schedules`, a function of the step, or a list. It begins with its step 0,
            unless the last fit had an equal one, whose steps are counted on; one that lasts a
            fit, such as ``Cosine()``, begins with each.
        checkpoint : str or path, optional
            A file that is written before the first step, then every `checkpoint_every`, at the end
            and after Ctrl-C. A file that exists is replaced, whole or not at all. If it cannot be
            written before the first step, the fit is refused; later a RuntimeWarning says so, and
            the last checkpoint stays. Not for :class:`fastnn.LBFGS`.
        checkpoint_every : int or str, default 1
            Epochs, or seconds as in "60s": then also in the middle of an epoch.
        resume : bool, default False
            Whether to go on from the checkpoint, if the file exists. The same call on a new network
            of the same layers then ends with the same bits as if nothing had interrupted it:
            parameters, optimizer, averages, early stopping, and the history but for its seconds. If
            the fit of the file is complete, its result is returned at once; so it is if `seconds`,
            early stopping or a callback has ended it, even if there is more time now. Only
            `epochs`, `seconds`, `checkpoint_every`, `progress` and callbacks without a state may be
            others, and `epochs` only if nothing depends on their number, as ``Cosine()`` does.
            Functions are known by their names alone, and X by a thousand of its rows.
        initial_epoch : int, default 0
            The number of the first epoch; `epochs` counts from 0.
        progress : bool or "auto"
            "auto" shows a bar on a terminal.

        Returns
        -------
        History

        Raises
        ------
        ShapeError, ValueError, TypeError
            If an argument is invalid; the network is then unchanged.
        CheckpointError
            If a checkpoint is damaged, or that of another fit; the network is then unchanged.
        OSError
            If no checkpoint can be read or, before the first step, written; the network is then
            unchanged.
        DivergedError
            If a loss, parameter or optimizer slot becomes infinite or NaN.
        Exception
            Whatever a loss or an augmentation of your own raises; the parameters are those of the
            last complete step.
        KeyboardInterrupt
            After Ctrl-C; parameters and ``history`` are kept.

        Warns
        -----
        FitWarning
            Once for each network: if columns of X or y call for scaling, a gradient is zero
            everywhere, or the network comes from a file without its state of training.

        Examples
        --------
        >>> from fastnn import SGD, Dense, Sequential
        >>> net = Sequential([Dense(1)])
        >>> history = net.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0], loss="mse",
        ...                   optimizer=SGD(0.1), epochs=200, batch_size=None, progress=False)
        >>> net.predict([[10.0]]).round(2)
        array([21.], dtype=float32)
        """
        arguments = locals()
        epochs_of_fit = self._start(**{k: v for k, v in arguments.items() if k != "self"})
        epochs_of_fit.training.unwatched_until = math.inf
        try:
            for _ in epochs_of_fit:
                pass
        finally:
            epochs_of_fit.close()
        return epochs_of_fit.training.history

    @functools.wraps(fit, assigned=("__annotations__",))
    @interrupts.deferred
    def epochs(self, X, y=None, *arguments, **options) -> Epochs:
        """Train like :meth:`fit`, but as an iterator: each ``next`` trains one epoch.

        Between two epochs the body of the loop may do what a callback may: look at the network,
        change its parameters or the learning rate, and end the fit by leaving the loop. The network
        then keeps what it has.

        Parameters
        ----------
        X, y, loss, optimizer, ...
            All arguments of :meth:`fit`. They are checked when this is called.

        Returns
        -------
        Epochs
            An iterator of dicts, each with the values that the epoch has in the history, and with
            the attribute ``training``, the running fit: ``training.lr_factor``,
            ``training.history``, and what else :class:`fastnn.Callback` says.

        Raises
        ------
        ValueError
            For :class:`fastnn.LBFGS`, which cannot wait between its iterations: use callbacks.
        RuntimeError
            In ``next``, if another fit of the network has begun since.
        Exception
            All that :meth:`fit` raises.

        Examples
        --------
        >>> from fastnn import SGD, Dense, Sequential
        >>> net = Sequential([Dense(1)])
        >>> X, y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]
        >>> for epoch in net.epochs(X, y, loss="mse", optimizer=SGD(0.1), epochs=1000,
        ...                         progress=False):
        ...     if epoch["loss"] < 1e-3:
        ...         break
        >>> net.history.n_epochs < 1000
        True
        """
        parameters = inspect.signature(Sequential.fit)
        names.check_arguments("epochs", options, tuple(parameters.parameters)[1:])
        bound = parameters.bind(self, X, y, *arguments, **options)
        given = {name: value for name, value in bound.arguments.items() if name != "self"}
        epochs_of_fit = self._start(**given)
        if epochs_of_fit.training.settings.optimizer.full_batch:
            raise ValueError(
                "LBFGS runs inside SciPy and cannot wait between its iterations: use fit, with "
                "callbacks for what the body of the loop should do"
            )
        return epochs_of_fit

    def partial_fit(self, X, y=None, classes=None, **options) -> Self:
        """Train one epoch on some rows, as scikit-learn's estimators do: go on where training is.

        It is :meth:`fit` of one epoch whose loss, optimizer and schedule are those of the last fit,
        unless they are given. So n calls with the same rows equal ``fit(X, y, epochs=n)``, and
        calls with one part of the rows after another, each with ``batch_size=None``, equal
        ``fit`` on an iterable of these parts, bit for bit (but for schedules that count epochs, and
        penalties of a loss that is a sum).

        Parameters
        ----------
        X : array_like or sparse matrix, shape (m, n_inputs), or iterable of batches
        y : array_like, shape (m,) or (m, n_outputs)
        classes : array_like, optional
            All labels that y may hold in this and later calls; without it those of the first y.
        **options
            All other arguments of :meth:`fit`, but for `epochs`, `steps`, `seconds` and
            `initial_epoch`. There is no progress bar by default, and a schedule that lasts a fit
            has ended with it.

        Returns
        -------
        Sequential
            The network; ``history`` is that of this epoch.

        Raises
        ------
        TypeError
            If an option says how long the fit is.
        Exception
            All that :meth:`fit` raises.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1)])
        >>> for X, y in [([[0.0], [1.0]], ["a", "a"]), ([[3.0], [4.0]], ["b", "b"])] * 300:
        ...     _ = net.partial_fit(X, y, classes=["a", "b"])
        >>> net.predict([[0.0], [4.0]])
        array(['a', 'b'], dtype='<U1')
        """
        for name in ("epochs", "steps", "seconds", "initial_epoch"):
            if name in options:
                raise TypeError(f"partial_fit trains one epoch: leave out {name}, or call fit")
        last = self._state
        if last is not None:
            options.setdefault("optimizer", last.optimizer)
            progress = last.progress
            if progress is not None and not progress.schedule.lasts_a_fit:
                options.setdefault("schedule", progress.schedule)
        options.setdefault("progress", False)
        self.fit(X, y, classes=classes, epochs=1, **options)
        return self

    @np.errstate(all="ignore")
    def step(self, gradient, optimizer="adam", freeze=()) -> None:
        """One step of an optimizer with a gradient of your own, as a fit makes it.

        For training loops on :meth:`loss_and_grad`, or on any other gradient. The optimizer's state
        is kept from step to step as between two fits, and a fit that follows continues it. A loop
        of these steps equals `fit` on the same batches, bit for bit, but for the running statistics
        of a BatchNorm, which only a fit moves. :meth:`set_targets` tells the network the rest of
        what a fit would.

        Parameters
        ----------
        gradient : array_like, shape (number of parameters,)
            In the order of ``flat_params``. Penalties of the layers are in that of
            :meth:`loss_and_grad`; weight decay and clipping are the optimizer's.
        optimizer : str or Optimizer, default "adam"
            With the same one as in the last step or fit, its state goes on.
        freeze : iterable of int or str, optional
            As for :meth:`fit`.

        Raises
        ------
        NotFittedError
            If the number of features is not known yet.
        ShapeError, ValueError, TypeError
            If the gradient does not fit or is not finite, or for :class:`fastnn.LBFGS`.
        DivergedError
            If a parameter would become infinite or NaN; the parameters are then unchanged.

        Examples
        --------
        >>> from fastnn import SGD, Dense, Sequential
        >>> X, y = [[0.0], [1.0]], ["no", "yes"]
        >>> net = Sequential([Dense(1)], n_inputs=1).set_targets(y)
        >>> for i in range(100):
        ...     loss, gradient = net.loss_and_grad(X, y, step=i)
        ...     net.step(gradient, optimizer=SGD(1.0, momentum=0.9))
        >>> net.predict([[-1.0], [2.0]])
        array(['no', 'yes'], dtype='<U3')
        """
        from .stepping import step

        with self._alone():
            step(self, gradient, optimizer, freeze)

    @contextlib.contextmanager
    def _alone(self):
        """End a fit that waits between two epochs, and let no other begin."""
        with self.__dict__.setdefault("_preparing", threading.RLock()):
            other = None if self._epochs is None else self._epochs()
            if other is not None:
                other.give_way()
            self._epochs = None
            yield

    def _start(self, X, y=None, **options) -> Epochs:
        """Prepare a fit; another one that waits between two epochs is ended."""
        settings = Settings(**options)
        with self._alone():
            source = streams.of(X, y, options)
            try:
                if source is not None:
                    settings = Settings(**source.options)
                epochs_of_fit = Epochs(prepare(self, X, y, settings, source))
            except BaseException:
                if source is not None:
                    source.close()
                raise
            self._epochs = weakref.ref(epochs_of_fit)
        return epochs_of_fit

    def __getstate__(self):
        # A prepared fit holds addresses of this process.
        own = {"_prepared": None, "_epochs": None}
        return {k: v for k, v in (super().__getstate__() | own).items() if k != "_preparing"}
