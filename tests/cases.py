"""Random networks with their data, for the one suite that runs over everything."""

from dataclasses import dataclass

import naive
import numpy as np
from hypothesis import strategies as st

from fastnn import Dense, Sequential, activations, losses
from fastnn.engines.tables import Act, Loss

ACTIVATIONS = [act.name for act in Act]
WITH_ARGUMENT = [("leaky_relu", 0.3), ("elu", 0.5)]
LOSSES = [loss.name for loss in Loss]
LOGITS = ("binary_cross_entropy", "cross_entropy")


def activation(act):
    """What Dense takes, from a name or a pair of a name and an argument."""
    if isinstance(act, str):
        return act
    return {"leaky_relu": activations.LeakyReLU, "elu": activations.ELU}[act[0]](act[1])


@dataclass
class Case:
    """A network with float64 parameters, and rows with targets for its loss."""

    widths: list
    activations: list
    loss: str
    X: np.ndarray
    T: np.ndarray
    seed: int = 0
    weights: np.ndarray | None = None
    penalties: list | None = None
    smoothing: float = 0.0

    def network(self, dtype):
        """The network in fastnn, with this case's parameters."""
        penalties = self.penalties or [(0, 0)] * len(self.activations)
        layers = [
            Dense(n, activation(act), l1=l1, l2=l2)
            for n, act, (l1, l2) in zip(self.widths[1:], self.activations, penalties, strict=True)
        ]
        net = Sequential(layers, n_inputs=self.widths[0], seed=self.seed, dtype=dtype)
        biases = np.random.default_rng(self.seed)
        for name, view in net.parameters().items():
            if name.endswith("b"):
                view[:] = biases.normal(size=view.shape) * 0.5
        return net

    @property
    def arguments(self):
        """What loss_and_grad takes besides X."""
        loss = self.loss
        if self.smoothing:
            classes = losses.CrossEntropy, losses.BinaryCrossEntropy
            loss = classes[loss != "cross_entropy"](self.smoothing)
        return {"y": self.T, "loss": loss, "sample_weight": self.weights}

    @property
    def oracle(self):
        """What naive.cost and naive.gradients take besides the network."""
        T = naive.smooth(self.loss, self.T, self.smoothing) if self.smoothing else self.T
        return self.loss, self.X, T, self.weights, self.penalties

    def naive(self, net):
        """The same network for the oracle, from the parameters as fastnn rounded them."""
        views = net.parameters()
        return [
            (views[f"{i}.W"].astype(float), views[f"{i}.b"].astype(float), act)
            for i, act in enumerate(self.activations)
        ]


def make_case(widths, activations, loss, m, seed, **arguments):
    """Fill in rows and targets."""
    rng = np.random.default_rng(seed)
    n = widths[-1]
    # Rounded to float32, so that every dtype computes with the same rows.
    X = rng.normal(size=(m, widths[0])).astype(np.float32).astype(float)
    if loss == "cross_entropy":
        T = np.eye(n)[rng.integers(0, n, m)]
    elif loss == "binary_cross_entropy":
        T = rng.integers(0, 2, (m, n)).astype(float)
    else:
        T = rng.normal(size=(m, n)).astype(np.float32).astype(float)
    if arguments.pop("weighted", False):
        arguments["weights"] = rng.integers(0, 4, m) / 2
        arguments["weights"][0] = 1.5
    return Case(list(widths), list(activations), loss, X, T, seed, **arguments)


# Widths on both sides of a vector and of a tile.
width = st.one_of(st.integers(1, 6), st.sampled_from([8, 15, 16, 17, 24, 33, 48, 49, 50]))
penalty = st.sampled_from([(0, 0), (0, 0), (0.01, 0), (0, 0.1), (0.02, 0.03)])


@st.composite
def cases(draw):
    """Networks of depth 1 to 4 of any width, with 1 to 20 rows, weights and penalties."""
    depth = draw(st.integers(1, 4))
    loss = draw(st.sampled_from(LOSSES))
    widths = [draw(width) for _ in range(depth + 1)]
    acts = [draw(st.sampled_from(ACTIVATIONS + WITH_ARGUMENT)) for _ in range(depth)]
    smoothing = 0.0
    if loss in LOGITS:
        acts[-1] = "identity"
        smoothing = draw(st.sampled_from([0.0, 0.0, 0.1]))
    if loss == "cross_entropy":
        widths[-1] = max(widths[-1], 2)
    return make_case(
        widths, acts, loss, draw(st.integers(1, 20)), draw(st.integers(0, 99)),
        weighted=draw(st.booleans()), smoothing=smoothing,
        penalties=draw(st.lists(penalty, min_size=depth, max_size=depth)),
    )  # fmt: skip


def flat(net, pairs):
    """The oracle's [(dW, db), ...] in the order of the flat vector."""
    vector = np.full(net.flat_params.size, np.nan)
    for parameter in net.plan.parameters:
        layer, kind = parameter.name.split(".")
        parameter.view(vector)[:] = pairs[int(layer)][kind == "b"]
    assert not np.isnan(vector).any()
    return vector


def relative_error(value, expected):
    """The largest difference over the largest expected number."""
    value, expected = np.asarray(value, float), np.asarray(expected, float)
    assert value.shape == expected.shape
    return np.abs(value - expected).max() / max(np.abs(expected).max(), 1e-30)
