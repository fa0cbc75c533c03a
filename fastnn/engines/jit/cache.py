"""Compiled kernels on disk, one file each.

The directory's name is a hash of everything that the machine code depends on: the sources of this
package, the tables and constants that it imports, the versions of Numba, llvmlite and Python, and
the processor with its features. So no file is ever stale, and several environments can share one
directory. Each file carries a checksum; a missing, unreadable or damaged one is compiled again.
Disk errors are never raised.

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

from . import isa

_MAGIC = b"fastnn-kernel-1\n"


def sources() -> list[Path]:
    """The files that machine code depends on."""
    here = Path(__file__).parent
    tables, constants = here.parents[1] / "tables.py", here.parent / "constants.py"
    return [*sorted(here.glob("*.py")), tables, constants]


@functools.cache
def key() -> str:
    """The hash that names the cache directory of this build on this machine."""
    digest = hashlib.sha256()
    for source in sources():
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    processor = [isa.level(), *(str(part) for part in isa.codegen(True).magic_tuple())]
    versions = [numba.__version__, llvmlite.__version__, platform.python_version(), sys.platform]
    digest.update(json.dumps([processor, versions]).encode())
    return digest.hexdigest()[:32]


def root() -> Path | None:
    """The directory of all caches, or None if caching is turned off."""
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
    """The directory of this build's kernels, created if missing; None if it cannot be written."""
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
    """The kernel of that name as (code library of `codegen`, symbol); None if there is none."""
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
    """Write a kernel to the cache, if the disk allows."""
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
    """The parts that _pack joined, or None if the checksum does not match."""
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
