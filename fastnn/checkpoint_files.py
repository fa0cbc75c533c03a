"""Checkpoint files: what a fit has reached, written whole and read with suspicion.

A file is safetensors with a JSON description, as a model file is. The description holds that of the
fit (:mod:`fastnn.fit_descriptions`), counters and other numbers, and a checksum of each tensor;
the metadata hold one of the description. Checksums find damage; nothing that a file says is
believed on their account: every number and every shape is checked before a tensor is read.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import files, fit_descriptions, safe_writes
from .checks import is_finite, real_number, whole_number
from .engines.workspace import Data
from .errors import CheckpointError
from .fields import (
    INT,
    INT_OR_NULL,
    LIST,
    NUMBER,
    NUMBER_OR_NULL,
    OBJECT,
    OBJECT_OR_NULL,
    STR_OR_NULL,
    check_fields,
)
from .files import CHECKPOINT, shown
from .fit_descriptions import difference

if TYPE_CHECKING:
    from .run import Fit
    from .settings import Settings

#: The largest counter; float64 holds all up to it.
_MOST = 2**53

#: Words of 8 bytes that one sum of a checksum covers.
_BLOCK = 4096

#: Numbers that JSON has not.
_NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}

_DESCRIPTION = {
    "fit": OBJECT, "n_steps": INT_OR_NULL, "counters": OBJECT, "batches": INT_OR_NULL,
    "numbers": OBJECT, "stopped": STR_OR_NULL, "threads_used": OBJECT, "history": LIST,
    "progress": OBJECT_OR_NULL, "average": OBJECT_OR_NULL, "watch": OBJECT_OR_NULL,
    "callbacks": LIST, "tensors": OBJECT,
}  # fmt: skip
_COUNTERS = dict.fromkeys(
    (
        "step",
        "total_steps",
        "epoch",
        "optimizer_epoch",
        "schedule_step",
        "steps_done",
        "epochs_done",
        "rows_trained",
        "n_rows",
    ),
    INT,
)
_NUMBERS = dict.fromkeys(("rate", "lr_factor", "elapsed", "epoch_seconds"), NUMBER)
_PROGRESS = {"step": INT, "epoch": INT, "plateau": OBJECT_OR_NULL}
_PLATEAU = {"value": NUMBER, "best": NUMBER_OR_NULL, "waited": INT, "cooling": INT}
_AVERAGE = {"first": INT, "first_step": INT, "first_epoch": INT, "lowest": NUMBER}
_WATCH = {"best": NUMBER, "best_epoch": INT_OR_NULL, "waited": INT}


@dataclass
class Reached:
    """What a fit has reached, as plain values.

    Attributes
    ----------
    counters : dict of int
        Those of the state of training, and how many steps, epochs and rows this fit has done.
    batches : int or None
        Steps that are done of an epoch under way; None between two epochs.
    numbers : dict of float
        The last and the next learning rates, and seconds.
    stopped : str or None
        Why the fit has ended early.
    threads_used : dict of str to int
        How many batches ran in how many threads.
    history : list of str
        The names of the values of an epoch.
    progress, average, watch : dict or None
        How far the schedule, the average of the weights and early stopping have got.
    callbacks : list of [str, dict]
        The class and the state of each callback that has one.
    arrays : dict of ndarray
        By name; empty ones are left out.
    """

    counters: dict[str, int]
    batches: int | None
    numbers: dict[str, float]
    stopped: str | None
    threads_used: dict[str, int]
    history: list[str]
    progress: dict[str, Any] | None
    average: dict[str, Any] | None
    watch: dict[str, Any] | None
    callbacks: list[list[Any]]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class Expected:
    """The fit that is to go on from a checkpoint.

    Attributes
    ----------
    about : dict
        Its description.
    settings : Settings
    fit : Fit
    data : Data
        The training rows.
    n_steps : int or None
        How many it takes; None if only time ends it.
    values : list of str
        The names of the values of an epoch.
    n_batches : int
        Batches of an epoch; 0 if their number is not known.
    """

    about: dict[str, Any]
    settings: Settings
    fit: Fit
    data: Data
    n_steps: int | None
    values: list[str]
    n_batches: int


def write(path: Path, about: dict, n_steps: int | None, reached: Reached) -> bool:
    """Write a checkpoint in place of an older one.

    Returns
    -------
    bool
        False if there is a number that is not finite, and nothing is written: the fit is about to
        end with an error.

    Raises
    ------
    OSError
        If it cannot be written; the older one is then untouched.
    ValueError
        If the description is too large to be read again.
    """
    arrays = reached.arrays
    if not all(is_finite(array.reshape(-1)) for name, array in arrays.items() if _is_trained(name)):
        return False
    found = {field.name: getattr(reached, field.name) for field in fields(reached)}
    del found["arrays"]
    found |= {"fit": about, "n_steps": n_steps}
    found["tensors"] = {name: checksum(array) for name, array in arrays.items()}
    text = files.described(CHECKPOINT, packed(found, "the description"))
    metadata = {CHECKPOINT.key: text, "checksum": _checksum_of_text(text)}
    safe_writes.replace(path, files.serialized(arrays, metadata))
    return True


def read(path: Path, expected: Expected) -> Reached:
    """What the fit of a checkpoint had reached.

    Raises
    ------
    FileNotFoundError, OSError
        If there is no such file, or it cannot be read.
    CheckpointError
        If it is damaged, or that of another fit.
    """
    found: dict[str, Any] = {}

    def look(description: dict, metadata: dict, shapes: dict) -> None:
        if metadata.get("checksum") != _checksum_of_text(metadata[CHECKPOINT.key]):
            raise ValueError("its description is not the one that was written")
        found.update(unpacked(description))
        _check_types(found)
        _check_same_fit(path, found, expected)
        _check_counters(found, expected)
        _check_parts(found, expected)
        _check_shapes(shapes, _shapes(found, expected), expected.fit.ws.params.dtype)

    arrays, _ = files.read(path, CHECKPOINT, look)
    for name, array in arrays.items():
        why = _damage(name, array, found["tensors"], expected.fit.ws.plan.state)
        if why is not None:
            raise CheckpointError(
                f"{str(path)!r} is damaged: its tensor {name} {why}; {CHECKPOINT.advice}"
            )
    return Reached(
        **{name: found[name] for name in _DESCRIPTION if name not in ("fit", "n_steps", "tensors")},
        arrays=arrays,
    )


def _damage(name: str, array: np.ndarray, checksums: dict, statistics) -> str | None:
    """What is wrong with a tensor."""
    if checksum(array) != checksums.get(name):
        return "is not the one that was written"
    if _is_trained(name) and not is_finite(array.reshape(-1)):
        return "has elements that are infinite or not a number"
    if name.endswith("state") and any((s.view(array) < s.least).any() for s in statistics):
        return "has statistics below their least value"
    return None


def _is_trained(name: str) -> bool:
    """Whether a tensor holds no values of the history, which may be infinite or not a number."""
    return not name.startswith("history.")


def checksum(array: np.ndarray) -> int:
    """A checksum of an array's bytes: the CRC-32 of the sums of its blocks.

    A change within one word of 8 bytes changes it for certain, and so does nearly any other. It is
    read at the speed of memory, which a CRC-32 of all bytes is not.
    """
    bytes_ = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
    size = len(bytes_) // (8 * _BLOCK) * (8 * _BLOCK)
    sums = bytes_[:size].view("<u8").reshape(-1, _BLOCK).sum(axis=1, dtype=np.uint64)
    return zlib.crc32(bytes_[size:].data, zlib.crc32(sums.astype("<u8").tobytes()))


def _checksum_of_text(text: str) -> str:
    return f"{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}"


# -- numbers that JSON has not ----------------------------------------------------------------


def packed(value, place: str):
    """A value as JSON can hold it: a number that is not finite becomes an object.

    Raises
    ------
    TypeError
        If there is something that JSON cannot hold.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        if not all(type(key) is str for key in value):
            raise TypeError(f"{place} has a key that is not text")
        return {key: packed(item, f"{place}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [packed(item, f"{place}[{at}]") for at, item in enumerate(value)]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"not finite": str(float(value))}
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"{place} is {shown(value)}, which JSON cannot hold: use numbers, text, lists")


def unpacked(value):
    """What :func:`packed` was given."""
    if isinstance(value, dict):
        if value.keys() == {"not finite"} and isinstance(value["not finite"], str):
            return _NOT_FINITE.get(value["not finite"], math.nan)
        return {key: unpacked(item) for key, item in value.items()}
    return [unpacked(item) for item in value] if isinstance(value, list) else value


# -- checks -----------------------------------------------------------------------------------


def _check_types(found: dict) -> None:
    longest = files.MAX_CHARACTERS
    check_fields(found, _DESCRIPTION, "the description", longest=longest)
    found["counters"].setdefault("schedule_step", 0)  # which files of the first versions lack
    check_fields(found["counters"], _COUNTERS, "counters")
    check_fields(found["numbers"], _NUMBERS, "numbers")
    for name, types in (("progress", _PROGRESS), ("average", _AVERAGE), ("watch", _WATCH)):
        if found[name] is not None:
            check_fields(found[name], types, name)
    if found["progress"] is not None and found["progress"]["plateau"] is not None:
        check_fields(found["progress"]["plateau"], _PLATEAU, "plateau")
    for name, count in found["threads_used"].items():
        if not re.fullmatch("[1-9][0-9]{0,5}", name) or type(count) is not int:
            raise ValueError(f"threads_used has {shown(name)}: {shown(count)}")
    for entry in found["callbacks"]:
        if type(entry) is not list or len(entry) != 2 or type(entry[0]) is not str:
            raise ValueError(f"callbacks has {shown(entry)}, not a class and its state")


def _check_same_fit(path: Path, found: dict, expected: Expected) -> None:
    """Refuse the checkpoint of another fit, by what differs first."""
    advice = "to begin anew, leave out resume=True: the file is then replaced"
    what = difference(found["fit"], expected.about)
    if what is not None:
        raise CheckpointError(
            f"{str(path)!r} is the checkpoint of another fit: {what}. To go on with that fit, "
            f"repeat its arguments and data; {advice}"
        )
    then, now = found["n_steps"], expected.n_steps
    lasting = fit_descriptions.lasting(expected.settings, expected.fit.ws.plan)
    if then != now and lasting is not None:
        raise CheckpointError(
            f"{str(path)!r} is the checkpoint of a fit of {_steps(then)}, but this one has "
            f"{_steps(now)}, and {lasting} depends on their number: give as many epochs as there; "
            f"{advice}"
        )
    done = found["counters"]["steps_done"]
    if now is not None and done > now:
        raise CheckpointError(
            f"the fit of {str(path)!r} has done {_steps(done)}, but this one has {_steps(now)} "
            f"in all: give more epochs; {advice}"
        )
    kinds = [callback_name(callback) for callback in expected.settings.callbacks]
    for name, _ in found["callbacks"]:
        if name not in kinds:
            raise CheckpointError(
                f"{str(path)!r} holds the state of a callback {shown(name)}, of which this fit "
                f"has none more: give the callbacks of that fit; {advice}"
            )
        kinds.remove(name)


def _steps(n: int | None) -> str:
    return "no known number of steps" if n is None else f"{n} steps"


def callback_name(callback) -> str:
    """The class of a callback, as files name it."""
    return f"{type(callback).__module__}.{type(callback).__qualname__}"


def _check_counters(found: dict, expected: Expected) -> None:
    counters, batches = found["counters"], found["batches"]
    for name, count in (*counters.items(), *found["threads_used"].items()):
        whole_number(count, shown(name), least=0, most=_MOST)
    steps, epochs = counters["steps_done"], counters["epochs_done"]
    n_batches = expected.n_batches
    if not n_batches:
        right = steps >= epochs + (batches or 0) and (batches or 0) >= 0
    elif batches is None:
        right = (epochs - 1) * n_batches < steps <= epochs * n_batches or epochs == steps == 0
    else:
        right = 0 <= batches <= n_batches and steps == epochs * n_batches + batches
    right = right and steps <= min(counters["step"], counters["total_steps"])
    right = right and steps + counters["schedule_step"] <= counters["step"]
    right = right and epochs + counters["optimizer_epoch"] <= counters["epoch"]
    if not right:
        raise ValueError(
            f"{steps} steps in {epochs} epochs of {n_batches}, of which {shown(batches)} in the "
            f"last one, contradict each other or {shown(counters)}"
        )
    for name, number in found["numbers"].items():
        real_number(number, name, least=0)


def _check_parts(found: dict, expected: Expected) -> None:
    """Check the history and what follows it: the schedule, the average and early stopping."""
    counters, settings = found["counters"], expected.settings
    epochs = counters["epochs_done"]
    begun_step = counters["total_steps"] - counters["steps_done"]
    begun_epoch = counters["epoch"] - epochs
    names = [*expected.values, "lr", "seconds"] if epochs else []
    if found["history"] != names:
        raise ValueError(f"its history has {shown(found['history'])}, and not {shown(names)}")
    parts = {
        "progress": settings.schedule, "average": settings.average, "watch": settings.early_stopping
    }  # fmt: skip
    for name, rule in parts.items():
        if (found[name] is None) != (rule is None):
            raise ValueError(f"{name} is {shown(found[name])} for {shown(rule)}")
    progress, average, watch = found["progress"], found["average"], found["watch"]
    if progress is not None:
        whole_number(progress["step"], "step of progress", 0, begun_step)
        whole_number(progress["epoch"], "epoch of progress", 0, begun_epoch)
        plateau = progress["plateau"]
        if plateau is not None:
            real_number(plateau["value"], "value of plateau", least=0)
            whole_number(plateau["waited"], "waited", 0, counters["epoch"])
            whole_number(plateau["cooling"], "cooling", 0, _MOST)
    if average is not None:
        whole_number(average["first"], "first of average", 0, _MOST)
        whole_number(average["first_step"], "first_step", 0, begun_step)
        whole_number(average["first_epoch"], "first_epoch", 0, begun_epoch)
    if watch is not None:
        whole_number(watch["waited"], "waited of watch", 0, epochs)
        if watch["best_epoch"] is not None:
            whole_number(watch["best_epoch"], "best_epoch", 0, epochs - 1)


def _shapes(found: dict, expected: Expected) -> dict[str, tuple[int, ...]]:
    """The shapes that the tensors must have."""
    ws, settings, epochs = expected.fit.ws, expected.settings, found["counters"]["epochs_done"]
    trained = {"params": ws.params.shape, "state": ws.state.shape, "average": ws.average.shape}
    shapes = {**trained, "slots": ws.slots.shape}
    if found["batches"] is not None:
        shapes |= {f"start.{name}": shape for name, shape in trained.items()}
        shapes["results"] = found["batches"], 2
    shapes |= {f"history.{at}": (epochs,) for at in range(len(found["history"]))}
    watch, average = found["watch"], found["average"]
    restores = watch is not None and settings.early_stopping.restore_best
    if restores and watch["best_epoch"] is not None:
        shapes |= {f"watch.{name}": shape for name, shape in trained.items()}
    if average is not None and settings.average.keep == "best" and average["lowest"] < math.inf:
        shapes["average.best"] = ws.average.shape
    return {name: shape for name, shape in shapes.items() if 0 not in shape}


def _check_shapes(given: dict, wanted: dict, dtype: np.dtype) -> None:
    for name in sorted(given.keys() ^ wanted.keys()):
        what = f"lacks the tensor {name}" if name in wanted else f"has the tensor {shown(name)}"
        raise ValueError(f"it {what}, unlike a fit that has got so far")
    for name, shape in wanted.items():
        double = name == "results" or not _is_trained(name)
        kind = "F64" if double else f"F{8 * dtype.itemsize}"
        if given[name] != (kind, shape):
            raise ValueError(f"its tensor {name} is {given[name]}, but should be {(kind, shape)}")
