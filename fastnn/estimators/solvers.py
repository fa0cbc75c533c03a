"""The optimizers of scikit-learn's MLP, for its losses to rounding."""

from __future__ import annotations

from dataclasses import dataclass

from ..adaptive import Adam
from ..optimizers import SGD


@dataclass(frozen=True, repr=False)
class PlainAdam(Adam):
    """Adam whose epsilon is added to sqrt v itself.

    It is the short form at the end of section 2 of the paper, in which epsilon is not multiplied
    by sqrt(1 - beta2^t) as in :class:`fastnn.Adam`.
    """

    def _own(self, own, columns, first_step):
        super()._own(own, columns, first_step)
        own[:, 0] = self.epsilon


@dataclass(frozen=True, repr=False)
class PlainSGD(SGD):
    """SGD with any momentum from 0 to 1, both included."""

    def __post_init__(self):
        pass  # scikit-learn has checked the parameters

    def _own(self, own, columns, first_step):
        own[:] = self.momentum


def of_solver(solver: str, estimator) -> Adam | SGD:
    """The optimizer that "adam" or "sgd" and the other parameters of an estimator mean."""
    lr = float(estimator.learning_rate_init)
    if solver == "adam":
        return PlainAdam(
            lr, float(estimator.beta_1), float(estimator.beta_2), float(estimator.epsilon)
        )
    momentum = float(estimator.momentum)
    return PlainSGD(lr, momentum, bool(estimator.nesterovs_momentum) and momentum > 0)
