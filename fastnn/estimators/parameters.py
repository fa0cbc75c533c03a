"""Parameters within parameters: ``optimizer__lr`` or ``layers__0__units`` in a grid.

scikit-learn reaches into parameters that are estimators. Those of a network are declarations, which
never change: to set an argument of one is to put a new one in its place.
"""

from __future__ import annotations

import functools
import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from .. import averages, early_stopping, losses, optimizers

#: How a parameter that may be a name or a number becomes the object that has arguments.
_LOOKUPS: dict[str, Callable[[Any], Any]] = {
    "optimizer": optimizers.get,
    "loss": losses.get,
    "early_stopping": early_stopping.get,
    "ema": lambda ema: averages.get(ema, None),
    "swa": lambda swa: averages.get(None, swa),
}

#: What has no arguments of its own.
_PLAIN = (str, bytes, bool, int, float, complex, type, type(None), Mapping)


class NestedParameters:
    """Estimators whose parameters have parameters; it comes before BaseEstimator."""

    def get_params(self, deep=True) -> dict[str, Any]:
        """The parameters by name.

        Parameters
        ----------
        deep : bool, default True
            Also the arguments of optimizer, loss, schedule, early stopping, averages and layers,
            by names such as ``optimizer__lr`` and ``layers__0__units``.

        Returns
        -------
        dict
        """
        params = super().get_params(deep=False)  # type: ignore[misc]
        if deep:
            for name, value in list(params.items()):
                params |= _flat(name, _declaration(name, value))
        return params

    def set_params(self, **params):
        """Set parameters, and arguments of parameters.

        Parameters
        ----------
        **params
            Names and values. ``optimizer__lr=0.01`` puts an optimizer with this learning rate, but
            else with the same arguments, in the place of the present one; ``layers__width=64`` is
            an argument of a function that returns layers.

        Returns
        -------
        object
            The estimator.

        Raises
        ------
        ValueError, TypeError
            If there is no such parameter, or its value is invalid.
        """
        nested: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        known = super().get_params(deep=False)  # type: ignore[misc]
        plain = {}
        for key, value in params.items():
            name, _, inner = key.partition("__")
            if name not in known:
                raise _invalid(key, self, known)
            if inner:
                nested[name][inner] = value
            else:
                plain[name] = value
        for name, value in (known | plain).items():
            if name in nested:
                plain[name] = _replaced(_lookup(name, value), nested[name], name)
        for name, value in plain.items():
            setattr(self, name, value)
        return self


def _lookup(name: str, value):
    """The object that a name or a number stands for, if it stands for one."""
    lookup = _LOOKUPS.get(name)
    if lookup is None or value is None or (isinstance(value, str) and value == "auto"):
        return value
    return lookup(value)


def _declaration(name: str, value):
    """:func:`_lookup`, or None for what only a fit will refuse."""
    try:
        return _lookup(name, value)
    except (TypeError, ValueError):
        return None


def _flat(name: str, value) -> dict[str, Any]:
    """The arguments of an object, and theirs, by their full names."""
    found: dict[str, Any] = {}
    for inner, argument in arguments_of(value).items():
        path = f"{name}__{inner}"
        found |= {path: argument, **_flat(path, argument)}
    return found


def arguments_of(value) -> dict[str, Any]:
    """What can be set of a parameter: arguments by name, items of a list by number.

    Of a function these are the arguments that have default values, or that a partial has bound.
    """
    if isinstance(value, list | tuple):
        settable = any(arguments_of(item) for item in value)
        return {str(index): item for index, item in enumerate(value)} if settable else {}
    if isinstance(value, functools.partial):
        own = {k: v for k, v in arguments_of(value.func).items() if k not in value.keywords}
        return own | value.keywords
    if isinstance(value, _PLAIN):
        return {}
    if inspect.isfunction(value):
        return _defaults(value)
    kind: Any = type(value)
    names = _signature(kind)
    if names is None or not all(hasattr(value, name) for name in names):
        return {}
    return {name: getattr(value, name) for name in names}


def _defaults(function) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty
    }


@functools.cache
def _signature(kind: type) -> tuple[str, ...] | None:
    """The names of the arguments that construct an object, or None if it takes any."""
    try:
        parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY) for p in parameters):
        return None
    names = tuple(p.name for p in parameters)
    return None if "code" in names else names  # relu or mse, which have no arguments


def _replaced(value, changes: dict[str, Any], path: str):
    """The object with some arguments changed, which may be those of arguments."""
    given = arguments_of(value)
    nested: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    new = {}
    for key, change in changes.items():
        name, _, inner = key.partition("__")
        if name not in given:
            raise _invalid(name, value, given, path)
        if inner:
            nested[name][inner] = change
        else:
            new[name] = change
    for name, inner_changes in nested.items():
        argument = new.get(name, given[name])
        new[name] = _replaced(_lookup(name, argument), inner_changes, f"{path}__{name}")
    if isinstance(value, list | tuple):
        return type(value)(new.get(str(index), item) for index, item in enumerate(value))
    if isinstance(value, functools.partial) or inspect.isfunction(value):
        return functools.partial(value, **new)
    return type(value)(**given | new)


def _invalid(name: str, value, known, path: str | None = None) -> ValueError:
    """The error for a name that is none of the known ones, in scikit-learn's words."""
    what = f"estimator {value}" if path is None else f"{path}={value!r}"
    if not known:
        return ValueError(
            f"Invalid parameter {name!r} for {what}, which has no parameters: set {path} to an "
            "object that has"
        )
    return ValueError(
        f"Invalid parameter {name!r} for {what}. Valid parameters are: {list(known)!r}."
    )
