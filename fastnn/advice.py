"""Warnings of fits that run without an error, but probably do not do what is meant.

They look at a few rows, once for each network, before its first step and after its first epoch.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from typing import TYPE_CHECKING

import numpy as np

from .engines.workspace import Data
from .errors import FitWarning
from .layers import BatchNorm, Embedding, Scale
from .tables import SLOTS, Act, Loss

if TYPE_CHECKING:
    from .network import Network
    from .preparation import Checked
    from .settings import Settings
    from .training import Training

#: Most rows and elements of X that are looked at.
_ROWS, _ELEMENTS = 256, 1 << 17

#: Columns differ in scale if the largest number of one is so many times that of another, and large
#: in itself; or so many times, whatever it is. Pixels and counts of rare words do not. Numbers that
#: are larger than the last are too large in any case.
_TIMES, _LARGE, _ALWAYS = 100, 1000, 10_000

_STANDARDISE = (
    "begin the network with Standardize(), or standardise X yourself with the means and standard "
    "deviations of the training rows"
)

#: Targets whose absolute values have this mean are far from the first outputs of a network, which
#: are near 0, so that steps of usual rates take long to get there.
_FAR = 1000

#: Losses of which the output is the predicted number itself.
_OF_NUMBERS = frozenset({
    Loss.mse, Loss.sse, Loss.mae, Loss.huber, Loss.quantile, Loss.gaussian_nll, Loss.squared_error,
})  # fmt: skip

#: Lower rates are given on purpose, such as for the running statistics alone.
_LEAST_RATE = 1e-10

#: Parameters that are compared at once.
_COMPARED = 1 << 14

#: Whose code no line of a user's is in.
_INNER = (
    os.path.dirname(__file__) + os.sep, os.path.dirname(np.__file__) + os.sep,
    str(contextlib.__file__),
)  # fmt: skip


def warn(
    message: str, category: type[Warning] = FitWarning, inner: tuple[str, ...] = _INNER
) -> None:
    """A warning that points at the first line of a caller that is not below an `inner` path."""
    frame, level = sys._getframe(1), 2
    while frame.f_code.co_filename.startswith(inner) and frame.f_back is not None:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def look(checked: Checked) -> None:
    """Warn of what the layers and the first rows of a network's first fit say."""
    net = checked.net
    if "begin" in net._advised:
        return
    net._advised |= {"begin"}
    if net._was_read and not _is_all_told(checked.settings):
        warn(
            "the file of this network has its parameters, but no state of its training: the fit "
            "begins with a new state of the optimizer and with epoch 0. For fits that go on as if "
            "there had been no file, write it by save(path, training=True)"
        )
    told = (
        *_of_steps(checked), *_of_scales(net, checked.targets.data), *_of_targets(checked)
    )  # fmt: skip
    for message in told:
        warn(message)


def _is_all_told(settings: Settings) -> bool:
    """Whether the arguments of a fit say what a file without a state has not."""
    return settings.initial_epoch > 0 and not SLOTS[settings.optimizer.rule]


# -- before the first step --------------------------------------------------------------------


def _of_steps(checked: Checked):
    """Layers below an activation `step`, whose derivative is 0 everywhere."""
    layers = checked.net.layers
    codes = [getattr(getattr(layer, "activation", None), "code", None) for layer in layers]
    if Act.step not in codes:
        return
    last = max(at for at, code in enumerate(codes) if code == Act.step)
    trained = [
        int(parameter.name.split(".")[0]) for parameter in checked.plan.parameters
        if checked.update.trains(parameter.offset, parameter.offset + parameter.size)
    ]  # fmt: skip
    still = sorted({layer for layer in trained if layer <= last})
    if still:
        checked.net._advised |= {"still"}
        which = f"layer {still[0]}" if len(still) == 1 else f"the layers {still[0]} to {still[-1]}"
        if len(still) == len(set(trained)):
            which = "every layer"
        yield (
            f"the gradient of {which} is zero everywhere, so nothing there is learned: the "
            "derivative of the activation 'step' is 0. Use 'sigmoid', 'tanh' or 'relu' in its "
            "place, or freeze these layers if they should stay as they are"
        )


def _rows(data: Data) -> np.ndarray:
    """A few rows over all of X; none if it is sparse."""
    if not isinstance(data.X, np.ndarray):
        return np.empty((0, 0))
    most = max(16, min(_ROWS, _ELEMENTS // max(1, data.X.shape[1])))
    n = data.n_rows
    rows = np.arange(0, n, max(1, n // most))[:most]
    return data.X[rows if data.order is None else data.order[rows]]


def _of_scales(net: Network, data: Data):
    """Columns of very different scales, unless something brings them to one."""
    if isinstance(net.layers[0], BatchNorm | Embedding | Scale):
        return
    sample = _rows(data)
    if len(sample) < 2:
        return
    least, most = sample.min(axis=0), sample.max(axis=0)
    scales = np.maximum(np.abs(least.astype(float)), np.abs(most.astype(float))) * data.scale
    scales[least == most] = 0  # which the bias could stand for
    present = np.flatnonzero(scales)
    if not len(present):
        return
    large = present[scales[present].argmax()]
    small = present[scales[present].argmin()]
    times = scales[large] / scales[small]
    if times >= _ALWAYS or (times >= _TIMES and scales[large] >= _LARGE):
        yield (
            f"the columns of X differ much in scale: column {large} reaches {scales[large]:.3g}, "
            f"column {small} only {scales[small]:.3g}. Training is slow then, and small columns "
            f"hardly count: {_STANDARDISE}"
        )
    elif scales[large] >= _ALWAYS:
        yield (
            f"the numbers of X reach {scales[large]:.3g} in column {large}, which makes training "
            f"slow or lets it diverge: {_STANDARDISE}"
        )


def _of_targets(checked: Checked):
    """Numbers to predict that are far from the first outputs."""
    loss, target, data, *_ = checked.targets
    if target.kind != "values" or loss.code not in _OF_NUMBERS or data.Y is None:
        return
    if checked.settings.optimizer.full_batch or _has_bias(checked.net):
        return
    n = len(data.Y)
    sample = data.Y[:: max(1, n // _ROWS)][:_ROWS].astype(float)
    size = float(np.abs(sample).mean())
    if size >= _FAR:
        yield (
            f"the targets y are about {size:.2g}, and the outputs of a new network near 0: it "
            "takes very many steps from there. Standardise y, such as by (y - y.mean()) / y.std(), "
            "train on that, and undo it after predict; or train on np.log(y)"
        )


def _has_bias(net: Network) -> bool:
    """Whether the user has given the outputs a first value."""
    last = next((layer for layer in reversed(net.layers) if layer.n_outputs is not None), None)
    return getattr(last, "bias_init", 0.0) not in (0.0, "zeros")


# -- after the first epoch --------------------------------------------------------------------


def look_at_epoch(training: Training) -> None:
    """Warn if the first epoch of a network has changed none of its parameters."""
    net, fit = training.net, training.fit
    if "still" in net._advised or training.settings.optimizer.full_batch:
        return
    net._advised |= {"still"}
    if fit.rate < _LEAST_RATE or not training.values.get("loss", 0.0) > 0:
        return
    before, now = fit.epoch_start[0], fit.ws.params
    for begin in range(0, len(now), _COMPARED):
        part = slice(begin, begin + _COMPARED)
        if (before[part] != now[part]).any():
            return
    warn(
        "no parameter has changed in the first epoch: the gradient is zero everywhere, as where "
        "all inputs of 'relu' are negative, or the learning rate "
        f"{fit.rate:g} is too small for {net.dtype.name}. Look at net.trace(X, y), and use another "
        "activation, initialiser or rate"
    )
