"""What a fit is, as plain values: two fits with equal descriptions take the same steps.

A checkpoint holds the description of its fit, and a fit that is to go on from it is compared. The
text of an object is the same in every process: functions are known by their names alone.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterator, Mapping, Set
from dataclasses import is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from .activations import ActivationFunction
from .averages import SWA
from .engines.csr import CSR
from .engines.workspace import Data
from .optimizer import Optimizer
from .schedules import Schedule
from .targets import Target

if TYPE_CHECKING:
    from .network import Network
    from .run import Fit
    from .settings import Settings

#: Rows of X whose values are compared, besides the last one.
_ROWS = 1000

#: Characters of a text, and elements of an array, beyond which a checksum stands for the rest.
_LONG, _MANY = 4000, 50

#: Characters of a text in a message, and how many of them may be equal to the other's.
_SHOWN, _EQUAL = 120, 40

#: What a description says of what is no part of it.
_ABSENT = "nothing"


def describe(
    net: Network, settings: Settings, fit: Fit, data: Data, names: list[str], target: Target,
    loss, valid: Data | None,
) -> dict[str, Any]:  # fmt: skip
    """The description of a prepared fit; all but its number of epochs.

    Parameters
    ----------
    net : Network
    settings : Settings
    fit : Fit
    data : Data
        The training rows, in their first order.
    names : list of str
        The names of an epoch's values.
    target : Target
    loss : LossFunction
    valid : Data or None
        The validation rows.
    """
    plan, update = fit.ws.plan, fit.ws.update
    moved = [p.name for p in plan.parameters if update.trains(p.offset, p.offset + p.size)]
    moved += [s.name for s in plan.state if update.moves_statistics(s.offset)]
    about: dict[str, Any] = {
        "layers": [text_of(layer) for layer in net.layers],
        "dtype": net.dtype.name,
        "seed": str(net.seed),
    }
    others: dict[str, Any] = {
        "n_inputs": data.X.shape[1], "l1": net.l1, "l2": net.l2,
        "penalties": net.penalties, "input_scale": net.input_scale,
        "loss": loss.config(), "optimizer": settings.optimizer, "batch_size": data.batch_size,
        "accumulate": settings.accumulate, "separate batches": data.separate,
        "steps": settings.steps, "initial_epoch": settings.initial_epoch,
        "shuffle": settings.shuffle, "what is trained": moved, "ema or swa": settings.average,
        "schedule": settings.schedule, "early_stopping": settings.early_stopping,
        "the values of an epoch": names,
        "the form of y": (target.kind, target.vector, target.classes),
        **_described_data("", data),
    }  # fmt: skip
    if settings.augment:
        others["augment"] = settings.augment
    if valid is not None:
        others |= _described_data("validation ", valid)
    return about | {name: text_of(value) for name, value in others.items()}


def lasting(settings: Settings, plan) -> str | None:
    """What depends on the number of steps of the whole fit, or None."""
    average = settings.average
    if isinstance(average, SWA) and average.is_fraction:
        return f"{average}"
    given = [settings.schedule, *(rates.schedule for rates in plan.schedules)]
    for schedule in [*given, *_schedules(settings.optimizer)]:
        if isinstance(schedule, Schedule) and schedule.lasts_a_fit:
            return f"{schedule!r}"
    return None


def _schedules(optimizer: Optimizer) -> Iterator[Any]:
    for value in vars(optimizer).values():
        if isinstance(value, Optimizer):
            yield from _schedules(value)
        else:
            yield value


def difference(there: dict, here: dict) -> str | None:
    """The first thing in which two descriptions differ, or None; the first one may be hostile."""
    for name in [*here, *there]:
        given, own = there.get(name, _ABSENT), here.get(name, _ABSENT)
        if given == own:
            continue
        if isinstance(given, list) and isinstance(own, list):
            if len(given) != len(own):
                given, own = f"{len(given)} of them", f"{len(own)}"
            else:
                at = next(at for at, own_layer in enumerate(own) if own_layer != given[at])
                name, given, own = f"layer {at}", given[at], own[at]
        given, own = _windows(given, own)
        return f"{_printable(name)} is {given} there, but {own} here"
    return None


def _windows(*texts) -> list[str]:
    """Printable texts, of which long ones are cut to where they begin to differ."""
    shown = [_printable(text) for text in texts]
    if max(map(len, shown)) <= _SHOWN:
        return shown
    pairs = zip(*shown, strict=False)
    equal = next((at for at, pair in enumerate(pairs) if len(set(pair)) > 1), 0)
    begin = max(0, equal - _EQUAL)
    windows = [text[begin : begin + _SHOWN] for text in shown]
    return [
        ("..." if begin else "") + window + ("..." if begin + _SHOWN < len(text) else "")
        for window, text in zip(windows, shown, strict=True)
    ]


def _printable(text) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(text)[: _LONG + 100])


def _described_data(prefix: str, data: Data) -> dict[str, Any]:
    """The description of rows: their number and type, and checksums."""
    n = len(data.X)
    sample = np.append(np.arange(0, n, max(1, n // _ROWS)), n - 1)
    arrays = {"y": data.labels if data.Y is None else data.Y, "weights of rows": data.weights}
    found = {
        "rows of X": n, "type of X": data.X.dtype, "values of X": _checksum_of_rows(data.X, sample),
        "numbers of the rows": "all" if data.order is None else _checksum(data.order),
    }  # fmt: skip
    for name, array in arrays.items():
        found[name] = None if array is None else f"{array.shape} with checksum {_checksum(array)}"
    return {prefix + name: value for name, value in found.items()}


def _checksum_of_rows(X: np.ndarray | CSR, rows: np.ndarray) -> str:
    """A checksum of some rows; that of sparse ones is that of their elements that are not 0."""
    if not isinstance(X, CSR):
        return _checksum(X[rows])
    places, columns, values = X.stored(rows)
    order = np.lexsort((columns, places))
    order = order[values[order] != 0]
    parts = (places[order], columns[order].astype(np.int64), values[order])
    return " ".join(_checksum(part) for part in parts)


def _checksum(array: np.ndarray) -> str:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return hashlib.sha256(little.reshape(-1).view(np.uint8).data).hexdigest()[:16]


def text_of(value) -> str:
    """An object as text that does not depend on the process; a long one ends in a checksum."""
    text = _text(value)
    if len(text) <= _LONG:
        return text
    return f"{text[:_LONG]}... with checksum {_checksum(np.frombuffer(text.encode(), np.uint8))}"


@functools.singledispatch
def _text(value) -> str:
    kind = type(value)
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, ActivationFunction) and kind is ActivationFunction:
        return value.code.name
    if kind.__module__.startswith("fastnn.") or is_dataclass(value):
        return f"{kind.__name__}({', '.join(_arguments(value))})"
    return f"{kind.__module__}.{kind.__qualname__}"


def _arguments(value) -> Iterator[str]:
    """The arguments of a declaration that are not their defaults."""
    parameters = inspect.signature(type(value)).parameters
    if any(not hasattr(value, name) for name in parameters):  # it keeps them in another form
        for name, argument in vars(value).items():
            yield f"{name}={text_of(argument)}"
        return
    for name, parameter in parameters.items():
        text = text_of(getattr(value, name))
        if parameter.default is parameter.empty:
            yield text if parameter.kind != parameter.KEYWORD_ONLY else f"{name}={text}"
        elif text != text_of(parameter.default):
            yield f"{name}={text}"


@_text.register
def _(value: bool | int | float | complex | str | bytes | None) -> str:
    return repr(value)


@_text.register
def _(value: Enum) -> str:
    return value.name


@_text.register
def _(value: np.generic) -> str:
    return text_of(value.item())


@_text.register
def _(value: np.dtype) -> str:
    return value.name


@_text.register
def _(value: np.ndarray) -> str:
    if value.dtype.kind == "O" or value.size <= _MANY:
        return text_of(value.tolist())
    return f"{value.dtype} of shape {value.shape} with checksum {_checksum(value)}"


@_text.register
def _(value: list | tuple) -> str:
    return f"[{', '.join(map(text_of, value))}]"


@_text.register
def _(value: Set) -> str:
    return f"{{{', '.join(sorted(map(text_of, value)))}}}"


@_text.register
def _(value: Mapping) -> str:
    return f"{{{', '.join(f'{text_of(k)}: {text_of(v)}' for k, v in value.items())}}}"


@_text.register
def _(value: functools.partial) -> str:
    return f"partial({text_of(value.func)}, {text_of(value.args)}, {text_of(value.keywords)})"
