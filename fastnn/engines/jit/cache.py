"""Compiled kernels on disk, one file each.

The directory's name is a hash of everything that the machine code depends on: the sources of
this package, the versions of Numba, llvmlite and Python, and the processor with its features. So
nothing is ever stale, and several environments share one place. A file carries a checksum; one
that is missing, unreadable or damaged is compiled anew. No trouble with the disk is an error.

``FASTNN_CACHE_DIR`` moves the cache; an empty value turns it off.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

import llvmlite
import numba

from . import target

_MAGIC = b"fastnn-kernel-1\n"


@functools.cache
def key() -> str:
    """The hash that names the cache directory of this build on this machine."""
    digest = hashlib.sha256()
    for source in sorted(
        [*Path(__file__).parent.glob("*.py"), Path(__file__).parents[1] / "tables.py"]
    ):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    processor = [target.level(), *(str(part) for part in target.codegen(True).magic_tuple())]
    versions = [numba.__version__, llvmlite.__version__, platform.python_version(), sys.platform]
    digest.update(json.dumps([processor, versions]).encode())
    return digest.hexdigest()[:32]


def root() -> Path | None:
    """Where all caches lie, or None if caching is turned off."""
    chosen = os.environ.get("FASTNN_CACHE_DIR")
    if chosen is not None:
        return Path(chosen) if chosen else None
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fastnn"


def directory() -> Path | None:
    """The writable directory of this build's kernels, made if need be; None if there is none."""
    try:
        place = root()
        if place is None:
            return None
        place = place / key()
        place.mkdir(parents=True, exist_ok=True)
        return place if os.access(place, os.W_OK) else None
    except (OSError, RuntimeError):  # RuntimeError: no home directory
        return None


def load(name: str, codegen):
    """The kernel of that name as (code library of `codegen`, symbol), or None."""
    try:
        place = root()
        if place is None:
            return None
        content = (place / key() / f"{name}.kernel").read_bytes()
    except (OSError, RuntimeError):
        return None
    parts = _unpack(content)
    if parts is None:
        return None
    header, machine_code, bitcode = parts
    state = (header["library"], "object", (machine_code, bitcode))
    return codegen.unserialize_library(state), header["symbol"]


def store(name: str, library, symbol: str) -> None:
    """Keep a kernel for the next process, if the disk allows."""
    place = directory()
    if place is None:
        return
    library_name, _, (machine_code, bitcode) = library.serialize_using_object_code()
    content = _pack({"library": library_name, "symbol": symbol}, machine_code, bitcode)
    try:
        handle, temporary = tempfile.mkstemp(dir=place, prefix=f".{name}-")
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, place / f"{name}.kernel")
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _pack(header: dict, machine_code: bytes, bitcode: bytes) -> bytes:
    """Magic, SHA-256 of what follows, length of the header, header, machine code, bitcode."""
    text = json.dumps({**header, "size": len(machine_code)}).encode()
    body = len(text).to_bytes(8, "little") + text + machine_code + bitcode
    return _MAGIC + hashlib.sha256(body).digest() + body


def _unpack(content: bytes):
    """The parts that _pack joined, or None if a single bit of them has changed."""
    start = len(_MAGIC) + 32
    body = content[start:]
    if content[: len(_MAGIC)] != _MAGIC:
        return None
    if hashlib.sha256(body).digest() != content[len(_MAGIC) : start]:
        return None
    length = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + length])
    code = body[8 + length :]
    return header, code[: header["size"]], code[header["size"] :]
