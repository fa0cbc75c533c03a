"""Replace a file by a new one that is on disk as a whole, or leave it as it was.

The new content goes to a temporary file in the same folder, which then takes the place of the old
file. Its writer holds a lock on it for as long as it lives, so that :func:`clean` can distinguish
what a killed process has left from what another one is writing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed
    fcntl = None  # type: ignore[assignment]

#: Bytes that are handed to the system at once.
_MOST = 1 << 28

#: Errors of a file system that cannot do what it is asked for.
_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES}


def replace(path: Path, parts: Iterable) -> None:
    """Write parts, which are bytes or memory, one after another to a file in place of an old one.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written, or the disk is full; an old file is then
        untouched.
    """
    try:
        _replace(path, parts)
    except OSError as error:  # the user has never heard of the temporary file
        if error.filename is not None:
            error.filename = str(path)
            del error.filename2
        raise


def _replace(path: Path, parts: Iterable) -> None:
    handle, temporary = _begin(path)
    try:
        for part in parts:
            _write(handle, part)
        os.fsync(handle)
        if os.name == "nt":  # which cannot rename an open file
            os.close(handle)
            handle = -1
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # what has failed before is what matters
            os.unlink(temporary)
        raise
    finally:
        if handle >= 0:
            os.close(handle)
    _sync_folder(path.parent)


def clean(path: Path) -> None:
    """Remove what writers of this file have left that were killed."""
    pattern = re.compile(re.escape(f".{path.name}-") + "[0-9a-f]{12}")
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_if_left(entry.path)


def _begin(path: Path) -> tuple[int, Path]:
    """A new temporary file, open and locked."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        temporary = path.parent / f".{path.name}-{os.urandom(6).hex()}"
        handle = os.open(temporary, flags, 0o666)
        # Another process may have removed it in the moment before it was locked.
        if not _lock(handle, wait=True) or _is_at(handle, temporary):
            return handle, temporary
        os.close(handle)


def _lock(handle: int, wait: bool) -> bool:
    """Lock an open file, if the file system can; whether this process has the lock."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _is_at(handle: int, path) -> bool:
    """Whether an open file is still the one of a path."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _remove_if_left(path: str) -> None:
    if fcntl is None:
        os.unlink(path)
        return
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        own = os.fstat(handle).st_uid == os.geteuid()
        if own and _lock(handle, wait=False) and _is_at(handle, path):
            os.unlink(path)
    finally:
        os.close(handle)


def _write(handle: int, part) -> None:
    rest = memoryview(part).cast("B")
    while rest:
        rest = rest[os.write(handle, rest[:_MOST]) :]


def _sync_folder(folder: Path) -> None:
    """Write the folder to disk, which holds the new name of the file."""
    if os.name == "nt":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # it may be writable only
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(handle)
