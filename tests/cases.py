"""Random networks with their data, for the one suite that runs over everything.

A network is drawn as the oracle's list of layers. LAYERS says how each kind of layer is built in
fastnn, `a_layer` how it is drawn: a new operation is one line in both.
"""

import functools
from dataclasses import dataclass

import naive
import naive_layers
import naive_losses
import numpy as np
from hypothesis import strategies as st

import fastnn
from fastnn import Sequential, activations, losses
from fastnn.schedules import Linear
from fastnn.tables import Act, Loss

ACTIVATIONS = [act.name for act in Act]
WITH_ARGUMENT = [("leaky_relu", 0.3), ("elu", 0.5)]
#: All but a user's own, which test_custom_loss.py tests.
LOSSES = [loss.name for loss in Loss if loss != Loss.custom]
LOSSES_WITH_ARGUMENT = [
    ("huber", 0.3), ("quantile", 0.9), ("quantile", (0.1, 0.5, 0.8)), ("focal", 0.0),
    ("focal", 0.5),
]  # fmt: skip
#: The losses that take logits, and the activation that each applies to them itself.
LOGITS = {
    "binary_cross_entropy": "sigmoid", "cross_entropy": "softmax", "focal": "softmax",
    "poisson": "identity", "gaussian_nll": "identity",
}  # fmt: skip
SMOOTHED = {
    "cross_entropy": losses.CrossEntropy,
    "binary_cross_entropy": losses.BinaryCrossEntropy,
}


def contained(loss, n):
    """The activation that a loss of n outputs applies itself, "identity" for none."""
    name, _ = naive_losses.split(loss)
    return "sigmoid" if name == "focal" and n == 1 else LOGITS.get(name, "identity")


def per_target(loss):
    """How many outputs a column of targets has."""
    name, argument = naive_losses.split(loss)
    if name == "gaussian_nll":
        return 2
    return len(argument) if isinstance(argument, tuple) else 1


def loss_function(loss, smoothing=0.0):
    """The loss of fastnn for one of the oracle's."""
    if smoothing:
        return SMOOTHED[loss](smoothing)
    if isinstance(loss, str):
        return losses.get(loss)
    classes = {"huber": losses.Huber, "quantile": losses.Quantile, "focal": losses.Focal}
    return classes[loss[0]](loss[1])


def activation(act):
    """What Dense takes, from a name or a pair of a name and an argument."""
    if isinstance(act, str):
        return act
    return {"leaky_relu": activations.LeakyReLU, "elu": activations.ELU}[act[0]](act[1])


def rate_of(formula):
    """What Dropout takes, from a number or a triple of a schedule."""
    return Linear(*formula.rate) if isinstance(formula.rate, tuple) else formula.rate


def group_norm(formula):
    """The normalisation by rows of fastnn."""
    if formula.groups == 1:
        return fastnn.LayerNorm(formula.epsilon, formula.affine)
    return fastnn.GroupNorm(formula.groups, formula.epsilon, formula.affine)


#: The layer of fastnn for each of the oracle's.
LAYERS = {
    naive.Dense: lambda n: fastnn.Dense(n.units, activation(n.act), l1=n.l1, l2=n.l2),
    naive.Activation: lambda n: fastnn.Activation(activation(n.act)),
    naive.PReLU: lambda n: fastnn.PReLU(shared=n.shared),
    naive.Embedding: lambda n: fastnn.Embedding({c: sizes for c, *sizes in n.columns}),
    naive.Dropout: lambda n: fastnn.Dropout(rate_of(n), n.scale_at),
    naive.GaussianNoise: lambda n: fastnn.GaussianNoise(n.std),
    naive.BatchNorm: lambda n: fastnn.BatchNorm(n.momentum, n.epsilon, n.affine),
    naive.GroupNorm: lambda n: group_norm(n),
    naive.Scale: lambda n: fastnn.Scale(bias=n.bias),
    naive.Maxout: lambda n: fastnn.Maxout(n.units, n.pieces),
    naive.Residual: lambda n: fastnn.Residual([layer(inner) for inner in n.layers]),
}


def layer(formula):
    """The layer of fastnn for one of the oracle's."""
    return LAYERS[type(formula)](formula)


@dataclass(frozen=True)
class Case:
    """A network, and m rows with targets for its loss; numbers follow from the seed."""

    n_inputs: int
    layers: tuple
    loss: str | tuple
    m: int
    seed: int
    weighted: bool = False
    smoothing: float = 0.0
    l1: float = 0.0
    l2: float = 0.0

    @functools.cached_property
    def parameters(self):
        """Every parameter by name, exact in float32; vectors have both signs."""
        rng = np.random.default_rng(self.seed)
        found = {}
        for name, shape in naive.shapes(self.layers, self.n_inputs)[1].items():
            size = shape[0] ** -0.5 if len(shape) == 2 else 0.5
            found[name] = (size * rng.normal(size=shape)).astype(np.float32).astype(float)
        return found

    @functools.cached_property
    def statistics(self):
        """Every running statistic by name: positive, since some are variances."""
        rng = np.random.default_rng([self.seed, 4])
        found = naive.statistics(self.layers, self.n_inputs)
        return {
            name: rng.uniform(0.5, 2, shape).astype(np.float32).astype(float)
            for name, shape in found.items()
        }

    @property
    def values(self):
        """Parameters and statistics, for the oracle."""
        return {**self.parameters, **self.statistics}

    @property
    def run(self):
        """The training step of loss_and_grad, for the oracle."""
        return naive_layers.Run(training=True, seed=self.seed)

    @functools.cached_property
    def X(self):
        # Rounded to float32, so that every dtype computes with the same rows.
        rng = np.random.default_rng([self.seed, 1])
        X = rng.normal(size=(self.m, self.n_inputs)).astype(np.float32).astype(float)
        for column, n_values, _ in getattr(self.layers[0], "columns", ()):
            X[:, column] = rng.integers(0, n_values, self.m)
        return X

    @functools.cached_property
    def T(self):
        rng = np.random.default_rng([self.seed, 2])
        n, _ = naive.shapes(self.layers, self.n_inputs)
        loss, _ = naive_losses.split(self.loss)
        if loss in ("cross_entropy", "focal") and n > 1:
            return np.eye(n)[rng.integers(0, n, self.m)]
        if loss in ("binary_cross_entropy", "hinge", "squared_hinge", "focal"):
            return rng.integers(0, 2, (self.m, n)).astype(float)
        if loss == "poisson":
            return rng.poisson(2.0, (self.m, n)).astype(float)
        shape = self.m, n // per_target(self.loss)
        return rng.normal(size=shape).astype(np.float32).astype(float)

    @functools.cached_property
    def weights(self):
        if not self.weighted:
            return None
        weights = np.random.default_rng([self.seed, 3]).integers(0, 4, self.m) / 2
        weights[0] = 1.5
        return weights

    def network(self, dtype):
        """The network in fastnn, with this case's parameters."""
        net = Sequential(
            [layer(formula) for formula in self.layers],
            n_inputs=self.n_inputs, seed=self.seed, dtype=dtype, l1=self.l1, l2=self.l2,
        )  # fmt: skip
        views = net.parameters()
        assert {name: view.shape for name, view in views.items()} == {
            name: value.shape for name, value in self.parameters.items()
        }
        net.load_state_dict(self.values)
        return net

    def naive(self, net):
        """Parameters and statistics for the oracle, as they are in a network now."""
        return {name: value.tolist() for name, value in net.state_dict().items()}

    @property
    def trained(self):
        """The layers without an output function that the loss contains."""
        n, _ = naive.shapes(self.layers, self.n_inputs)
        return naive.without_output(self.layers, {contained(self.loss, n)} - {"identity"})

    @property
    def up_to_logits(self):
        """The layers without a last sigmoid or softmax."""
        return naive.without_output(self.layers, {"sigmoid", "softmax"})

    @property
    def arguments(self):
        """What loss_and_grad takes besides X."""
        loss = loss_function(self.loss, self.smoothing)
        return {"y": self.T, "loss": loss, "sample_weight": self.weights}

    @property
    def oracle(self):
        """What naive.cost and naive.gradients take besides the parameters."""
        T = self.T
        if self.smoothing:
            T = naive_losses.smooth(self.loss, T, self.smoothing)
        weights = self.weights, self.l1, self.l2
        return self.trained, self.loss, self.X, T, *weights, None, self.run

    @property
    def nearest_kink(self):
        """The distance of the nearest number to its kink, in the layers and in the loss."""
        return naive.smallest_kink(self.values, self.trained, self.X, self.run, self.loss, self.T)


def make_case(widths, acts, loss, m, seed, penalties=None, **arguments):
    """A stack of dense layers."""
    penalties = penalties or [(0, 0)] * len(acts)
    layers = tuple(
        naive.Dense(units, act, *pair)
        for units, act, pair in zip(widths[1:], acts, penalties, strict=True)
    )
    return Case(widths[0], layers, loss, m, seed, **arguments)


# Widths on both sides of a vector and of a tile.
width = st.one_of(st.integers(1, 6), st.sampled_from([8, 15, 16, 17, 24, 33, 48, 49, 50]))
l1 = st.sampled_from([0.0, 0.0, 0.02])
l2 = st.sampled_from([0.0, 0.0, 0.1])
act = st.sampled_from(ACTIVATIONS + WITH_ARGUMENT)
activation_layers = st.builds(naive.Activation, act)
prelus = st.builds(naive.PReLU, st.booleans())
batch_norms = st.builds(naive.BatchNorm, st.booleans(), epsilon=st.sampled_from([1e-5, 1e-2]))


rate = st.sampled_from([0.0, 0.1, 0.5, 0.9])
dropouts = st.one_of(
    st.builds(naive.Dropout, rate, st.sampled_from(["train", "test"])),
    st.just(naive.Dropout((0.6, 0.2, 4))),
)
noises = st.builds(naive.GaussianNoise, st.sampled_from([0.0, 0.2]))
scales = st.builds(naive.Scale, st.booleans())
# With as many groups as wished or fewer: see `with_groups`.
group_norms = st.builds(
    naive.GroupNorm, st.sampled_from([1, 1, 2, 8]), st.sampled_from([1e-5, 0.1]), st.booleans()
)


def a_dense(units):
    return st.builds(naive.Dense, units, act, l1=l1, l2=l2)


def a_layer(units):
    """Any layer without inner ones; `units` draws its width."""
    plain = a_dense(units), a_dense(units), activation_layers, prelus
    maxouts = st.builds(naive.Maxout, units, st.integers(2, 4))
    others = st.one_of(group_norms, scales, maxouts)
    return st.one_of(*plain, st.one_of(dropouts, noises), batch_norms, others)


@st.composite
def embeddings(draw, n_inputs):
    """A first layer that embeds one to three columns."""
    columns = draw(st.sets(st.integers(0, n_inputs - 1), min_size=1, max_size=3))
    size = st.integers(1, 5)
    return naive.Embedding(tuple((c, draw(size), draw(size)) for c in sorted(columns)))


def with_groups(layers, n):
    """The layers with numbers of groups that divide the n columns that each reads.

    Groups of a few columns are often nearly equal, which makes rounding errors grow: they get a
    larger epsilon.
    """
    found = []
    for layer in layers:
        if isinstance(layer, naive.Residual):
            layer = naive.Residual(with_groups(layer.layers, n))
        elif isinstance(layer, naive.GroupNorm) and n == 1:
            layer = naive.Scale(layer.affine)
        elif isinstance(layer, naive.GroupNorm):
            groups = max(g for g in range(1, layer.groups + 1) if n % g == 0 and n >= 2 * g)
            epsilon = layer.epsilon if n >= 12 * groups else 0.3
            layer = naive.GroupNorm(groups, epsilon, layer.affine)
        found.append(layer)
        n, _ = layer.shapes(n)
    return tuple(found)


@st.composite
def stacks(draw, units, n, depth=2):
    """n layers, of which some are inside residuals, nested up to `depth` deep."""
    found = []
    while n:
        inner = draw(st.sampled_from([0, 0, *range(1, n)])) if depth else 0
        if inner:
            found.append(naive.Residual(draw(stacks(units, inner, depth - 1))))
        else:
            found.append(draw(a_layer(units)))
        n -= 1 + inner
    return tuple(found)


@st.composite
def cases(draw):
    """Networks of up to 6 layers with 1 to 20 rows, sample weights and penalties.

    A network has few widths, so that some residuals need a projection and some do not.
    """
    loss = draw(st.sampled_from(LOSSES + LOSSES_WITH_ARGUMENT))
    name, _ = naive_losses.split(loss)
    units = st.sampled_from(draw(st.lists(width, min_size=2, max_size=3)))
    below = draw(stacks(units, draw(st.sampled_from([0, 1, 2, 3, 4, 5, 5, 5]))))
    last = draw(a_dense(units))
    top = [last]
    n = per_target(loss) * -(-last.units // per_target(loss))
    n = max(n, 2) if name == "cross_entropy" else n
    if name in LOGITS or n != last.units:
        output = draw(st.sampled_from(["identity", contained(loss, n)]))
        top = [naive.Dense(n, output, last.l1, last.l2)]
    else:
        top += draw(st.lists(st.one_of(activation_layers, prelus), max_size=1))
    n_inputs = draw(units)
    first = draw(st.lists(embeddings(n_inputs), max_size=1))
    layers = with_groups((*first, *below, *top), n_inputs)
    return Case(
        n_inputs, layers, loss, draw(st.integers(1, 20)), draw(st.integers(0, 99)),
        weighted=draw(st.booleans()),
        smoothing=draw(st.sampled_from([0.0, 0.0, 0.1])) if loss in SMOOTHED else 0.0,
        l1=draw(l1), l2=draw(l2),
    )  # fmt: skip


def flat(net, found):
    """The oracle's numbers by name, in the order of the flat vector."""
    vector = np.full(net.flat_params.size, np.nan)
    for parameter in net.plan.parameters:
        parameter.view(vector)[:] = found[parameter.name]
    assert not np.isnan(vector).any()
    return vector


def relative_error(value, expected):
    """The largest difference over the largest expected number."""
    value, expected = np.asarray(value, float), np.asarray(expected, float)
    assert value.shape == expected.shape
    return np.abs(value - expected).max() / max(np.abs(expected).max(), 1e-30)
