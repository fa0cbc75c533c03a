"""Model files: safetensors with a JSON description in the header, written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import numpy as np

from .errors import ModelFileError

#: Raised when the description changes in a way that older versions cannot read.
FORMAT = 1


def write(path, tensors: dict[str, np.ndarray], description: dict) -> None:
    """Write tensors and description to a file, replacing it only once all is on disk.

    Raises
    ------
    OSError
        If the directory does not exist or cannot be written; an old file is then untouched.
    """
    from safetensors.numpy import save

    header = {"fastnn": json.dumps({"format": FORMAT, **description})}
    content = save({name: np.ascontiguousarray(t) for name, t in tensors.items()}, header)
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read(path) -> tuple[dict[str, np.ndarray], dict]:
    """The tensors and the description of a model file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is truncated, damaged or not a model of fastnn.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no model file {str(path)!r}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise ModelFileError(
            f"{str(path)!r} is no intact safetensors file ({error}): save the model again"
        ) from None
    if "fastnn" not in metadata:
        raise ModelFileError(f"{str(path)!r} is a safetensors file, but no model of fastnn")
    try:
        description = json.loads(metadata["fastnn"])
        version = description["format"]
    except (ValueError, KeyError, TypeError):
        raise ModelFileError(f"{str(path)!r} has a damaged description") from None
    if version != FORMAT:
        raise ModelFileError(
            f"{str(path)!r} has format {version}, but this fastnn reads format {FORMAT}: "
            "install a newer fastnn"
        )
    return tensors, description
