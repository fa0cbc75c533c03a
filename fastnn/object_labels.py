"""Labels in object arrays, as JSON values and the names of their types, and back.

An object array may hold Python's own values, scalars of NumPy, or both. JSON has neither bytes nor
NumPy's types, so a file names the types of such labels beside their values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Types of labels by name; the values of the first four are also those of JSON.
_PYTHON: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str, "bytes": bytes}
_NUMPY: dict[str, type] = {
    "numpy.bool": np.bool_, "numpy.str": np.str_, "numpy.bytes": np.bytes_,
    **{
        f"numpy.{name}": np.dtype(name).type
        for name in (
            "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
            "float16", "float32", "float64",
        )
    },
}  # fmt: skip
_TYPES = {**_PYTHON, **_NUMPY}

#: What a file calls object labels all of which are values of JSON.
PLAIN = "|O"

#: What the names of types begin with; one name is that of all labels.
_NAMED = "O:"


def described(labels: np.ndarray) -> tuple[list, str]:
    """The labels as values of JSON, with the text that names their types.

    Raises
    ------
    TypeError
        If a label is neither text, bytes nor a number.

    Examples
    --------
    >>> described(np.array([b"no", b"yes"], dtype=object))
    (['no', 'yes'], 'O:bytes')
    """
    values = list(labels)
    names = [_name(value) for value in values]
    if all(name in _PYTHON and name != "bytes" for name in names):
        return values, PLAIN
    plain = [_plain(value) for value in values]
    return plain, _NAMED + ",".join(names[:1] if len(set(names)) == 1 else names)


def are_named(dtype_name: str) -> bool:
    """Whether a file names the types of its labels, which are objects."""
    return dtype_name.startswith(_NAMED)


def read(labels: list, dtype_name: str) -> np.ndarray:
    """The labels of :func:`described` as an array of objects, each of its own type.

    Raises
    ------
    ValueError
        If a type is none of labels, or the labels do not have these types.

    Examples
    --------
    >>> read(["no", "yes"], "O:bytes")
    array([b'no', b'yes'], dtype=object)
    """
    names = dtype_name.removeprefix(_NAMED).split(",")
    if len(names) == 1:
        names *= len(labels)
    if len(names) != len(labels):
        raise ValueError(f"{len(labels)} labels have {len(names)} types")
    array = np.empty(len(labels), dtype=object)
    for index, (label, name) in enumerate(zip(labels, names, strict=True)):
        array[index] = _typed(label, name)
    if len({isinstance(label, bytes) for label in array}) > 1:
        raise ValueError("the labels mix bytes with others, which have no order")
    if described(array)[1] != dtype_name:  # two texts for the same types
        raise ValueError("the types of the labels are not written as this fastnn writes them")
    return array


def _name(value) -> str:
    """The name of a label's type; an enumeration's member counts as what it is derived from."""
    for name, known in _TYPES.items():
        if type(value) is known:
            return name
    if isinstance(value, np.integer):  # a C type of the same size as another, such as long long
        return f"numpy.{value.dtype.name}"
    if not isinstance(value, np.generic):
        for name in ("bool", "int", "float", "str", "bytes"):
            if isinstance(value, _PYTHON[name]):
                return name
    raise TypeError(
        f"labels of type {type(value).__name__} cannot be written to a file: fit on text or numbers"
    )


def _plain(value):
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _typed(label: Any, name: str):
    """A value of JSON as a label of that type."""
    kind = _TYPES.get(name)
    if kind is None:
        raise ValueError(f"labels of the type {name[:80]!r} are not read")
    if issubclass(kind, str | bytes):
        expected: type = str
    elif issubclass(kind, bool | np.bool_):
        expected = bool
    else:
        expected = float if issubclass(kind, float | np.floating) else int
    found, matches = None, type(label) is expected
    if matches:
        try:
            given = label.encode("latin-1") if issubclass(kind, bytes) else label
            with np.errstate(over="ignore"):
                found = kind(given)
        except (OverflowError, UnicodeEncodeError):
            found = None
    if found is None or _plain(found) != label:
        raise ValueError(f"a label does not have its type, {name}")
    return found
