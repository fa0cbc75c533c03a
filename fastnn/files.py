"""Model files: safetensors with a JSON description in the header.

Files may come from an untrusted source. The safetensors library checks that the tensors lie within
the file and cover it. This module bounds the description before it parses it, and reads only
float32 and float64, so that memory stays within a small multiple of the file's size. Labels are
read exactly as they were written or not at all. :mod:`fastnn.loading` checks the rest, and
:mod:`fastnn.checkpoint_files` that of checkpoints, which are read by the same means.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from . import object_labels, safe_writes
from .checks import is_finite
from .errors import CheckpointError, ModelFileError


@dataclass(frozen=True)
class Kind:
    """A kind of files.

    Attributes
    ----------
    key : str
        Where the metadata of safetensors hold the description.
    name, is_for : str
        What it is, and what reads it.
    error : type
        What a file raises that is not an intact one of this kind.
    advice : str
        What to do then.
    format : int
        Version of the description; incremented when older fastnn can no longer read it.
    """

    key: str
    name: str
    is_for: str
    error: type[ValueError]
    advice: str
    format: int


MODEL = Kind("fastnn", "model", "fastnn.load", ModelFileError, "save the model again", 2)
CHECKPOINT = Kind(
    "fastnn checkpoint", "checkpoint", "fit(..., checkpoint=..., resume=True)", CheckpointError,
    "begin anew with resume=False, which replaces it", 1,
)  # fmt: skip

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
    "O": (bool, int, float, str), "T": (str,),
}  # fmt: skip

#: The type of labels of NumPy's StringDType in a file; its strings have no common length.
_STRINGS = "T"

#: Most characters of a label, and most bytes of an array of labels besides 64 per character.
_MAX_LABEL, _LABEL_BYTES = 10_000, 1 << 20


def write(path, tensors: dict[str, np.ndarray], description: dict) -> None:
    """Write a model to a file; an old file is replaced once all is on disk.

    Raises
    ------
    OSError
        If the directory does not exist or cannot be written; an old file is then untouched.
    ValueError
        If `read` would refuse the file: a tensor is not finite, or the description too large.
    """
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise ValueError(
                f"{name} has elements that are infinite or not a number, and such a model cannot "
                "be loaded: set them, or fit again with a smaller learning rate"
            )
    text = described(MODEL, description)
    safe_writes.replace(Path(path), serialized(tensors, {MODEL.key: text}))


def described(kind: Kind, description: dict) -> str:
    """The text of a description, which :func:`parse` reads.

    Raises
    ------
    ValueError
        If it would not.
    """
    text = json.dumps({"format": kind.format, **description}, allow_nan=False)
    parse(text)
    return text


def serialized(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> list:
    """The parts of a safetensors file, one after another; tensors are not copied."""
    header: dict[str, dict] = {"__metadata__": dict(metadata)}
    parts, end = [], 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):
        array = np.ascontiguousarray(tensors[name])
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": f"F{8 * array.itemsize}",
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
        parts.append(array.reshape(-1).view(np.uint8).data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little") + text, *parts]


def read(
    path, kind: Kind = MODEL, look: Callable[[dict, dict, dict], None] | None = None
) -> tuple[dict[str, np.ndarray], dict]:
    """The tensors and the description of a file.

    Parameters
    ----------
    path : str or path
    kind : Kind
    look : callable, optional
        ``look(description, metadata, shapes)`` is called before any tensor is read; `shapes` has
        the type and the shape of each by name.

    Raises
    ------
    FileNotFoundError, OSError
        If there is no such file, or it cannot be read.
    ModelFileError, CheckpointError
        If it is truncated, damaged or not of this kind.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a directory, not a {kind.name} file")
    if not path.is_file():
        raise FileNotFoundError(f"there is no {kind.name} file {str(path)!r}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_kind(path, kind, metadata)
            description = parse(metadata[kind.key])
            names = file.keys()
            if len(names) > MAX_TENSORS:
                raise ValueError(f"it has {len(names):,} tensors, more than {MAX_TENSORS:,}")
            version = description.pop("format", None)
            _check_version(path, kind, version)
            shapes = {name: _type_and_shape(file, name) for name in names}
            if look is not None:
                look(description, metadata, shapes)
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise kind.error(
            f"{str(path)!r} is no intact safetensors file ({printable(error)}): {kind.advice}"
        ) from None
    except kind.error:
        raise
    except ValueError as error:
        raise kind.error(f"{str(path)!r} is damaged: {error}; {kind.advice}") from None
    return tensors, description


def _check_kind(path: Path, kind: Kind, metadata: dict) -> None:
    if kind.key in metadata:
        return
    for other in (MODEL, CHECKPOINT):
        if other.key in metadata:
            raise kind.error(
                f"{str(path)!r} is a {other.name} of fastnn, no {kind.name}: it is for "
                f"{other.is_for}"
            )
    raise kind.error(f"{str(path)!r} is a safetensors file, but no {kind.name} of fastnn")


def _check_version(path: Path, kind: Kind, version) -> None:
    if type(version) is not int or version < 1:
        raise kind.error(
            f"{str(path)!r} is damaged: its format is {shown(version)}, which is no version; "
            f"{kind.advice}"
        )
    if version > kind.format:
        raise kind.error(
            f"{str(path)!r} has format {version}, but this fastnn reads format {kind.format}: "
            "install a newer fastnn"
        )


def _type_and_shape(file, name: str) -> tuple[str, tuple[int, ...]]:
    """Type and shape of a tensor, checked before it is read."""
    part = file.get_slice(name)
    kind, shape = part.get_dtype(), part.get_shape()
    if kind not in _TYPES:
        raise ValueError(f"the tensor {shown(name)} is {kind}, not F32 or F64")
    if 0 in shape:
        raise ValueError(f"the tensor {shown(name)} is empty: its shape is {shown(shape)}")
    return kind, tuple(shape)


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
        plain, dtype = _plain(classes)
        if classes.dtype.kind in "US" and classes.nbytes > _label_bytes(plain):
            dtype = np.array(classes.tolist()).dtype.str  # as wide as the longest label, no wider
        read_labels(plain, dtype)
    return {
        "kind": targets.kind,
        "vector": targets.vector,
        "classes": plain,
        "classes_dtype": dtype,
    }


def _plain(classes: np.ndarray) -> tuple[list, str]:
    """Labels as values that JSON can hold, and their type; bytes become text."""
    if classes.dtype.kind == "O":
        return object_labels.described(classes)
    if classes.dtype.kind == "T":
        return classes.tolist(), _STRINGS
    plain = classes.tolist()
    if classes.dtype.kind == "S":
        plain = [label.decode("latin-1") for label in plain]
    for label in plain:
        if not isinstance(label, str | int | float):
            raise TypeError(
                f"labels of type {type(label).__name__} cannot be written to a file: "
                "fit on text or numbers"
            )
    return plain, classes.dtype.str


def read_labels(labels: list, dtype_name: str) -> np.ndarray:
    """Labels as an array: sorted, distinct, and each exactly as in the file.

    Raises
    ------
    ValueError
        If they are not, or cannot be the labels of a fit.
    """
    dtype = _label_dtype(dtype_name)
    if dtype is None:
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
    if object_labels.are_named(dtype_name):
        return object_labels.read(labels, dtype_name)
    values = [label.encode("latin-1") for label in labels] if dtype.kind == "S" else labels
    with np.errstate(over="ignore"):
        array = np.array(values, dtype=dtype)
    if array.tolist() != values:
        raise ValueError(f"the type {dtype_name} does not hold all of the labels {shown(labels)}")
    return array


def _label_dtype(name: str) -> np.dtype | None:
    """The type of an array of labels by its name in a file; None if it is none."""
    if object_labels.are_named(name):
        return np.dtype(object)
    if name == _STRINGS:
        if not hasattr(np.dtypes, "StringDType"):
            raise ValueError("its labels are of NumPy 2's StringDType: install NumPy 2")
        return np.dtypes.StringDType()
    dtype = np.dtype(name) if _LABEL_DTYPE.fullmatch(name) else None
    return dtype if dtype is not None and dtype.str == name else None


def _label_bytes(labels: list[str]) -> int:
    """Most bytes of an array of labels; every label takes as much as the longest."""
    return _LABEL_BYTES + 64 * sum(map(len, labels))
