"""Build a network from the description in a model file, checking all of it.

A description is what :meth:`fastnn.Sequential.save` writes: the network's ``config()`` with its
loss and its targets. Nothing in a file is trusted. The types of all values are checked first; then
the constructors of layers, loss and targets check their values; the tensors are compared with the
parameters of the lowered network before memory for the parameters is allocated.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

from . import files, initializers, layers, losses, training_files
from .checks import is_finite
from .custom_loss import Custom
from .errors import ModelFileError
from .fields import (
    BOOL,
    INT,
    INT_OR_NULL,
    LIST,
    LIST_OR_NULL,
    NUMBER,
    NUMBER_OR_NULL,
    NUMBER_OR_OBJECT,
    NUMBER_OR_STR,
    OBJECT,
    OBJECT_OR_NULL,
    STR,
    STR_OR_NULL,
    STR_OR_OBJECT,
    check_fields,
)  # fmt: skip
from .files import printable, shown
from .losses import LossFunction
from .model import Sequential
from .tables import Loss
from .targets import CLASSES, LABELS, SIGNS, VALUES, Target

#: Types of the values of a description, by key.
_NETWORK = {
    "layers": LIST, "n_inputs": INT, "seed": INT, "dtype": STR, "l1": NUMBER, "l2": NUMBER,
    "penalties": STR, "input_scale": NUMBER, "loss": OBJECT_OR_NULL, "target": OBJECT_OR_NULL,
    "feature_names": LIST_OR_NULL, "training": OBJECT_OR_NULL,
}  # fmt: skip
_LOSS = {
    "name": STR, "label_smoothing": NUMBER, "delta": NUMBER, "gamma": NUMBER, "q": LIST,
    "factor": NUMBER,
}  # fmt: skip
_CUSTOM_LOSS = {"name": STR, "function": STR}
_TARGET = {"kind": STR, "vector": BOOL, "classes": LIST_OR_NULL, "classes_dtype": STR_OR_NULL}
#: The same for layers, activations and initialisers, and for schedules. Enter every new argument
#: that is written to files here.
_LAYER = {
    "layer": STR, "layers": LIST, "units": INT, "activation": STR_OR_OBJECT,
    "init": STR_OR_OBJECT, "bias_init": STR_OR_OBJECT, "l1": NUMBER, "l2": NUMBER,
    "shared": BOOL, "max_norm": NUMBER, "columns": LIST, "pieces": INT, "bias": BOOL,
    "rate": NUMBER_OR_OBJECT, "scale_at": STR,
    "momentum": NUMBER, "epsilon": NUMBER, "affine": BOOL, "groups": INT,
    "name": STR, "slope": NUMBER, "alpha": NUMBER,
    "initializer": STR, "value": NUMBER, "std": NUMBER, "low": NUMBER, "high": NUMBER,
    "gain": NUMBER, "uniform": BOOL, "mode": STR,
    "channels": INT_OR_NULL, "factor": NUMBER, "offset": NUMBER, "clip": NUMBER_OR_NULL,
    "strategy": NUMBER_OR_STR, "indicators": BOOL, "n_quantiles": INT, "kind": STR,
}  # fmt: skip
_SCHEDULE = {
    "schedule": STR, "start": NUMBER, "end": NUMBER, "peak": NUMBER, "steps": INT_OR_NULL,
    "power": NUMBER, "decay": NUMBER, "compound": BOOL, "factor": NUMBER, "every": INT,
    "rate": NUMBER, "numbers": LIST, "flat": NUMBER, "T_0": INT, "T_mult": INT, "up": INT,
    "down": INT_OR_NULL, "mode": STR, "gamma": NUMBER, "pct_start": NUMBER, "div": NUMBER,
    "final_div": NUMBER, "strategy": STR, "inner": OBJECT, "start_factor": NUMBER_OR_NULL,
    "parts": LIST, "patience": INT, "metric": STR, "threshold": NUMBER, "threshold_mode": STR,
    "cooldown": INT, "least": NUMBER,
}  # fmt: skip
_PART = {"of": OBJECT, "steps": INT_OR_NULL}

#: Values of the keys that files of the first versions lack.
_DEFAULTS = {
    "l1": 0.0,
    "l2": 0.0,
    "penalties": "full",
    "input_scale": 1.0,
    "feature_names": None,
    "training": None,
}


def load(path) -> Sequential:
    """Read a network that :meth:`Sequential.save` wrote.

    A file from an untrusted source is safe to load: all of it is checked, no code in it runs, and
    memory stays within a small multiple of its size.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    Sequential
        With equal parameters, bit for bit.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If the file is truncated, damaged, or not a model of fastnn.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.load("no such file")
    Traceback (most recent call last):
    FileNotFoundError: there is no model file 'no such file'
    """
    tensors, description = files.read(path)
    try:
        return _network(description, tensors)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{str(path)!r} is damaged, or another program wrote it: {printable(error)}; "
            "save the model again"
        ) from error


def _network(description: dict, tensors: dict[str, np.ndarray]) -> Sequential:
    has_state, description = "training" in description, _DEFAULTS | description
    check_fields(description, _NETWORK, "the description")
    loss, target = description.pop("loss"), description.pop("target")
    if (loss is None) != (target is None):
        raise ValueError("it has a loss without targets, or targets without a loss")
    names, about = description.pop("feature_names"), description.pop("training")
    net = _unfitted(description)
    net.feature_names_in_ = _checked_names(names, net.n_inputs)
    tensors, of_training = training_files.split(tensors)
    _check_tensors(net, tensors)
    plan = net.lower(None)
    net.adopt(
        {record.name: tensors[record.name] for record in plan.parameters},
        {record.name: tensors[record.name] for record in plan.state},
    )
    if loss is not None and target is not None:
        loss_function = _read_loss(loss)
        net.lower(loss_function)  # refuses a loss that contradicts the last layer
        net.set_fitted(loss_function, read_targets(target, loss_function.code, net.n_outputs))
    net._state = training_files.read(about, of_training, net, _check_schedule)
    net._was_read = loss is not None and not has_state
    return net


def _checked_names(names: list | None, n_inputs: int | None) -> list[str] | None:
    """The names of columns: as many texts as there are features."""
    if names is not None and (
        len(names) != n_inputs or any(type(name) is not str for name in names)
    ):
        raise ValueError(f"feature_names must be {n_inputs} texts, not {shown(names)}")
    return names


# -- layers -----------------------------------------------------------------------------------


def _unfitted(config: dict) -> Sequential:
    """The network that a config describes, without parameters."""
    if config["dtype"] not in ("float32", "float64"):
        raise ValueError(f"dtype is {shown(config['dtype'])}, not 'float32' or 'float64'")
    _check_layers(config["layers"], "layer ")
    for index, given in enumerate(config["layers"]):
        with _errors_named(f"layer {index}"):
            full = layers.from_config(given).config()
        _check_complete(given, full, f"layer {index}")
    return Sequential.from_config(config, allocate=False)


@contextmanager
def _errors_named(place: str):
    """Prefix the messages of errors with a part of the description."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{place}: {error} is missing or unknown") from error
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error


def _check_layers(configs: list, place: str) -> None:
    for index, config in enumerate(configs):
        if type(config) is not dict or "layer" not in config:
            raise ValueError(f"{place}{index} is {shown(config)}, not an object with the key layer")
        _check_arguments(config, f"{place}{index}")


def _check_arguments(config: dict, place: str) -> None:
    """Check the types of a layer's arguments, and of what they are made of."""
    check_fields(config, _LAYER, place, complete=False)
    for key, value in config.items():
        if type(value) is dict and key == "rate":
            _check_schedule(value, f"{place}, {key}")
        elif type(value) is dict:
            _check_arguments(value, f"{place}, {key}")
        elif key == "columns":
            _check_whole_numbers(value, f"{place}: columns")
        elif type(value) is list:
            _check_layers(value, f"{place}.")


def _check_whole_numbers(rows: list, place: str) -> None:
    """Refuse anything but a list of lists of whole numbers."""
    for row in rows:
        if type(row) is not list or not all(type(value) is int for value in row):
            raise ValueError(f"{place} must hold lists of whole numbers, not {shown(row)}")


def _check_schedule(config: dict, place: str) -> None:
    """Check the types of a schedule's arguments, and of the schedules that it is made of."""
    check_fields(config, _SCHEDULE, place, complete=False)
    if "inner" in config:
        _check_schedule(config["inner"], f"{place}, inner")
    for index, part in enumerate(config.get("parts", ())):
        if type(part) is not dict:
            raise ValueError(f"{place}: part {index} must be an object, not {shown(part)}")
        check_fields(part, _PART, f"{place}, part {index}")
        _check_schedule(part["of"], f"{place}, part {index}")
    for number in config.get("numbers", ()):
        if type(number) not in NUMBER:
            raise ValueError(f"{place}: numbers holds {shown(number)}, not a number")


def _check_complete(given: dict, full: dict, place: str) -> None:
    """Refuse a layer whose description `given` differs from its own, `full`."""
    for key, expected in full.items():
        if key not in given:
            raise ValueError(f"{place} lacks {key}")
        value = given[key]
        if key == "init" and type(value) is str:  # a name may have meant something else once
            value = initializers.config(initializers.from_config(value))
        if type(value) is dict and type(expected) is dict:
            _check_complete(value, expected, f"{place}, {key}")
        elif type(value) is list and key == "layers":
            for index, (inner, outer) in enumerate(zip(value, expected, strict=True)):
                _check_complete(inner, outer, f"{place}.{index}")
        elif value != expected:
            raise ValueError(f"{place}: {key} must be {shown(expected)}, not {shown(value)}")


def _check_tensors(net: Sequential, tensors: dict[str, np.ndarray]) -> None:
    """Compare names, shapes and types with the layers; check that all elements are finite."""
    plan = net.lower(None)
    records = {record.name: record for record in (*plan.parameters, *plan.state)}
    for name in sorted(records.keys() ^ tensors.keys()):
        if name in records:
            raise ValueError(f"the tensor {name} of shape {records[name].shape} is missing")
        raise ValueError(f"it has the tensor {shown(name)}, which no layer has")
    for name, record in records.items():
        tensor = tensors[name]
        if tensor.shape != record.shape or tensor.dtype != net.dtype:
            raise ValueError(
                f"the tensor {name} is {tensor.dtype} of shape {tensor.shape}, but the layers "
                f"make it {net.dtype} of shape {record.shape}"
            )
        if not is_finite(tensor):
            raise ValueError(f"the tensor {name} has elements that are infinite or not a number")
        if (tensor < record.least).any():
            raise ValueError(f"the tensor {name} has elements below {record.least:g}")


# -- loss and targets -------------------------------------------------------------------------


def _read_loss(config: dict) -> LossFunction:
    if config.get("name") == Loss.custom.name:
        check_fields(config, _CUSTOM_LOSS, "the entry loss")
        return Custom.without_function(config["function"])
    check_fields(config, _LOSS, "the entry loss", complete=False)
    for number in config.get("q", ()):
        if type(number) is not float:
            raise ValueError(f"the entry loss: q holds {shown(number)}, not a fraction")
    with _errors_named(f"the loss {shown(config)}"):
        return losses.from_config(config)


def read_targets(about: dict, loss: Loss, n_outputs: int) -> Target:
    """The targets of a fit with that loss, for what `files.describe_targets` returned.

    Raises
    ------
    ValueError, TypeError
        If they do not match the loss or the outputs.
    """
    check_fields(about, _TARGET, "the entry target")
    kind, vector, classes = about["kind"], about["vector"], about["classes"]
    wide = n_outputs > 1
    possible = {
        "labels": loss in LABELS[wide],
        "one_hot": wide and not vector and loss in CLASSES,
        "multilabel": not vector and loss in SIGNS if wide else loss == Loss.binary_cross_entropy,
        "values": not (wide and vector) and loss in VALUES,
    }
    if not possible.get(kind, False):
        raise ValueError(
            f"targets of kind {shown(kind)} in {'a vector' if vector else 'columns'} do not go "
            f"with the loss {loss.name} and n_outputs={n_outputs}"
        )
    given = [about[key] is not None for key in ("classes", "classes_dtype")]
    if given != [kind == "labels"] * 2:
        raise ValueError("classes and classes_dtype go with targets of kind 'labels' and no others")
    if classes is None:
        return Target(kind, None, vector)
    if len(classes) != max(n_outputs, 2):
        raise ValueError(
            f"it has {len(classes)} labels where n_outputs={n_outputs} takes {max(n_outputs, 2)}"
        )
    return Target(kind, files.read_labels(classes, about["classes_dtype"]), vector)
