"""Replace a file by a new one that is on disk as a whole, or leave it as it was.

The new content goes to a temporary file in the same folder, which then takes the place of the old
file. Its writer holds a lock on it for as long as it lives, so that :func:`clean` can distinguish
what a killed process has left from what another one is writing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed
    fcntl = None  # type: ignore[assignment]

#: Bytes that are handed to the system at once.
_MOST = 1 << 28

#: Bytes of a name that fits into another one. File systems take 255, and encrypted ones 143.
_LONG = 100

#: Errors of a file system that cannot do what it is asked for.
_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES}


def replace(path: Path, parts: Iterable) -> None:
    """Write parts, which are bytes or memory, one after another to a file in place of an old one.

    A new file has the mode of the old one and, as far as the system allows, its owner. A symbolic
    link stays one: the file that it names is replaced. A device or a pipe is written to.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written, or the disk is full; an old file is then
        untouched.
    """
    try:
        target, old = _target(path)
        if old is not None and not stat.S_ISREG(old.st_mode):
            _write_into(target, parts)
        else:
            _replace(target, old, parts)
    except OSError as error:  # the user has never heard of the temporary file
        raise _named(error, path) from None


def check(path: Path) -> None:
    """Find out whether :func:`replace` can write this file, without changing it.

    Raises
    ------
    OSError
        If it cannot.
    """
    try:
        target, old = _target(path)
        if old is not None and not stat.S_ISREG(old.st_mode):
            return
        handle, temporary = _begin(target, 0o600)
        os.close(handle)
        os.unlink(temporary)
    except OSError as error:
        raise _named(error, path) from None


def _named(error: OSError, path: Path) -> OSError:
    """The error, about the path that the user gave."""
    if error.errno is not None:
        error.filename = str(path)
        del error.filename2
    return error


def _target(path: Path) -> tuple[Path, os.stat_result | None]:
    """The file that a path names, behind symbolic links, and its state if it exists."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        old = None
    except NotADirectoryError:
        file = next((place for place in path.parents if place.exists()), path.parent)
        raise NotADirectoryError(
            errno.ENOTDIR, f"{str(file)!r} is a file, not a folder", str(path)
        ) from None
    if old is not None and stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(
            errno.EISDIR, "this is a folder: give the name of a file", str(path)
        )
    if old is not None and not stat.S_ISREG(old.st_mode):
        return path, old
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if not target.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, f"there is no folder {str(target.parent)!r}, create it first", str(path)
        )
    return target, old


def _write_into(path: Path, parts: Iterable) -> None:
    """Write to what is no regular file, such as a device, which must not be replaced by one."""
    handle = os.open(path, os.O_WRONLY | getattr(os, "O_BINARY", 0))
    try:
        for part in parts:
            _write(handle, part)
    finally:
        os.close(handle)


def _replace(path: Path, old: os.stat_result | None, parts: Iterable) -> None:
    # Until it has the mode of the old file, nobody else may read what the old file hid.
    handle, temporary = _begin(path, 0o666 if old is None else 0o600)
    try:
        for part in parts:
            _write(handle, part)
        if old is not None:
            _take_over(handle, old)
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


def _take_over(handle: int, old: os.stat_result) -> None:
    """Give an open file the owner, the group and the mode of another one, as far as is allowed."""
    if os.name == "nt":
        return
    new = os.fstat(handle)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(handle, old.st_uid, old.st_gid)
        except OSError:
            with contextlib.suppress(OSError):
                os.fchown(handle, -1, old.st_gid)
    with contextlib.suppress(OSError):  # a file system without modes
        os.fchmod(handle, stat.S_IMODE(old.st_mode))


def clean(path: Path) -> None:
    """Remove what writers of this file have left that were killed."""
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    pattern = re.compile(re.escape(_prefix(path)) + "[0-9a-f]{12}")
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_if_left(entry.path)


def _prefix(path: Path) -> str:
    """What the names of a file's temporary ones begin with; they must not become too long."""
    name = path.name
    if len(os.fsencode(name)) > _LONG:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return f".{name}-"


def _begin(path: Path, mode: int) -> tuple[int, Path]:
    """A new temporary file, open and locked."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        temporary = path.parent / f"{_prefix(path)}{os.urandom(6).hex()}"
        handle = os.open(temporary, flags, mode)
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
