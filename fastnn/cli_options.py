"""What commands have in common: values of options, and errors that are the user's or the run's."""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click

from . import safe_writes


def sizes(_context, _option, text: str) -> list[int]:
    """Sizes of layers, such as [256, 128] for 256-128."""
    pieces = text.split("-") if text else []
    if not all(piece.isascii() and piece.isdecimal() and len(piece) <= 20 for piece in pieces):
        raise click.BadParameter(f"{text!r}: give sizes such as 128 or 256-128")
    found = [int(piece) for piece in pieces]
    if any(size < 1 for size in found):
        raise click.BadParameter(f"{text!r}: every size must be at least 1")
    return found


def rate(_context, _option, given: float) -> float:
    """A finite learning rate."""
    if not math.isfinite(given):
        raise click.BadParameter(f"{given} is no learning rate: give a number such as 0.003")
    return given


def model_file(_context, _option, path: Path) -> Path:
    """A file that can be written, or an error."""
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no directory {click.format_filename(path.parent)!r}")
    try:
        safe_writes.check(path)
    except OSError as error:
        raise click.BadParameter(f"cannot write {text_of(error)}") from None
    return path


def picture(_context, _option, path: Path) -> Path:
    """The file of a picture that can be written and has an ending of one, or an error."""
    from fastnn import plots

    try:
        path = plots.check_path(path)
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        safe_writes.check(path)
    except (ValueError, ImportError) as error:
        raise click.BadParameter(text_of(error)) from None
    except OSError as error:
        raise click.BadParameter(f"cannot write {text_of(error)}") from None
    return path


#: What training with Adam takes for each parameter: itself, its gradient, its best and earlier
#: values, and two slots, in float32.
_BYTES_OF_PARAMETER = 24


def check_memory(widths: list[int]) -> None:
    """Refuse a network that cannot be trained in the memory of this machine.

    Without this the system would end the process once the memory is used.
    """
    if not hasattr(os, "sysconf"):
        return
    n_parameters = sum((n_in + 1) * n for n_in, n in pairwise(widths))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if n_parameters * _BYTES_OF_PARAMETER > memory:
        raise click.BadParameter(
            f"the network has {n_parameters:,} parameters, which take "
            f"{n_parameters * _BYTES_OF_PARAMETER / 2**30:,.1f} GiB to train, but this machine has "
            f"{memory / 2**30:,.1f} GiB: give smaller sizes",
            param_hint="'--hidden'",
        )


FILE = click.Path(dir_okay=False, writable=True, path_type=Path)
COUNT = click.IntRange(1, 2**31 - 1)


class Mistake(click.ClickException):
    """A mistake that the help of the command says nothing about."""

    exit_code = 2


@contextlib.contextmanager
def mistakes() -> Iterator[None]:
    """Context in which an error is a mistake in the arguments or the environment."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        raise Mistake(text_of(error)) from error


@contextlib.contextmanager
def failures(what: str) -> Iterator[None]:
    """Context in which an error means that `what` failed."""
    try:
        yield
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        raise click.ClickException(f"{what}: {text_of(error)}") from error


def text_of(error: Exception) -> str:
    """The message of an error; of the system's errors the file and what is wrong with it."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{click.format_filename(error.filename)}: " if error.filename else ""
        return f"{place}{error.strerror}"
    return str(error) or type(error).__name__
