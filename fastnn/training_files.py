"""The state of training in a model file: ``save(path, training=True)`` writes it.

The description has the optimizer, the counters, and how far schedule and average have got; the
tensors are the optimizer's slots and the average. As of all files, nothing in it is believed: an
optimizer, a schedule or an average is made by its own constructor, and every number is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from . import optimizers, schedules
from .averages import EMA, SWA, Average, AverageState
from .checkpoint_files import packed, unpacked
from .checks import is_finite, real_number, whole_number
from .fields import INT, NUMBER, NUMBER_OR_NULL, OBJECT, OBJECT_OR_NULL, check_fields
from .files import shown
from .optimizer import Optimizer
from .schedules.plateau import Plateau
from .scheduling import Progress
from .tables import SLOTS
from .training_state import TrainingState

if TYPE_CHECKING:
    from .network import Network

_COUNTERS = dict.fromkeys(
    ("step", "total_steps", "epoch", "optimizer_epoch", "schedule_step"), INT
)  # fmt: skip
_TRAINING = {
    "optimizer": OBJECT, "counters": OBJECT, "progress": OBJECT_OR_NULL, "average": OBJECT_OR_NULL,
}  # fmt: skip
_PROGRESS = {"schedule": OBJECT, "step": INT, "epoch": INT, "plateau": OBJECT_OR_NULL}
_PLATEAU = {"value": NUMBER, "best": NUMBER_OR_NULL, "waited": INT, "cooling": INT}
_AVERAGE = {"rule": OBJECT, "first": INT, "first_step": INT, "first_epoch": INT}

#: Types of what an optimizer or the rule of an average is given.
_PLAIN = bool, int, float, str, type(None)

#: The largest counter; float64 holds all up to it.
_MOST = 2**53

#: What the names of tensors begin with.
_PREFIX = "training."


def describe(state: TrainingState | None) -> tuple[dict | None, dict[str, np.ndarray]]:
    """The entry of a description, and the tensors; None if there was no training.

    Raises
    ------
    TypeError, ValueError
        If a schedule is a function, or numbers cannot be written.
    """
    if state is None:
        return None, {}
    about: dict[str, Any] = {
        "optimizer": state.optimizer.config(),
        "counters": {name: getattr(state, name) for name in _COUNTERS},
        "progress": None, "average": None,
    }  # fmt: skip
    tensors = {"slots": state.slots}
    progress, average = state.progress, state.average
    if progress is not None:
        about["progress"] = {
            "schedule": progress.schedule.config(), "step": progress.step, "epoch": progress.epoch,
            "plateau": None if progress.plateau is None else vars(progress.plateau),
        }  # fmt: skip
    if average is not None and average.last is not None and average.held is not None:
        about["average"] = {
            "rule": {"name": type(average.rule).__name__, **vars(average.rule)},
            "first": average.first, "first_step": average.first_step,
            "first_epoch": average.first_epoch,
        }  # fmt: skip
        tensors |= {"average": average.vector, "last": average.last, "held": average.held}
    return packed(about, "the state of training"), {
        _PREFIX + name: array for name, array in tensors.items() if array.size
    }


def split(tensors: dict[str, np.ndarray]) -> tuple[dict, dict]:
    """The tensors of the network, and those of the state of training by their short names."""
    of_training = {n[len(_PREFIX) :]: t for n, t in tensors.items() if n.startswith(_PREFIX)}
    return {n: t for n, t in tensors.items() if not n.startswith(_PREFIX)}, of_training


def read(
    about: dict | None, tensors: dict[str, np.ndarray], net: Network,
    check_schedule: Callable[[dict, str], None],
) -> TrainingState | None:  # fmt: skip
    """The state that :func:`describe` described, for a network that has its parameters.

    Raises
    ------
    ValueError, TypeError, LookupError
        If it is none of that network.
    """
    if about is None:
        if tensors:
            raise ValueError(f"it has the tensor {shown(next(iter(tensors)))} of no training")
        return None
    about = unpacked(about)
    check_fields(about, _TRAINING, "training")
    counters = about["counters"]
    check_fields(counters, _COUNTERS, "counters")
    for name, count in counters.items():
        whole_number(count, name, least=0, most=_MOST)
    if counters["schedule_step"] > counters["step"] or counters["step"] > counters["total_steps"]:
        raise ValueError(f"the counters {shown(counters)} contradict each other")
    whole_number(counters["optimizer_epoch"], "optimizer_epoch", 0, counters["epoch"])
    optimizer = _optimizer(about["optimizer"], check_schedule)
    plan = net.lower(None)
    shapes: dict[str, tuple[int, ...]] = {"slots": (SLOTS[optimizer.rule], plan.n_params)}
    if about["average"] is not None:
        size = (plan.n_params + plan.n_state,)
        shapes |= dict.fromkeys(("average", "last", "held"), size)
    _check_tensors(tensors, {n: s for n, s in shapes.items() if 0 not in s}, net.dtype)
    slots = tensors.get("slots", np.empty(shapes["slots"], net.dtype))
    state = TrainingState(optimizer, slots, net._statistics, **counters)
    state.progress = _progress(about["progress"], state, check_schedule)
    state.average = _average(about["average"], state, tensors)
    return state


def _check_tensors(tensors: dict[str, np.ndarray], shapes: dict, dtype: np.dtype) -> None:
    for name in sorted(tensors.keys() ^ shapes.keys()):
        verb = "lacks" if name in shapes else "has"
        raise ValueError(f"it {verb} the tensor {shown(_PREFIX + name)}, unlike its training")
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype != dtype:
            raise ValueError(
                f"the tensor {_PREFIX}{name} is {tensor.dtype} of shape {tensor.shape}, not "
                f"{dtype} of shape {shape}"
            )
        if not is_finite(tensor.reshape(-1)):
            raise ValueError(f"the tensor {_PREFIX}{name} has elements that are not finite")


def _optimizer(config: dict, check_schedule) -> Optimizer:
    kinds = {kind.__name__: kind for kind in optimizers.ALL}
    arguments = _arguments(config, kinds, "the optimizer")
    kind = kinds[config["name"]]
    for name, value in arguments.items():
        place = f"the optimizer, {name}"
        if name == "adamw" and type(value) is dict:
            arguments[name] = _optimizer(value, check_schedule)
        elif type(value) is dict and "schedule" in value:
            check_schedule(value, place)
            arguments[name] = schedules.from_config(value)
        elif type(value) is dict and name not in ("lr_factors", "decay_factors"):
            raise ValueError(f"{place} is {shown(value)}")
    return kind(**arguments)


def _arguments(config: dict, kinds: dict[str, Any], place: str) -> dict[str, Any]:
    """The arguments of a declaration, which are all that it has."""
    arguments = dict(config)
    name = arguments.pop("name", None)
    if type(name) is not str or name not in kinds:
        raise ValueError(f"{place} is {shown(name)}, none of {', '.join(kinds)}")
    wanted = {field.name for field in fields(kinds[name])}
    if arguments.keys() != wanted:
        raise ValueError(f"{place} {name} has {shown(sorted(arguments))}, not {sorted(wanted)}")
    for key, value in arguments.items():
        if type(value) not in (*_PLAIN, dict):
            raise ValueError(f"{place}: {key} is {shown(value)}")
    return arguments


def _progress(about: dict | None, state: TrainingState, check_schedule) -> Progress | None:
    if about is None:
        return None
    check_fields(about, _PROGRESS, "progress")
    check_schedule(about["schedule"], "the schedule of fit")
    step = whole_number(about["step"], "step of progress", 0, state.total_steps)
    epoch = whole_number(about["epoch"], "epoch of progress", 0, state.epoch)
    plateau = about["plateau"]
    if plateau is not None:
        check_fields(plateau, _PLATEAU, "plateau")
        real_number(plateau["value"], "value of plateau", least=0)
        for name in ("waited", "cooling"):
            whole_number(plateau[name], name, 0, _MOST)
        plateau = Plateau(**plateau)
    return Progress(schedules.from_config(about["schedule"]), step, epoch, plateau)


def _average(about: dict | None, state: TrainingState, tensors: dict) -> AverageState | None:
    if about is None:
        return None
    check_fields(about, _AVERAGE, "average")
    kinds: dict[str, type[Average]] = {"EMA": EMA, "SWA": SWA}
    arguments = _arguments(about["rule"], kinds, "the average")
    rule = kinds[about["rule"]["name"]](**arguments)
    first = whole_number(about["first"], "first of average", 0, _MOST)
    first_step = whole_number(about["first_step"], "first_step", 0, state.total_steps)
    first_epoch = whole_number(about["first_epoch"], "first_epoch", 0, state.epoch)
    return AverageState(
        rule, tensors["average"], first, first_step, first_epoch,
        tensors["last"], tensors["held"],
    )  # fmt: skip
