"""Model files: safetensors with a JSON description in the header, written whole or not at all.

Files may come from an untrusted source. The safetensors library checks that the tensors lie within
the file and cover it. This module bounds the description before it parses it, and reads only
float32 and float64, so that memory stays within a small multiple of the file's size. Labels are
read exactly as they were written or not at all. :mod:`fastnn.loading` checks the rest.
"""

from __future__ import annotations

import json
import math
import os
import re
import reprlib
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np

from .checks import is_finite
from .errors import ModelFileError

#: Version of the description; incremented when older fastnn can no longer read it.
FORMAT = 1

#: Bounds of a description: its characters, how deep lists and objects nest (32 nested layers take
#: about 70), and its brackets and colons (a Dense layer has up to 23).
MAX_CHARACTERS, MAX_DEPTH, MAX_SIGNS = 1 << 24, 100, 60_000

#: The most tensors that are read; a Dense layer has 2.
MAX_TENSORS = 20_000

_TYPES = ("F32", "F64")

#: Types of labels that can be written, and of their values in JSON. Bytes are written as text with
#: the same code points.
_LABEL_DTYPE = re.compile(r"[<>|](b1|[iu][1248]|f[248]|[US][1-9]\d{0,4}|O)")
_LABELS = {
    "b": (bool,), "i": (int,), "u": (int,), "f": (float,), "U": (str,), "S": (str,),
    "O": (bool, int, float, str),
}  # fmt: skip

#: Most characters of a label, and most bytes of an array of labels besides 64 per character.
_MAX_LABEL, _LABEL_BYTES = 10_000, 1 << 20


def write(path, tensors: dict[str, np.ndarray], description: dict) -> None:
    """Write tensors and description to a file; an old file is replaced once all is on disk.

    Raises
    ------
    OSError
        If the directory does not exist or cannot be written; an old file is then untouched.
    ValueError
        If `read` would refuse the file: a tensor is not finite, or the description too large.
    """
    from safetensors.numpy import save

    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise ValueError(
                f"{name} has elements that are infinite or not a number, and such a model cannot "
                "be loaded: set them, or fit again with a smaller learning rate"
            )
    text = json.dumps({"format": FORMAT, **description}, allow_nan=False)
    parse(text)
    content = save({n: np.ascontiguousarray(t) for n, t in tensors.items()}, {"fastnn": text})
    path = Path(path)
    temporary = path.parent / f".{path.name}-{os.urandom(6).hex()}"
    with open(temporary, "xb") as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            file.close()  # Windows cannot rename an open file
            os.replace(temporary, path)
        except BaseException:
            file.close()
            os.unlink(temporary)
            raise


def read(path) -> tuple[dict[str, np.ndarray], dict]:
    """The tensors and the description of a model file.

    Raises
    ------
    FileNotFoundError, OSError
        If there is no such file, or it cannot be read.
    ModelFileError
        If it is truncated, damaged or not a model of fastnn.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a directory, not a model file")
    if not path.is_file():
        raise FileNotFoundError(f"there is no model file {str(path)!r}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            description = parse(metadata["fastnn"]) if "fastnn" in metadata else None
            names = file.keys()
            if len(names) > MAX_TENSORS:
                raise ValueError(f"it has {len(names):,} tensors, more than {MAX_TENSORS:,}")
            tensors = {name: _tensor(file, name) for name in names}
    except SafetensorError as error:
        raise ModelFileError(
            f"{str(path)!r} is no intact safetensors file ({printable(error)}): "
            "save the model again"
        ) from None
    except ValueError as error:
        raise ModelFileError(f"{str(path)!r} is damaged: {error}; save the model again") from None
    if description is None:
        raise ModelFileError(f"{str(path)!r} is a safetensors file, but no model of fastnn")
    version = description.pop("format", None)
    if type(version) is not int or version < 1:
        raise ModelFileError(
            f"{str(path)!r} is damaged: its format is {shown(version)}, which is no version; "
            "save the model again"
        )
    if version > FORMAT:
        raise ModelFileError(
            f"{str(path)!r} has format {version}, but this fastnn reads format {FORMAT}: "
            "install a newer fastnn"
        )
    return tensors, description


def _tensor(file, name: str) -> np.ndarray:
    """One tensor; type and shape are checked before it is read."""
    part = file.get_slice(name)
    if part.get_dtype() not in _TYPES:
        raise ValueError(f"the tensor {shown(name)} is {part.get_dtype()}, not F32 or F64")
    if 0 in part.get_shape():
        raise ValueError(
            f"the tensor {shown(name)} is empty: its shape is {shown(part.get_shape())}"
        )
    return file.get_tensor(name)


def parse(text: str) -> dict:
    """The object that a JSON text describes: bounded, without NaN, infinity or repeated keys.

    Raises
    ------
    ValueError
        If the text is not such an object.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"the description has {len(text):,} characters, but at most {MAX_CHARACTERS:,} are read"
        )
    _check_nesting(text)
    try:
        found = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=_real,
            parse_constant=_real,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"the description is no JSON ({error})") from None
    if type(found) is not dict:
        raise ValueError(f"the description is {shown(found)}, not a JSON object")
    return found


def _check_nesting(text: str) -> None:
    """Bound lists and objects before the parser, which recurses, sees them."""
    outside_strings = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    if sum(map(outside_strings.count, "[]{}:")) > MAX_SIGNS:
        raise ValueError(
            f"the description has more than {MAX_SIGNS:,} brackets and colons, which are some "
            f"{MAX_SIGNS // 23:,} layers"
        )
    depth = 0
    for bracket in re.findall(r"[][{}]", outside_strings):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"the description nests deeper than {MAX_DEPTH} levels")


def _object(pairs: list) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        key, times = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the description has the key {shown(key)} {times} times in one object")
    return found


def _whole(text: str) -> int:
    # The length first: Python converts no more than 4300 digits, and slowly.
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"the description has the number {shown(text)}, beyond 64 bits")
    return int(text)


def _real(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the description has the number {shown(text)}, which is not finite")
    return number


def shown(value) -> str:
    """A value from a file as short, printable text for a message."""
    return _SHORT.repr(value)


def printable(error: Exception) -> str:
    """An error's text, which may quote the file: cut, and without control characters."""
    return "".join(c if c.isprintable() else "?" for c in str(error)[:500])


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


# -- labels ------------------------------------------------------------------------------------


def describe_targets(targets) -> dict | None:
    """The entry of a file for the targets of a fit, a :class:`fastnn.targets.Target` or None.

    Raises
    ------
    TypeError, ValueError
        If the labels are neither text nor numbers, or too long.
    """
    if targets is None:
        return None
    classes, plain, dtype = targets.classes, None, None
    if classes is not None:
        plain, dtype = _plain(classes), classes.dtype.str
        if classes.dtype.kind in "US" and classes.nbytes > _label_bytes(plain):
            dtype = np.array(classes.tolist()).dtype.str  # as wide as the longest label, no wider
        read_labels(plain, dtype)
    return {
        "kind": targets.kind,
        "vector": targets.vector,
        "classes": plain,
        "classes_dtype": dtype,
    }


def _plain(classes: np.ndarray) -> list:
    """Labels as values that JSON can hold; bytes become text with the same code points."""
    plain = classes.tolist()
    if classes.dtype.kind == "S":
        return [label.decode("latin-1") for label in plain]
    for label in plain:
        if not isinstance(label, str | int | float):
            raise TypeError(
                f"labels of type {type(label).__name__} cannot be written to a file: "
                "fit on text or numbers"
            )
    return plain


def read_labels(labels: list, dtype_name: str) -> np.ndarray:
    """Labels as an array: sorted, distinct, and each exactly as in the file.

    Raises
    ------
    ValueError
        If they are not, or cannot be the labels of a fit.
    """
    dtype = np.dtype(dtype_name) if _LABEL_DTYPE.fullmatch(dtype_name) else None
    if dtype is None or dtype.str != dtype_name:
        raise ValueError(
            f"labels of type {shown(dtype_name)} are not read: they must be booleans, integers, "
            "floats, text, bytes or objects"
        )
    for label in labels:
        wrong = dtype.kind in "iu" and isinstance(label, bool)
        if wrong or not isinstance(label, _LABELS[dtype.kind]):
            raise ValueError(f"the label {shown(label)} does not have the type {dtype_name}")
        if isinstance(label, str) and len(label) > _MAX_LABEL:
            raise ValueError(
                f"the label {shown(label)} has {len(label)} characters, more than {_MAX_LABEL}"
            )
        if isinstance(label, float) and not math.isfinite(label):
            raise ValueError(f"the label {label} is not finite")
    if len({isinstance(label, str) for label in labels}) > 1:
        raise ValueError(f"the labels {shown(labels)} mix text and numbers")
    for below, label in pairwise(labels):
        if not below < label:
            raise ValueError(
                f"labels must be sorted and distinct, but {shown(label)} follows {shown(below)}"
            )
    if dtype.kind in "US" and len(labels) * dtype.itemsize > _label_bytes(labels):
        raise ValueError(f"labels of type {dtype_name} take more memory than their text needs")
    if dtype.kind in "iu":
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        if not least <= labels[0] <= labels[-1] <= most:
            raise ValueError(f"labels of type {dtype_name} must lie from {least} to {most}")
    values = [label.encode("latin-1") for label in labels] if dtype.kind == "S" else labels
    with np.errstate(over="ignore"):
        array = np.array(values, dtype=dtype)
    if array.tolist() != values:
        raise ValueError(f"the type {dtype_name} does not hold all of the labels {shown(labels)}")
    return array


def _label_bytes(labels: list[str]) -> int:
    """Most bytes of an array of labels; every label takes as much as the longest."""
    return _LABEL_BYTES + 64 * sum(map(len, labels))
