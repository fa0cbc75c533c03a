"""Network: layers, arguments and parameters, and lowering them into a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self

import numpy as np

from .checks import check_dtype, check_scale, is_finite, real_number, whole_number
from .custom_loss import Custom
from .described import Public
from .engines.csr import CSR
from .engines.workspace import aligned_zeros
from .errors import NotFittedError, ShapeError
from .features import check_features, check_names, names_of
from .layers import Embedding, Layer, check_network, from_config
from .losses import LossFunction
from .ops.loss import lower as lower_loss
from .plan import Lowering, Plan
from .preprocessing.chain import Chain
from .random import check_seed
from .targets import Target
from .training_state import TrainingState

#: Default values of arguments; the repr leaves these out.
_DEFAULTS = {"n_inputs": None, "l1": 0, "l2": 0, "penalties": "full", "input_scale": 1}

#: How many plans a network keeps: each new function of a user is a new loss.
_MOST_PLANS = 32


class Network(metaclass=Public, hides=("adopt", "build", "lower", "set_fitted")):
    """Base of :class:`fastnn.Sequential`, which documents the arguments."""

    feature_names_in_: list[str] | None = None
    _state: TrainingState | None = None

    def __init__(
        self, layers: Iterable[Layer], n_inputs=None, seed=0, dtype="float32", l1=0, l2=0,
        penalties="full", input_scale=1.0,
    ):  # fmt: skip
        if isinstance(n_inputs, Layer):
            more = ", ..." if isinstance(seed, Layer) else ""
            raise TypeError(
                "Sequential takes its layers as one list: write "
                f"Sequential([{layers!r}, {n_inputs!r}{more}])"
            )
        self.layers = check_network(layers)
        self.seed = check_seed(seed)
        self.dtype = check_dtype(dtype)
        self.l1 = real_number(l1, "l1", least=0)
        self.l2 = real_number(l2, "l2", least=0)
        if not isinstance(penalties, str) or penalties not in ("full", "per_row"):
            raise ValueError(f"penalties must be 'full' or 'per_row', not {penalties!r}")
        self.penalties = penalties
        self.input_scale = check_scale(input_scale, self.dtype)
        self._chain = Chain(self.layers, self.dtype)
        if len(self._chain) and self.input_scale != 1:
            raise ValueError(
                f"input_scale must be 1 with {self.layers[0]!r}: use Rescale({self.input_scale}) "
                "before it"
            )
        if isinstance(self.layers[0], Embedding) and self.input_scale != 1:
            raise ValueError(
                "input_scale must be 1 for a network with Embedding, whose codes it scales"
            )
        self.n_inputs: int | None = None
        self.n_outputs: int = [
            layer.n_outputs for layer in self.layers if layer.n_outputs is not None
        ][-1]
        self._params: np.ndarray | None = None
        self._statistics = np.zeros(0, self.dtype)
        self._loss: LossFunction | None = None
        self._target: Target | None = None
        self._was_changed = False
        #: What the user has been warned of; and whether the file had no state of the training.
        self._advised: frozenset[str] = frozenset()
        self._was_read = False
        self._plans: dict[tuple[LossFunction | None, int | None], Plan] = {}
        if n_inputs is not None:
            self.n_inputs = whole_number(n_inputs, "n_inputs")
            self._params, self._statistics = self._initial(self.lower(None))

    def config(self) -> dict:
        """The arguments that construct an equal network, as plain values.

        Returns
        -------
        dict
            For :meth:`from_config`; it can be written as JSON.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> Sequential.from_config(Sequential([Dense(2, "relu"), Dense(1)]).config())
        Sequential([Dense(2, 'relu'), Dense(1)], seed=0, dtype='float32')
        """
        return {"layers": [layer.config() for layer in self.layers], **self._arguments()}

    def _arguments(self) -> dict:
        """The arguments besides the layers."""
        return {
            "n_inputs": self.n_inputs,
            "seed": self.seed,
            "dtype": self.dtype.name,
            "l1": self.l1,
            "l2": self.l2,
            "penalties": self.penalties,
            "input_scale": self.input_scale,
        }

    def _options(self) -> dict:
        """The arguments besides the layers that are not the defaults; always seed and dtype."""
        given = self._arguments().items()
        return {name: value for name, value in given if value != _DEFAULTS.get(name)}

    @classmethod
    def from_config(cls, config: dict, allocate: bool = True) -> Self:
        """The network for what :meth:`config` returned; `allocate` gives it its parameters.

        Raises
        ------
        KeyError, TypeError, ValueError
            If `config` describes no network.
        """
        arguments = {**config, "layers": [from_config(layer) for layer in config["layers"]]}
        if allocate:
            return cls(**arguments)
        n_inputs = arguments.pop("n_inputs")
        net = cls(**arguments)
        net.n_inputs = None if n_inputs is None else whole_number(n_inputs, "n_inputs")
        return net

    def copy(self, dtype=None) -> Self:
        """An independent network with the same parameters, statistics, loss and labels.

        The history and the state of the optimizer are not copied.

        Parameters
        ----------
        dtype : {"float32", "float64"}, optional
            The dtype of the copy; by default that of this network.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1)], n_inputs=2)
        >>> double = net.copy("float64")
        >>> double.dtype.name, bool((double.flat_params == net.flat_params).all())
        ('float64', True)
        """
        arguments = {**self._arguments(), "n_inputs": None}
        if dtype is not None:
            arguments["dtype"] = dtype
        copy = type(self)(self.layers, **arguments)  # layers are declarations: none is changed
        copy.n_inputs = self.n_inputs
        if self._params is not None:
            state = self._chain.in_dtype(self._named_statistics(), copy.dtype)
            copy.adopt(self.parameters(), state)
        copy.feature_names_in_ = self.feature_names_in_
        return copy.set_fitted(self._loss, self._target)

    def _features(self, X, n_inputs: int | None, what: str = "X") -> np.ndarray | CSR:
        """X as engines read it: checked, and prepared by the layers that do."""
        X = self._read(X, n_inputs, what)
        if not self._chain:
            return X
        known = {} if self._params is None else self._named_statistics()
        return self._chain.transform(X, known, what)

    def _read(self, X, n_inputs: int | None, what: str = "X") -> np.ndarray | CSR:
        """X as :func:`fastnn.features.check_features` returns it; codes are those of Embedding."""
        check_names(X, self.feature_names_in_, what)
        if self._chain:
            return self._chain.read(X, n_inputs, what)
        X = check_features(X, n_inputs, self.dtype, what)
        if isinstance(self.layers[0], Embedding):
            self.layers[0].check(X, self.dtype, what)
        return X

    # -- parameters ---------------------------------------------------------------------------

    def _initial(self, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
        """Initial parameters and running statistics."""
        params, statistics = self._allocate(plan)
        for named, flat in ((plan.parameters, params), (plan.state, statistics)):
            for block, parameter in enumerate(named):
                view = parameter.view(flat)
                with np.errstate(over="ignore", under="ignore"):
                    view[:] = parameter.init.values(parameter.shape, self.seed, block)
                if not is_finite(view.reshape(-1)):
                    raise ValueError(
                        f"the initial values of {parameter.name}, {parameter.init}, are too large "
                        f"for {self.dtype.name}"
                    )
        return params, statistics

    def _allocate(self, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
        """Flat vectors for the parameters and the running statistics."""
        try:
            return aligned_zeros(plan.n_params, self.dtype), aligned_zeros(plan.n_state, self.dtype)
        except (MemoryError, ValueError, OverflowError):
            size = plan.n_params * self.dtype.itemsize / 2**30
            raise ValueError(
                f"the network has {plan.n_params} parameters, {size:,.1f} GiB, which cannot be "
                "allocated: make the layers smaller"
            ) from None

    def lower(self, loss: LossFunction | None, n_inputs: int | None = None) -> Plan:
        """The plan for a loss; the layout of the parameters is the same for all losses.

        Parameters
        ----------
        loss : LossFunction or None
        n_inputs : int, optional
            Columns of X, if the network has no `n_inputs` yet.

        Raises
        ------
        ValueError
            If the loss contradicts the last activation.
        """
        key = loss, n_inputs or self.n_inputs
        plan = self._plans.get(key)
        if plan is None:
            assert key[1] is not None
            lowering = Lowering(key[1], self.l1, self.l2, self.penalties == "per_row")
            for index, layer in enumerate(self.layers):
                layer.lower(lowering, str(index))
            if loss is None:
                plan = lowering.finish()
            else:
                user_loss = loss if isinstance(loss, Custom) else None
                lower_loss(lowering, loss.code, loss.argument, loss.quantiles, user_loss)
                plan = lowering.finish(loss.code, loss.mean, user_loss)
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def adopt(self, params: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]) -> None:
        """Set parameters and running statistics from arrays by name, for instance of a file.

        Raises
        ------
        ValueError
            If the network's dtype cannot hold a number.
        """
        plan = self.lower(None)
        flat_params, statistics = self._allocate(plan)
        for named, flat, arrays in (
            (plan.parameters, flat_params, params),
            (plan.state, statistics, state),
        ):
            for parameter in named:
                with np.errstate(over="ignore", under="ignore"):
                    parameter.view(flat)[:] = arrays[parameter.name]
            if not is_finite(flat):
                raise ValueError(f"some parameters are too large for {self.dtype.name}")
        self._params, self._statistics = flat_params, statistics

    @np.errstate(all="ignore")
    def adapt(self, X) -> Self:
        """Have the preprocessing layers learn from rows, in place of those of the first fit.

        For fits on batches, which have no other way to learn, and for new rows: without it further
        fits keep what the first has learned.

        Parameters
        ----------
        X : array_like, shape (m, n_inputs)
            Training rows.

        Returns
        -------
        Sequential
            The network.

        Raises
        ------
        ShapeError, ValueError, TypeError
            If X does not fit, or nothing can be learned from it; nothing has changed then.

        Examples
        --------
        >>> from fastnn import Dense, Sequential, Standardize
        >>> net = Sequential([Standardize(), Dense(1)]).adapt([[1.0], [3.0]])
        >>> net.state_dict()["0.std"]
        array([1.], dtype=float32)
        """
        if not self._chain:
            raise ValueError(
                "the network has no preprocessing layer that could learn: adapt belongs to those "
                "of fastnn.preprocessing, such as Standardize()"
            )
        names = names_of(X)
        X = self._read(X, self.n_inputs)
        learned, _ = self._chain.learn(X, None)
        if self._params is None:
            plan = self.lower(None, X.shape[1])
            self._params, self._statistics = self._initial(plan)
            self.n_inputs = X.shape[1]
        write_learned(self.lower(self._loss), self._statistics, learned)
        self.feature_names_in_ = names or self.feature_names_in_
        return self

    def set_penalties(self, l1=None, l2=None) -> None:
        """Change the penalties on the weights of all layers for the fits to come.

        Parameters
        ----------
        l1, l2 : float, optional
            As for :class:`Sequential`; None keeps what it is.

        Raises
        ------
        ValueError, TypeError
            If one is negative, not finite or not a number.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1)], l2=0.1)
        >>> net.set_penalties(l2=0)
        >>> net.l2
        0.0
        """
        l1 = self.l1 if l1 is None else real_number(l1, "l1", least=0)
        l2 = self.l2 if l2 is None else real_number(l2, "l2", least=0)
        if (l1, l2) != (self.l1, self.l2):
            self.l1, self.l2 = l1, l2
            self._plans.clear()

    def build(self, n_inputs: int, loss: LossFunction) -> Self:
        """Give a new network its initial parameters, lowered for the loss of its fits alone.

        Parameters
        ----------
        n_inputs : int
        loss : LossFunction

        Returns
        -------
        Sequential
            The network.

        Raises
        ------
        ValueError, TypeError
            If the layers cannot have so many inputs, or contradict the loss.
        """
        plan = self.lower(loss, whole_number(n_inputs, "n_inputs"))
        self._params, self._statistics = self._initial(plan)
        self.n_inputs = n_inputs
        return self.set_fitted(loss, None)

    def set_fitted(self, loss: LossFunction | None, target: Target | None) -> Self:
        """Set the loss and the kind of targets as a fit does; returns the network."""
        self._loss, self._target = loss, target
        return self

    def _is_untrained(self) -> bool:
        """Whether the parameters are still the initial ones."""
        if not self._was_changed:
            # Not np.array_equal, which turns an exception of a signal handler into False.
            plan = self.lower(None)
            now = self._built(), self._statistics[: plan.n_running]
            pairs = zip(now, self._initial(plan), strict=True)
            self._was_changed = any(bool((a != b[: len(a)]).any()) for a, b in pairs)
        return not self._was_changed

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
        plan: 2 -> 1, 3 parameters, 4 workspace elements per row of a batch
        op  operation  shape   reads  parameters     writes  backward
        0   dense      2 -> 1  input  W[0:2] b[2:3]  a0      dW db
        """
        self._built()
        return self.lower(self._loss)

    @property
    def flat_params(self) -> np.ndarray:
        """All parameters as one vector; writing into it or assigning to it changes the network.

        Raises
        ------
        NotFittedError
            If the number of features is not known yet.
        ShapeError, ValueError, TypeError
            If the assigned values have another shape or are not finite.

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
        with np.errstate(over="ignore", under="ignore"):
            values = values.astype(self.dtype)
        if not is_finite(values):
            raise ValueError(f"flat_params has numbers that are too large for {self.dtype.name}")
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
        return {p.name: p.view(params) for p in self.lower(self._loss).parameters}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and running statistics by name.

        Raises
        ------
        NotFittedError
            If the number of features is not known yet.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> sorted(Sequential([Dense(1)], n_inputs=2).state_dict())
        ['0.W', '0.b']
        """
        named = {**self.parameters(), **self._named_statistics()}
        return {name: array.copy() for name, array in named.items()}

    def load_state_dict(self, state) -> None:
        """Set all parameters and running statistics to what :meth:`state_dict` returned.

        Parameters
        ----------
        state : mapping of str to array_like
            The names and shapes must be those of this network.

        Raises
        ------
        NotFittedError
            If the number of features is not known yet.
        ShapeError, ValueError, TypeError
            If a name is missing or unknown, or an array does not fit; nothing has changed then.

        Examples
        --------
        >>> from fastnn import Dense, Sequential
        >>> net = Sequential([Dense(1)], n_inputs=1)
        >>> net.load_state_dict({"0.W": [[2.0]], "0.b": [1.0]})
        >>> net.logits([[10.0]])
        array([[21.]], dtype=float32)
        """
        views = {**self.parameters(), **self._named_statistics()}
        if state.keys() != views.keys():
            missing, unknown = sorted(views.keys() - state.keys()), sorted(state.keys() - views)
            raise ValueError(
                f"the state lacks {missing or 'nothing'} and has {unknown or 'nothing'} that the "
                "network has not: give the state_dict() of a network of the same layers"
            )
        found, least = {}, {s.name: s.least for s in self.lower(self._loss).state}
        for name, view in views.items():
            values = np.asarray(state[name])
            if values.shape != view.shape:
                raise ShapeError(f"{name} has the shape {view.shape}, not {values.shape}")
            if values.dtype.kind not in "biuf":
                raise TypeError(f"{name} must hold real numbers, not {values.dtype}")
            with np.errstate(over="ignore", under="ignore"):
                found[name] = values.astype(self.dtype)
            if not is_finite(found[name].reshape(-1)):
                raise ValueError(f"{name} must be finite in {self.dtype.name}")
            if (found[name] < least.get(name, -np.inf)).any():
                raise ValueError(
                    f"{name} must be at least {least[name]:g}, but it has {found[name].min():g}"
                )
        for name, values in found.items():
            views[name][...] = values

    def _named_statistics(self) -> dict[str, np.ndarray]:
        """Running statistics by name, as views."""
        return {s.name: s.view(self._statistics) for s in self.lower(self._loss).state}

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
             total                          11,935 parameters
        """
        self._built()
        from .printing import summary

        print(summary(self, self.lower(None)))

    def __repr__(self) -> str:
        shown = [repr(self.layers), *(f"{k}={v!r}" for k, v in self._options().items())]
        return f"Sequential({', '.join(shown)})"

    def _repr_html_(self) -> str:
        from . import html

        return html.network(self)


def write_learned(plan: Plan, statistics: np.ndarray, learned: dict[str, np.ndarray]) -> None:
    """Write what preprocessing layers have learned, by name, into the running statistics."""
    for statistic in plan.state:
        if statistic.name in learned:
            statistic.view(statistics)[...] = learned[statistic.name]
