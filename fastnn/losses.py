"""Losses, by name. The cross entropies work on logits and are means over rows.

==========================  =====================================================
name                        loss of m rows with outputs a (or logits z) and targets t
==========================  =====================================================
``mse``                     mean over rows and outputs of (a - t)^2
``sse``                     sum over rows and outputs of (a - t)^2
``binary_cross_entropy``    mean over rows of the sum over outputs of
                            -(t log s + (1-t) log (1-s)), s = sigmoid(z)
``cross_entropy``           mean over rows of -sum over classes of t log p, p = softmax(z)
==========================  =====================================================
"""

from __future__ import annotations

from .engines.tables import Loss
from .names import unknown

NAMES = tuple(loss.name for loss in Loss)


def get(loss) -> Loss:
    """The loss with a name.

    Raises
    ------
    ValueError, TypeError
        If there is none of that name, or it is not a name.
    """
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str):
        raise TypeError(f"loss must be one of the names {', '.join(NAMES)}, not {loss!r}")
    if loss not in NAMES:
        raise unknown("loss", loss, ["auto", *NAMES])
    return Loss[loss]
