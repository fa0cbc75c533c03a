"""What ``help()`` shows of named objects such as ``activations.relu``, and hides of classes.

A module that has such objects lists them in a table of its docstring, from which the text of each
is made. Methods that only fastnn itself calls are not listed by ``help()`` of a public class.
"""

from __future__ import annotations

import functools
import textwrap
from abc import ABCMeta
from collections.abc import Callable, Mapping


class Public(type):
    """Metaclass of public classes: ``class Layer(metaclass=Public, hides=("lower",))``.

    ``help()`` and ``dir()`` of the class and of its subclasses leave out the names in `hides`.
    """

    _hides: frozenset[str]

    def __new__(mcs, name, bases, namespace, hides=(), **named):
        made = super().__new__(mcs, name, bases, namespace, **named)
        made._hides = frozenset(hides).union(*(getattr(base, "_hides", ()) for base in bases))
        return made

    def __init__(cls, name, bases, namespace, hides=(), **named):
        super().__init__(name, bases, namespace, **named)

    def __dir__(cls):
        return [name for name in super().__dir__() if name not in cls._hides]


class PublicABC(Public, ABCMeta):
    """The same for abstract classes."""


class _Doc(str):
    """The ``__doc__`` of a class some of whose objects have a text of their own."""

    of_objects: dict[object, Callable[[], str]]

    def __get__(self, given, owner=None):
        make = None if given is None else self.of_objects.get(given)
        return str(self) if make is None else make()


def describe(objects: Mapping[str, object], module_doc: str | None, text) -> None:
    """Give each named object a docstring: ``text(name, object, line of the module's table)``."""
    lines = table(module_doc or "")
    for name, one in objects.items():
        if name in lines:
            kind = type(one)
            doc = vars(kind).get("__doc__")
            if not isinstance(doc, _Doc):
                doc = kind.__doc__ = _Doc(doc or "")
                doc.of_objects = {}
            doc.of_objects[one] = functools.partial(text, name, one, lines[name])


def table(doc: str) -> dict[str, list[str]]:
    """The cells of the table of a docstring by the name in its first column.

    Examples
    --------
    >>> table('''
    ... ====  =======
    ... name  text
    ... ====  =======
    ... ``a``   one,
    ...       two
    ... ====  =======
    ... ''')
    {'a': ['one, two']}
    """
    found: dict[str, list[str]] = {}
    rules, name = 0, ""
    starts: list[int] = []
    for line in doc.splitlines():
        if line.startswith("==="):
            rules += 1
            starts = [at for at in range(len(line)) if f" {line}"[at : at + 2] == " ="]
        elif rules == 2:
            ends = [*starts[1:], len(line)]
            cells = [line[at:end].strip() for at, end in zip(starts, ends, strict=True)]
            if cells[0]:
                name = cells[0].strip("`")
                found[name] = [""] * (len(cells) - 1)
            found[name] = [
                f"{old} {new}".strip() for old, new in zip(found[name], cells[1:], strict=True)
            ]
    return found


def activation(name: str, function, cells: list[str]) -> str:
    """The docstring of an activation."""
    formula, source = cells
    z = [-1.0, 0.0, 2.0]
    return f"""{_filled(f"{name}(z) = {formula}{_of(source)}.")}

It works on any array; layers take its name, ``Dense(10, "{name}")``, or the object,
``Dense(10, activations.{name})``.

Examples
--------
>>> from fastnn import activations
>>> activations.{name}({z}).round(3)
{function(z).round(3)!r}
>>> activations.{name}.derivative({z}).round(3)
{function.derivative(z).round(3)!r}
"""


def loss(name: str, function, cells: list[str]) -> str:
    """The docstring of a loss."""
    y, a = ([[1.0]], [[0.5, 2.0]]) if name == "gaussian_nll" else ([[0.0, 1.0]], [[0.25, 0.5]])
    return f"""{_filled(f"{name}: {cells[0]}.")}

A fit takes its name, ``fit(X, y, loss="{name}")``, or the object,
``losses.{name}``.
With targets y and outputs a it is a function, and so is its derivative with respect to a.

Examples
--------
>>> from fastnn import losses
>>> y, a = {y}, {a}
>>> round(losses.{name}(y, a), 4)
{round(function(y, a), 4)!r}
>>> losses.{name}.derivative(y, a).round(4)
{function.derivative(y, a).round(4)!r}
"""


def initializer(name: str, rule, cells: list[str]) -> str:
    """The docstring of an initialiser."""
    return f"""{_filled(f"{name}: {cells[0]}, for n_in inputs and n_out outputs.")}

A layer takes its name, ``Dense(10, init="{name}")``, or the object,
``initializers.{name}``.

Examples
--------
>>> from fastnn import initializers
>>> initializers.{name}.values((2, 3), seed=0, block=0).round(3)
{rule.values((2, 3), seed=0, block=0).round(3)!r}
"""


def _of(source: str) -> str:
    return f" ({source})" if source else ""


def _filled(text: str) -> str:
    return textwrap.fill(text, 96)
