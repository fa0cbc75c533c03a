"""Initial values of weights and biases, drawn from (seed, block, element).

====================  =====================================================================
name                  weights of a layer with n_in inputs and n_out outputs
====================  =====================================================================
``zeros``             0, for biases: hidden units with equal weights would stay equal
``xavier_normal``     normal, variance 2 / (n_in + n_out) (X. Glorot and Y. Bengio, 2010)
``xavier_uniform``    uniform, variance 2 / (n_in + n_out)
``he_normal``         normal, variance 2 / n_in (K. He et al., 2015)
``he_uniform``        uniform, variance 2 / n_in
``lecun_normal``      normal, variance 1 / n_in (Y. LeCun et al., 1998)
``lecun_uniform``     uniform, variance 1 / n_in
``orthogonal``        orthogonal columns (or rows) of length 1 (A. M. Saxe et al., 2014)
====================  =====================================================================

Xavier's rule divides by the average (n_in + n_out) / 2 of the fans, as in the paper, PyTorch and
Keras; the form of many courses, such as A. Ng's "Deep Learning", which divides by n_in, is
``xavier_normal(mode="fan_in")``, the same as ``lecun_normal``. ``auto`` is He's rule for the ReLU
family, and otherwise this form: a normal distribution of variance 1 / n_in.

The names of PyTorch and Keras are taken, too: ``glorot_*`` is ``xavier_*``, ``kaiming_*`` is
``he_*``. Keras cuts its normal distributions off at two standard deviations, at equal variance;
these are whole.

Examples
--------
>>> from fastnn import Dense
>>> from fastnn.initializers import Normal, xavier_normal
>>> Dense(30, "tanh", init=xavier_normal(mode="fan_in"), bias_init=Normal(0.01))
Dense(30, 'tanh', init='lecun_normal', bias_init=Normal(std=0.01))
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import numpy as np

from . import described, random
from .activations import ActivationFunction
from .checks import real_number
from .described import Public
from .names import find
from .tables import Act


class Initializer(metaclass=Public, hides=("config",)):
    """Base of the initialisers."""

    def values(self, shape: tuple[int, ...], seed: int, block: int) -> np.ndarray:
        """Initial values.

        Parameters
        ----------
        shape : (n_in, n_out) of weights, or (n_out,) of biases
        seed : int
        block : int
            Index of the parameter in the network; each index draws different numbers.

        Returns
        -------
        ndarray of float64, of that shape
        """
        raise TypeError(f"{type(self).__name__} must define values")

    def config(self) -> dict:
        """The name and arguments, as written to files."""
        return {"initializer": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]


def _normal(shape, seed, block):
    return random.normal(seed, random.Stream.INITIAL, block, math.prod(shape)).reshape(shape)


def _uniform(shape, seed, block):
    """Uniform in (-1, 1)."""
    draws = random.uniform(seed, random.Stream.INITIAL, block, math.prod(shape))
    return (2 * draws - 1).reshape(shape)


@dataclass(frozen=True)
class Constant(Initializer):
    """All values equal one number.

    Parameters
    ----------
    value : float

    Examples
    --------
    >>> from fastnn.initializers import Constant
    >>> Constant(0.1).values((2,), seed=0, block=0)
    array([0.1, 0.1])
    """

    value: float

    def __post_init__(self):
        real_number(self.value, "value")

    def values(self, shape, seed, block):
        return np.full(shape, float(self.value))


@dataclass(frozen=True)
class Normal(Initializer):
    """Normal with mean 0 and a standard deviation of your own.

    Parameters
    ----------
    std : float, default 0.01
        Standard deviation, above 0.

    Examples
    --------
    >>> from fastnn.initializers import Normal
    >>> bool(abs(Normal(0.01).values((50, 50), seed=0, block=0).std() - 0.01) < 0.001)
    True
    """

    std: float = 0.01

    def __post_init__(self):
        real_number(self.std, "std", positive=True)

    def values(self, shape, seed, block):
        return self.std * _normal(shape, seed, block)


@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform between two numbers.

    Parameters
    ----------
    low, high : float, defaults -0.05 and 0.05

    Examples
    --------
    >>> from fastnn.initializers import Uniform
    >>> w = Uniform(-1, 1).values((3, 3), seed=0, block=0)
    >>> bool((-1 < w).all() and (w < 1).all())
    True
    """

    low: float = -0.05
    high: float = 0.05

    def __post_init__(self):
        if real_number(self.low, "low") >= real_number(self.high, "high"):
            raise ValueError(f"low must be below high, not {self.low} and {self.high}")

    def values(self, shape, seed, block):
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        return middle + half * _uniform(shape, seed, block)


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Random weights with variance gain / fan, which preserves the variance of signals.

    Parameters
    ----------
    gain : float
        1 for Xavier's and LeCun's rules; 2 for He's, since ReLU sets half of its outputs to 0.
    uniform : bool, default False
        True draws from a uniform distribution, False from a normal one.
    mode : {"fan_in", "average"}, default "fan_in"
        The fan is n_in for "fan_in", (n_in + n_out) / 2 for "average".

    Examples
    --------
    >>> from fastnn.initializers import he_normal
    >>> bool(abs(he_normal.values((200, 300), seed=0, block=0).var() - 2 / 200) < 0.0005)
    True
    """

    gain: float
    uniform: bool = False
    mode: str = "fan_in"

    def __post_init__(self):
        real_number(self.gain, "gain", positive=True)
        if self.mode not in ("fan_in", "average"):
            raise ValueError(f"mode must be 'fan_in' or 'average', not {self.mode!r}")

    def __call__(self, mode: str | None = None) -> VarianceScaling:
        """The same rule with another mode, or with its own."""
        return self if mode is None else replace(self, mode=mode)

    def values(self, shape, seed, block):
        fan = shape[0] if self.mode == "fan_in" else (shape[0] + shape[-1]) / 2
        std = math.sqrt(self.gain / fan)
        if self.uniform:
            return std * math.sqrt(3) * _uniform(shape, seed, block)
        return std * _normal(shape, seed, block)


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """Orthogonal columns of length `gain`, or orthogonal rows if there are fewer rows.

    LAPACK computes them as the QR factorisation of a normal matrix, so the last bits depend on the
    machine (A. M. Saxe, J. L. McClelland and S. Ganguli, 2014).

    Parameters
    ----------
    gain : float, default 1.0

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.initializers import orthogonal
    >>> w = orthogonal.values((5, 3), seed=0, block=0)
    >>> np.allclose(w.T @ w, np.eye(3))
    True
    """

    gain: float = 1.0

    def __post_init__(self):
        real_number(self.gain, "gain", positive=True)

    def values(self, shape, seed, block):
        if len(shape) != 2:
            raise ValueError("orthogonal is for weights: biases have no second dimension")
        draws = _normal((max(shape), min(shape)), seed, block)
        q, r = np.linalg.qr(draws)
        q = q * np.where(np.diag(r) < 0, -1, 1)
        return self.gain * (q if shape[0] >= shape[1] else q.T)


zeros = Constant(0.0)
xavier_normal = VarianceScaling(1.0, mode="average")
xavier_uniform = VarianceScaling(1.0, uniform=True, mode="average")
he_normal = VarianceScaling(2.0)
he_uniform = VarianceScaling(2.0, uniform=True)
lecun_normal = VarianceScaling(1.0)
lecun_uniform = VarianceScaling(1.0, uniform=True)
orthogonal = Orthogonal()

_BY_NAME: dict[str, Initializer] = {
    "zeros": zeros,
    "xavier_normal": xavier_normal,
    "xavier_uniform": xavier_uniform,
    "he_normal": he_normal,
    "he_uniform": he_uniform,
    "lecun_normal": lecun_normal,
    "lecun_uniform": lecun_uniform,
    "orthogonal": orthogonal,
}
_CLASSES = {c.__name__: c for c in (Constant, Normal, Uniform, VarianceScaling, Orthogonal)}
_RELU_FAMILY = {Act.relu, Act.leaky_relu, Act.elu, Act.gelu, Act.silu, Act.softplus, Act.mish}


def get(init, activation: ActivationFunction | None = None) -> Initializer:
    """Look up an initialiser by name; the activation decides "auto", a number gives Constant.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If the argument is neither a name, a number nor an initialiser.

    Examples
    --------
    >>> from fastnn import initializers
    >>> initializers.get("he_normal") is initializers.he_normal
    True
    """
    if isinstance(init, Initializer):
        return init
    if isinstance(init, str):
        name = find("initialiser", init, ["auto", *_BY_NAME])
        if name == "auto":
            code = activation.code if activation else Act.identity
            return he_normal if code in _RELU_FAMILY else lecun_normal
        return _BY_NAME[name]
    if isinstance(init, type) and issubclass(init, Initializer):
        raise TypeError(f"an initialiser is an object, not a class: write {init.__name__}(...)")
    if isinstance(init, type | bool) or not hasattr(init, "__float__"):
        raise TypeError(f"an initialiser is a name, a number or an object, not {init!r}")
    return Constant(init)


def spelled(init):
    """A name as this module spells it; what is no name as it is.

    Raises
    ------
    ValueError, TypeError
        As :func:`get`.

    Examples
    --------
    >>> from fastnn import initializers
    >>> initializers.spelled("Glorot_Normal")
    'xavier_normal'
    """
    get(init)
    return find("initialiser", init, ["auto", *_BY_NAME]) if isinstance(init, str) else init


def shown(init) -> str:
    """An initialiser as one writes it: a rule that has a name by its name.

    Examples
    --------
    >>> from fastnn import initializers
    >>> initializers.shown(initializers.Normal(0.1)), initializers.shown(initializers.he_normal)
    ('Normal(std=0.1)', "'he_normal'")
    """
    if isinstance(init, Constant):
        init = init.value
    elif isinstance(init, VarianceScaling | Orthogonal):
        init = next((name for name, rule in _BY_NAME.items() if rule == init), init)
    return repr(init)


#: Names that meant the fan-in up to version 0.1.0. No file has them from then on: they stand there
#: with their arguments, and a name alone is that of an older file.
_FAN_IN_IN_OLD_FILES = {"xavier_normal": xavier_normal, "xavier_uniform": xavier_uniform}


def config(init):
    """The name, or a dict of an initialiser's name and arguments, as written to files."""
    if isinstance(init, str) and init not in _FAN_IN_IN_OLD_FILES:
        return init
    return get(init).config()


def from_config(config):
    """The name or initialiser for what :func:`config` returned, in this or an older version."""
    if isinstance(config, str):
        old = _FAN_IN_IN_OLD_FILES.get(config)
        return config if old is None else old(mode="fan_in")
    arguments = dict(config)
    return _CLASSES[arguments.pop("initializer")](**arguments)


described.describe(_BY_NAME, __doc__, described.initializer)
