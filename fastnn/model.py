"""Sequential: layers in, a trained network out."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import numpy as np

from . import engines, layers, losses, optimizers
from .checks import real_number, whole_number
from .engines.tables import SLOTS
from .engines.workspace import Data, Workspace, aligned_zeros
from .errors import ModelFileError, NotFittedError, ShapeError
from .layers import Activation, Dense, Layer
from .losses import LossFunction
from .plan import OUTPUT_OF, Lowering, Plan
from .random import check_seed
from .targets import (
    Target,
    check_features,
    check_weights,
    choose_loss,
    describe_target,
    make_data,
)
from .training import History, Progress, TrainingState, train

#: Elements of workspace that a chunk of rows takes in bulk prediction, and its least rows: this
#: bounds the memory, stays near the caches, and gives every thread enough to do.
CHUNK_ELEMENTS, CHUNK_ROWS = 1 << 19, 1024


class Sequential:
    """A feed-forward network: layers one after another.

    Parameters
    ----------
    layers : iterable of Layer
        Bottom to top; the last :class:`Dense` has the outputs as units.
    n_inputs : int, optional
        Number of features; left out, it is told from the first fit.
    seed : int or None, default 0
        Initial weights and shuffles follow from it, so equal seeds give equal networks, bit for
        bit. None draws a seed, which then stands in ``seed``.
    dtype : {"float32", "float64"}
        Type of the parameters and of all arithmetic.
    l1, l2 : float, default 0
        Penalties on the weights of all layers, l1 sum |W| + l2 sum W^2, beside what a layer has
        of its own.
    input_scale : float, default 1
        Every element of X is multiplied by it as a batch is read, in training and prediction:
        with 1/255, images of bytes need neither a copy nor another type.

    Attributes
    ----------
    n_inputs, n_outputs : int
        Features and outputs.
    classes_ : ndarray or None
        The labels of a classification, sorted.
    history : History or None
        Of the last fit, also of one that was interrupted.

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

    def __init__(
        self, layers: Iterable[Layer], n_inputs=None, seed=0, dtype="float32", l1=0, l2=0,
        input_scale=1.0,
    ):  # fmt: skip
        self.layers = _check_layers(layers)
        self.seed = check_seed(seed)
        self.dtype = _check_dtype(dtype)
        self.l1 = real_number(l1, "l1", least=0)
        self.l2 = real_number(l2, "l2", least=0)
        self.input_scale = _check_scale(input_scale, self.dtype)
        self.n_inputs: int | None = None
        self.n_outputs: int = [n.units for n in self.layers if isinstance(n, Dense)][-1]
        self.history: History | None = None
        self._params: np.ndarray | None = None
        self._loss: LossFunction | None = None
        self._target: Target | None = None
        self._state: TrainingState | None = None
        self._plans: dict[LossFunction | None, Plan] = {}
        self._idle_workspaces: list[Workspace] = []
        if n_inputs is not None:
            self._build(whole_number(n_inputs, "n_inputs"))

    # -- parameters ---------------------------------------------------------------------------

    def _build(self, n_inputs: int) -> None:
        """Lay out and initialise the parameters."""
        self.n_inputs = n_inputs
        self._params = self._initial_params()

    def _initial_params(self) -> np.ndarray:
        plan = self._lower(None)
        params = self._allocate(plan)
        for block, parameter in enumerate(plan.parameters):
            layer = self.layers[parameter.layer]
            parameter.view(params)[:] = layer.initial(parameter, self.seed, block)
        return params

    def _allocate(self, plan: Plan) -> np.ndarray:
        try:
            return aligned_zeros(plan.n_params, self.dtype)
        except (MemoryError, ValueError, OverflowError):
            size = plan.n_params * self.dtype.itemsize / 2**30
            raise ValueError(
                f"the network has {plan.n_params} parameters, {size:,.1f} GiB, which cannot be "
                "allocated: make the layers smaller"
            ) from None

    def _lower(self, loss: LossFunction | None) -> Plan:
        """The plan for a loss; the layout of the parameters is the same for all."""
        plan = self._plans.get(loss)
        if plan is None:
            assert self.n_inputs is not None
            lowering = Lowering(self.n_inputs, self.l1, self.l2)
            for index, layer in enumerate(self.layers):
                layer.lower(lowering, index)
            code = None if loss is None else loss.code
            smoothing = 0.0 if loss is None else loss.label_smoothing
            plan = self._plans[loss] = lowering.finish(code, smoothing)
        return plan

    def _built(self) -> np.ndarray:
        if self._params is None:
            raise NotFittedError(
                "the network has no parameters yet: call fit, or give n_inputs to Sequential"
            )
        return self._params

    @property
    def plan(self) -> Plan:
        """The table that the engines execute, with the loss of the last fit if there was one.

        Raises
        ------
        NotFittedError
            If the number of features is not known yet.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1, init="zeros")], n_inputs=2)
        >>> print(net.plan)
        plan: 2 -> 1, 3 parameters, 5 workspace elements per row of a batch
        row  operation  shape   reads  parameters     writes  backward
        0    dense      2 -> 1  input  W[0:2] b[2:3]  a0      dW db
        """
        self._built()
        return self._lower(self._loss)

    @property
    def flat_params(self) -> np.ndarray:
        """All parameters as one vector; writing into it or assigning to it changes the network.

        Raises
        ------
        NotFittedError
            If the number of features is not known yet.
        ShapeError, ValueError, TypeError
            If what is assigned has another shape or is not finite.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1, init="zeros")], n_inputs=2)
        >>> net.flat_params = [1, 2, 3]
        >>> net.logits([[10, 100]])
        array([[213.]], dtype=float32)
        """
        return self._built()

    @flat_params.setter
    def flat_params(self, values) -> None:
        params = self._built()
        values = np.asarray(values)
        if values.shape != params.shape:
            raise ShapeError(
                f"flat_params has the shape {params.shape}, but {values.shape} was assigned"
            )
        if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
            raise ValueError("flat_params must be finite real numbers")
        params[:] = values

    def parameters(self) -> dict[str, np.ndarray]:
        """Every parameter by name, as a writable view.

        Returns
        -------
        dict
            ``"0.W"`` (n_in, n_out) and ``"0.b"`` (n_out,) for the first layer, and so on.

        Raises
        ------
        NotFittedError
            If the number of features is not known yet.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1, init="zeros")], n_inputs=2)
        >>> net.parameters()["0.b"][:] = 7
        >>> net.flat_params
        array([0., 0., 7.], dtype=float32)
        """
        params = self._built()
        return {p.name: p.view(params) for p in self._lower(None).parameters}

    def summary(self) -> None:
        """Print the layers with their shapes and numbers of parameters.

        Raises
        ------
        NotFittedError
            If the number of features is not known yet.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> Sequential([Dense(15, "sigmoid"), Dense(10)], n_inputs=784).summary()
        inputs 784, float32, seed 0
          0  Dense(15, 'sigmoid')           11,775 parameters
          1  Dense(10)                         160 parameters
             together                       11,935 parameters
        """
        params = self._built()
        sizes = [0] * len(self.layers)
        for parameter in self._lower(None).parameters:
            sizes[parameter.layer] += parameter.size
        print(f"inputs {self.n_inputs}, {self.dtype.name}, seed {self.seed}")
        for index, (layer, size) in enumerate(zip(self.layers, sizes, strict=True)):
            print(f"{index:>3}  {layer!r:<24} {size:>12,} parameters")
        print(f"     {'together':<24} {params.size:>12,} parameters")

    def __repr__(self) -> str:
        inputs = "" if self.n_inputs is None else f", n_inputs={self.n_inputs}"
        penalties = "".join(
            f", {name}={value:g}" for name, value in (("l1", self.l1), ("l2", self.l2)) if value
        )
        scale = "" if self.input_scale == 1 else f", input_scale={self.input_scale!r}"
        rest = f"seed={self.seed}, dtype='{self.dtype}'{penalties}{scale}"
        return f"Sequential({self.layers!r}{inputs}, {rest})"

    # -- training -----------------------------------------------------------------------------

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
        """Train by minibatch gradient descent, from the present parameters on.

        A second call with an equal optimizer goes on where the first one stopped, memory of the
        optimizer and shuffles included: two fits of 5 epochs are one of 10, bit for bit.

        Parameters
        ----------
        X : array_like, shape (m, n_inputs)
            Any real type. Integers, float16 and the other float are converted batch by batch,
            without a copy of X.
        y : array_like, shape (m,) or (m, n_outputs)
            Labels of any type, or numbers.
        loss : str or loss, default "auto"
            A name of :mod:`fastnn.losses`, or an object such as ``CrossEntropy(0.1)``; "auto" is
            told from y and says so.
        optimizer : str or Optimizer, default "adam"
        epochs : int, default 10
        batch_size : int or None, default 32
            Rows per step; the last step of an epoch takes what is left. 1 is stochastic
            descent, None takes all rows at once.
        sample_weight : array_like, shape (m,), optional
            How much each row counts, at least 0: a mean becomes the weighted mean over the
            batch. Accuracies stay shares of the rows.
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
            If an argument does not fit; the network is then unchanged.
        DivergedError
            If the loss becomes infinite or not a number.
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
        epochs = whole_number(epochs, "epochs")
        if batch_size is not None:
            batch_size = whole_number(batch_size, "batch_size")
        if progress not in (True, False, "auto"):
            raise ValueError(f"progress must be True, False or 'auto', not {progress!r}")
        if not isinstance(shuffle, bool | np.bool_):
            raise TypeError(f"shuffle must be True or False, not {shuffle!r}")
        engine = engines.current()
        X = check_features(X, self.n_inputs, self.dtype)
        loss_function, target = self._describe(y, len(X), loss)
        data = self._data(X, y, target, loss_function)
        data.weights = check_weights(sample_weight, len(X))
        data.batch_size = min(batch_size or len(X), len(X))
        valid = self._validation_data(validation_data, X.shape[1], target, loss_function)
        self._check_output(loss_function)
        if self._params is None:
            self._build(X.shape[1])
        plan = self._lower(loss_function)
        if loss == "auto" and progress is not False and self._loss is None:
            name = loss_function.name
            print(f"fastnn: loss='auto' takes {name} for these targets", file=sys.stderr)

        self._loss, self._target = loss_function, target
        ws = Workspace(plan, self._built(), data.batch_size, SLOTS[optimizer.rule])
        if self._state is not None and self._state.optimizer == optimizer:
            ws.slots[:] = self._state.slots
            state = TrainingState(optimizer, ws.slots, self._state.step, self._state.epoch)
        else:
            epoch = 0 if self._state is None else self._state.epoch
            state = TrainingState(optimizer, ws.slots, epoch=epoch)
        self._state = state
        self.history = History(loss_function.name, engine.name, engines.get_num_threads(), len(X))
        with Progress(progress, epochs * len(X)) as bar:
            train(
                engine, ws, state, data, self.history, seed=self.seed, epochs=epochs,
                shuffle=bool(shuffle), progress=bar,
                validate=valid and (lambda: self._evaluate(engine, valid, "val_")),
            )  # fmt: skip
        return self.history

    def _data(self, X, y, target: Target, loss: LossFunction, what: str = "y") -> Data:
        """X, already checked, and y as engines read them."""
        return make_data(
            X, y, self.n_outputs, target, loss.code, self.dtype, self.input_scale, what
        )

    def _check_output(self, loss: LossFunction) -> None:
        """Refuse a loss that does not go with the last activation, before anything is changed."""
        lowering = Lowering(1)
        for index, layer in enumerate(self.layers):
            layer.lower(lowering, index)
        lowering.finish(loss.code)

    def _describe(self, y, n_rows: int, loss) -> tuple[LossFunction, Target]:
        """The loss and the kind of targets: those of the last fit where they are still meant."""
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
        self._built()
        X = check_features(X, self.n_inputs, self.dtype)
        out = np.empty((len(X), self.n_outputs), self.dtype)
        plan = self._lower(loss)
        data = Data(X, scale=self.input_scale, batch_size=_chunk(plan, len(X)))
        ws = self._workspace(plan, data.batch_size)
        engines.current().forward(ws, data, out, function)
        self._idle_workspaces.append(ws)
        return out

    def _workspace(self, plan: Plan, rows: int, gradient: bool = False) -> Workspace:
        """A workspace that no other thread is using, to be put back among the idle ones."""
        params = self._built()
        try:
            ws = self._idle_workspaces.pop()
        except IndexError:
            ws = None
        fits = ws is not None and ws.plan is plan and ws.params is params and ws.capacity >= rows
        if ws is None or not fits or (gradient and not ws.grad.size):
            ws = Workspace(plan, params, rows, 0 if gradient else None)
        return ws

    def logits(self, X) -> np.ndarray:
        """The output of the last layer, before sigmoid or softmax.

        Parameters
        ----------
        X : array_like, shape (m, n_inputs)

        Returns
        -------
        ndarray, shape (m, n_outputs), of the network's dtype
            Row i depends on row i of X alone, to the last bit.

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
        """Labels as they were given to fit, or values.

        Parameters
        ----------
        X : array_like, shape (m, n_inputs)

        Returns
        -------
        ndarray, shape (m,) or (m, n_outputs)
            In the form of the y of the fit. A network that was never fitted, but whose
            parameters have been set, gives the outputs of its last layer.

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
            if self._params is None or np.array_equal(self._params, self._initial_params()):
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
        return self._evaluate(engines.current(), data)

    def _evaluate(self, engine, data: Data, prefix: str = "") -> dict[str, float]:
        assert self._loss is not None
        plan = self._lower(self._loss)
        data.batch_size = _chunk(plan, len(data.X))
        ws = self._workspace(plan, data.batch_size)
        loss, right = engine.evaluate(ws, data)
        self._idle_workspaces.append(ws)
        values = {f"{prefix}loss": float(loss / data.mass if plan.mean else loss)}
        if data.hits:
            values[f"{prefix}accuracy"] = float(right / len(data.X))
        return values

    def loss_and_grad(self, X, y, loss="auto", sample_weight=None) -> tuple[float, np.ndarray]:
        """The loss of all rows as one batch, and its gradient by backpropagation.

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
        plan = self._lower(loss_function)
        ws = self._workspace(plan, len(data.X), gradient=True)
        total = engines.current().loss_and_grad(ws, data)
        gradient = ws.grad.copy()
        self._idle_workspaces.append(ws)
        return float(total / data.mass if plan.mean else total), gradient

    def _one_batch(self, X, y, loss, sample_weight) -> tuple[LossFunction, Data]:
        """The arguments of a loss of all rows, checked."""
        self._built()
        X = check_features(X, self.n_inputs, self.dtype)
        loss_function, target = self._describe(y, len(X), loss)
        data = self._data(X, y, target, loss_function)
        data.weights = check_weights(sample_weight, len(X))
        return loss_function, data

    def trace(self, X, y=None, loss="auto") -> dict[str, np.ndarray]:
        """Every intermediate of the study notes by name, forwards and, given y, backwards.

        It is computed by the reference engine, row by row as in the notes: a derivative by z or
        a is that of the row's own loss, and the 1/m of the mean stands in dW and db.

        Parameters
        ----------
        X : array_like, shape (m, n_inputs)
        y : array_like, shape (m,) or (m, n_outputs), optional
        loss : str or loss, default "auto"
            As for :meth:`fit`. A cross entropy's output function counts to the last layer.

        Returns
        -------
        dict
            For layer i ``"i.z"`` and ``"i.a"`` (m, units), and with y also ``"i.da"``,
            ``"i.dz"``, ``"i.dW"`` (n_in, units) and ``"i.db"`` (units,). A layer that is an
            activation has no z, dW and db. The derivative by X is never computed.

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
            return trace(
                self._lower(None), self._built(), Data(X, scale=self.input_scale), self._loss
            )
        loss_function, data = self._one_batch(X, y, loss, None)
        self._lower(loss_function)
        return trace(self._lower(None), self._built(), data, loss_function)

    # -- files --------------------------------------------------------------------------------

    def save(self, path) -> None:
        """Write the network to a safetensors file: parameters, layers, loss and labels.

        The file is replaced only once the new one is complete.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        NotFittedError
            If the number of features is not known yet.
        OSError
            If the file cannot be written; an older one is then untouched.
        TypeError
            If the labels are neither text nor numbers.

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
        from . import files

        self._built()
        target = self._target
        description: dict = {
            "layers": [layer.config() for layer in self.layers],
            "n_inputs": self.n_inputs,
            "seed": self.seed,
            "dtype": self.dtype.name,
            "l1": self.l1,
            "l2": self.l2,
            "input_scale": self.input_scale,
            "loss": None if self._loss is None else self._loss.config(),
            "target": None,
        }
        if target is not None:
            description["target"] = {
                "kind": target.kind,
                "vector": target.vector,
                "classes": None if target.classes is None else _plain(target.classes),
                "classes_dtype": None if target.classes is None else target.classes.dtype.str,
            }
        files.write(path, self.parameters(), description)

    def __getstate__(self):
        # Workspaces hold addresses of this process; parameters are views that must be laid anew.
        return {**self.__dict__, "_idle_workspaces": []}


def _chunk(plan: Plan, n_rows: int) -> int:
    """Rows of a chunk in bulk prediction."""
    return min(max(CHUNK_ROWS, CHUNK_ELEMENTS // plan.per_sample), n_rows)


def load(path) -> Sequential:
    """Read a network that :meth:`Sequential.save` wrote.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    Sequential
        With equal parameters, bit for bit.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If the file is truncated, damaged, or not a model of fastnn.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.load("no such file")
    Traceback (most recent call last):
    FileNotFoundError: there is no model file 'no such file'
    """
    from . import files

    tensors, about = files.read(path)
    try:
        net = Sequential(
            [layers.from_config(config) for config in about["layers"]],
            seed=about["seed"], dtype=about["dtype"],
            l1=about.get("l1", 0), l2=about.get("l2", 0),
            input_scale=about.get("input_scale", 1.0),
        )  # fmt: skip
        net.n_inputs = whole_number(about["n_inputs"], "n_inputs")
        plan = net._lower(None)
        shapes = {parameter.name: parameter.shape for parameter in plan.parameters}
        for name in shapes.keys() | tensors.keys():
            if tensors[name].shape != shapes[name] or tensors[name].dtype != net.dtype:
                raise ValueError(f"{name} has another shape or type than the layers say")
        net._params = net._allocate(plan)
        for name, view in net.parameters().items():
            view[:] = tensors[name]
        if about["loss"] is not None:
            net._loss = losses.from_config(about["loss"])
            net._target = _read_target(about["target"])
            net._lower(net._loss)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelFileError(
            f"{str(path)!r} is damaged, or written by another program: {error}"
        ) from error
    return net


def _plain(classes: np.ndarray) -> list:
    """Labels as JSON can hold them; bytes become text of equal code points."""
    plain = [c.decode("latin-1") if isinstance(c, bytes) else c for c in classes.tolist()]
    for label in plain:
        if not isinstance(label, str | int | float):
            raise TypeError(
                f"labels of type {type(label).__name__} cannot be written to a file: "
                "fit on text or numbers"
            )
    return plain


def _read_target(about: dict) -> Target:
    classes = about["classes"]
    if classes is not None:
        dtype = np.dtype(about["classes_dtype"])
        if dtype.kind == "S":
            classes = [c.encode("latin-1") for c in classes]
        classes = np.array(classes, dtype=dtype)
    return Target(about["kind"], classes, bool(about["vector"]))


def _check_layers(given) -> list[Layer]:
    if isinstance(given, Layer):
        given = [given]
    try:
        found = list(given)
    except TypeError:
        raise TypeError(f"layers must be a list of layers, not {given!r}") from None
    for layer in found:
        if not isinstance(layer, Layer):
            hint = f": write {layer.__name__}(...)" if isinstance(layer, type) else ""
            raise TypeError(f"layers must be layers such as Dense(10), not {layer!r}{hint}")
    if not found:
        raise ValueError("a network needs at least one layer")
    top = found
    while top and isinstance(top[-1], Activation):
        top = top[:-1]
    if not top or not isinstance(top[-1], Dense):
        raise ValueError(
            f"the last layer must be Dense (or activations after it), not {found[-1]!r}"
        )
    return found


def _check_scale(scale, dtype) -> float:
    scale = real_number(scale, "input_scale")
    with np.errstate(over="ignore", under="ignore"):
        as_used = dtype.type(scale)
    if as_used == 0 or not np.isfinite(as_used):
        raise ValueError(
            f"input_scale must be a number that {dtype.name} can hold, and not 0, but it is {scale}"
        )
    return scale


def _check_dtype(dtype) -> np.dtype:
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found not in (np.float32, np.float64):
        raise ValueError(f"dtype must be 'float32' or 'float64', not {dtype!r}")
    return found
