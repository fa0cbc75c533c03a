"""Muon: the momentum of hidden weight matrices, orthogonalised; AdamW for all else."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np

from . import schedules
from .adaptive import AdamW
from .checks import true_or_false, whole_number
from .ops.dense import OPERATION as DENSE
from .optimizer import Optimizer, declaration
from .tables import COMMON, HYPER, MOST_TURNS, Rule


@declaration
class Muon(Optimizer):
    """Muon (K. Jordan, 2024): a step of a hidden weight matrix is an orthogonal matrix.

    Hidden weight matrices are those of Dense, Maxout and projections, but for the network's first
    and last. One of them, W (n_in, n_out) with the gradient G, has the direction D:

        M = momentum M + (1 - momentum) G,    D = momentum M + (1 - momentum) G, or M itself

    D is replaced by the nearest orthogonal matrix, roughly: Y = D / max(|D|, 1e-7), and five times
    A = Yt Y, Y = Y (3.4445 I - 4.7750 A + 2.0315 A A), transposed where W is wide. Y has the
    singular vectors of D and singular values of 0.68 to 1.21, but for those below 0.003 |D|. The
    step is W = W - lr sqrt(max(1, n_out / n_in)) Y. All other parameters take the steps of AdamW:
    the first and last matrix, biases, embeddings, normalisations.

    The products of a step take 5 c^2 (3 r + c) multiplications and additions for a matrix whose
    longer side is r and whose shorter side c, whatever the batch. With batches of 128, a step of
    784-512-512-10 takes 7 times as long as with AdamW (Zen 4: 32 instead of 4.8 ms in one thread,
    16.4 instead of 2.2 in two), with ``every=2`` 4 times, with ``every=4`` 2.5 times, with
    ``newton_schulz=3`` 5 times. On digits and letters, none of these cost more than 0.3% of
    accuracy (bench/muon.py). Larger batches make the share of Muon smaller.

    Parameters
    ----------
    lr : float or schedule, default 0.02
        The learning rate of the hidden matrices, above 0.
    momentum : float or schedule, default 0.95
        Fraction of M that a step keeps, in [0, 1).
    nesterov : bool, default True
        Whether D looks ahead; otherwise D is M.
    weight_decay : float or schedule, default 0
        For the hidden matrices: lr weight_decay W is subtracted besides. `adamw` has its own.
    newton_schulz : int, default 5
        Steps of the iteration, 1 to 10.
    every : int, default 1
        Only one step in so many orthogonalises, the first one too; the ones between go in the same
        direction again, while M goes on. A matrix that is no longer frozen goes in its old
        direction until then.
    adamw : AdamW, optional
        For all other parameters; by default AdamW(). If this optimizer's rate is a number and fit
        follows a schedule, adamw's rate changes in proportion.
    clip_norm, clip_value, lr_factors, decay_factors
        As for :class:`fastnn.optimizer.Optimizer`, for all parameters; `adamw` has none.

    Raises
    ------
    ValueError, TypeError
        If a hyperparameter is out of range or not a number. Fit raises ValueError if the network
        has no hidden matrix.

    Notes
    -----
    M is an average, as in Jordan's present code and PyTorch's; his first version sums gradients,
    which is the same but for the constant, since D is normalised. PyTorch and Jordan compute the
    iteration in bfloat16, fastnn in the network's type. Jordan adds 1e-7 to |D|; PyTorch and fastnn
    divide by at least that. The factor sqrt(max(1, n_out / n_in)) is that of both; their W is
    (n_out, n_in). PyTorch's default rate is 0.001 and its weight decay 0.1.

    Examples
    --------
    >>> from fastnn import Dense, Muon, Sequential, data
    >>> X, y = data.load_digits()
    >>> net = Sequential([Dense(64, "relu"), Dense(64, "relu"), Dense(10)])
    >>> _ = net.fit(X / 16, y, optimizer=Muon(), epochs=5, progress=False)
    >>> net.evaluate(X / 16, y)["accuracy"] > 0.97
    True
    """

    lr: float | schedules.Schedule = 0.02  # type: ignore[misc]
    momentum: float | schedules.Schedule = 0.95
    nesterov: bool = True
    newton_schulz: int = 5
    every: int = 1
    adamw: AdamW = field(default_factory=AdamW)

    rule: ClassVar[Rule] = Rule.muon
    decoupled: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        self._check("momentum", least=0, below=1)
        true_or_false(self.nesterov, "nesterov")
        turns = whole_number(self.newton_schulz, "newton_schulz", most=MOST_TURNS)
        object.__setattr__(self, "newton_schulz", turns)
        object.__setattr__(self, "every", whole_number(self.every, "every"))
        if not isinstance(self.adamw, AdamW):
            raise TypeError(f"adamw must be an AdamW such as AdamW(0.001), not {self.adamw!r}")
        if self.adamw.rule != Rule.adam:
            raise ValueError(f"adamw must be AdamW without amsgrad, not {self.adamw!r}")
        for name in ("clip_norm", "clip_value", "lr_factors", "decay_factors"):
            if getattr(self.adamw, name) is not None:
                raise ValueError(f"adamw must have no {name}: give it to Muon, for all parameters")

    def _own(self, own, columns, first_step):
        n = len(own)
        first = first_step - 1
        at = {name: column for column, name in enumerate(HYPER[self.rule])}
        momentum = self.values("momentum", first, n, least=0, below=1)
        columns[:, at["matrix_lr"]] = columns[:, 0]
        columns[:, at["matrix_decoupled"]] = columns[:, at["decoupled"]]
        columns[:, at["momentum"]] = momentum
        columns[:, at["of_gradient"]] = 1 - momentum if self.nesterov else 0.0
        columns[:, at["of_momentum"]] = momentum if self.nesterov else 1.0
        columns[:, at["orthogonalises"]] = np.arange(first, first + n) % self.every == 0
        usual = self.rates(first, n)
        factor = np.divide(columns[:, 0], usual, out=np.ones(n), where=usual != 0)
        others = self.adamw.hyper(first_step, self.adamw.rates(first, n) * factor)
        columns[:, 0] = others[:, 0]
        columns[:, at["decoupled"]] = others[:, at["decoupled"]]
        columns[:, len(COMMON) : others.shape[1]] = others[:, len(COMMON) :]

    def config(self) -> dict:
        return super().config() | {"adamw": self.adamw.config()}


def hidden_matrices(plan) -> dict[int, int]:
    """{offset in the flat vector: index of the operation} of the hidden weight matrices.

    Raises
    ------
    ValueError
        If there are none.
    """
    ops = plan.training.ops
    found = {
        int(ops["w"][index]): int(index) for index in np.flatnonzero(ops["kind"] == DENSE.kind)
    }
    hidden = dict(list(found.items())[1:-1])
    if not hidden:
        raise ValueError(
            f"Muon needs a hidden weight matrix between the network's first and last, but there "
            f"are {len(found)} weight matrices: add a hidden layer, or train with AdamW"
        )
    return hidden
