"""One step of an optimizer with a gradient that the user gives, for training loops of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import engines, losses, optimizers, run
from .checks import is_finite
from .engines.workspace import Steps
from .errors import DivergedError, ShapeError
from .features import real_array
from .scheduling import Scheduled
from .update import Update

if TYPE_CHECKING:
    from .model import Sequential


def step(net: Sequential, gradient, optimizer, freeze) -> None:
    """See :meth:`fastnn.Sequential.step`."""
    params, rule = net._built(), optimizers.get(optimizer)
    if rule.full_batch:
        raise ValueError(
            f"{type(rule).__name__} evaluates the loss several times in a step, so a gradient is "
            "not enough: use fit, or another optimizer such as 'adam'"
        )
    gradient = np.asarray(gradient)
    if gradient.shape != params.shape:
        raise ShapeError(
            f"gradient must have the shape {params.shape} of flat_params, but it has "
            f"{gradient.shape}"
        )
    gradient = real_array(gradient, net.dtype, "gradient")
    # Without a loss a plan has no gradients. Which one it is does not matter to the step.
    plan = net.lower(net._loss or losses.mse)
    fit = run.prepare(
        net._prepared, net._state, engines.current(), plan, params, net._statistics, rule,
        Update.of(plan, rule, freeze), batch_size=1,
    )  # fmt: skip
    fit.scheduled = Scheduled(fit.state, plan.schedules, None, 0, None)
    fit.lr_factor = 1.0
    fit.plan_steps(0, 1)
    hyper, rates = fit.hyper_of_next()
    before = params.copy()
    fit.ws.grad[:] = gradient
    fit.engine.update(fit.ws, Steps(hyper, net.seed, fit.state.total_steps))
    if not all(is_finite(array) for array in (params, *fit.ws.slots)):
        params[:] = before
        raise DivergedError(
            f"the step makes a parameter infinite or NaN: the learning rate {rates[0]:g} is "
            "probably too large. The parameters are those before it",
            fit.state.epoch,
            fit.state.total_steps,
        )
    fit.count(1, float(rates[0]))
    net._state, net._prepared = fit.state, fit
