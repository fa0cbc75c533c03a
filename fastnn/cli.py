"""The command line, with Click (extra ``cli``).

A mistake of the user is one line on stderr and exit status 2, before anything is computed. A
command that fails later ends with status 1, and after Ctrl-C with 130.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

try:
    import click
except ImportError:
    sys.exit("the command line needs more packages: pip install 'fastnn-cpu[cli]'")

import fastnn
from fastnn import safe_writes


class _Program(click.Group):
    """The group of all commands, which reports errors as this module's documentation says."""

    def main(self, *args, standalone_mode: bool = True, **kwargs) -> Any:
        """Run a command, and end the process with its status."""
        run: Callable[..., Any] = functools.partial(super().main, *args, **kwargs)
        if not standalone_mode:
            return run(standalone_mode=False)
        if sys.stderr is None:  # it was closed; progress bars need one
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                # A file's name may hold what the encoding of the terminal lacks.
                stream.reconfigure(errors="backslashreplace")
        try:
            status = run(standalone_mode=False)
            if sys.stdout is not None:
                sys.stdout.flush()
        except (Exception, KeyboardInterrupt) as error:
            status = _report(error)
        sys.exit(status if isinstance(status, int) else 0)


def _report(error: BaseException) -> int:
    """Write an error to stderr, and return the exit status; an unknown error is raised again."""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        _say("stopped by Ctrl-C")
        return 130
    if isinstance(error, click.ClickException):
        if type(error).__name__ == "NoArgsIsHelpError":  # of Click 8.2 and later
            error.show()
            return error.exit_code
        message = error.format_message()
        if isinstance(error, click.UsageError) and error.ctx is not None:
            end = "" if message.endswith((".", "?")) else "."
            message += f"{end} Try '{error.ctx.command_path} --help'."
        _say(f"Error: {message}")
        return error.exit_code
    if isinstance(error, OSError):
        # What stdout still holds can be written nowhere, and Python would try so at its end.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            what = "" if error.filename else "the output cannot be written: "
            _say(f"Error: {what}{_text(error)}")
        return 1
    raise error


def _say(message: str) -> None:
    """Write one line to stderr, if there is one that can be written."""
    with contextlib.suppress(OSError):
        click.echo(" ".join(message.split()), err=True)


class _Mistake(click.ClickException):
    """A mistake that the help of the command says nothing about."""

    exit_code = 2


@contextlib.contextmanager
def _mistakes() -> Iterator[None]:
    """Context in which an error is a mistake in the arguments or the environment."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        raise _Mistake(_text(error)) from error


@contextlib.contextmanager
def _failures(what: str) -> Iterator[None]:
    """Context in which an error means that `what` failed."""
    try:
        yield
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        raise click.ClickException(f"{what}: {_text(error)}") from error


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f"{click.format_filename(error.filename)}: " if error.filename else ""
        return f"{place}{error.strerror}"
    return str(error) or type(error).__name__


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fastnn.__version__, prog_name="fastnn")
def main() -> None:
    """Train neural networks on CPUs at the speed of the hardware."""


@main.command()
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(["float32", "float64"]),
              default=["float32"], show_default=True, help="Repeat it for both.")  # fmt: skip
def warmup(dtypes) -> None:
    """Compile every kernel now and cache it, so that no fit waits for the compiler.

    Otherwise a kernel is compiled when a network first needs it. For a container image, run this
    during the build, on the same processor model.
    """
    from fastnn import installation

    with _mistakes():
        installation.check_environment()
    if "numba" not in fastnn.engines.available():
        raise click.ClickException("there is nothing to compile without Numba: pip install numba")
    from fastnn.engines import jit

    directory = jit.cache.directory()
    if directory is None:
        raise click.ClickException(
            "kernels cannot be cached, because no cache directory is writable: set "
            "FASTNN_CACHE_DIR to one that is"
        )
    began = time.perf_counter()
    kernels = [(name, dtype) for dtype in dtypes for name in jit.names()]
    with click.progressbar(
        kernels, label=f"{len(kernels)} kernels", file=sys.stderr,
        item_show_func=lambda kernel: kernel and kernel[0],
    ) as bar:  # fmt: skip
        for name, dtype in bar:
            jit.address(name, dtype)
    seconds = time.perf_counter() - began
    click.echo(f"{len(kernels)} kernels for {' and '.join(dtypes)} ready in {seconds:.1f} s")
    click.echo(f"cached in {directory}")


@main.command()
def doctor() -> None:
    """Report what is installed, which engine runs, and how to install what is missing."""
    from fastnn import installation

    for line in installation.lines():
        click.echo(line)


@main.group()
def train() -> None:
    """Train a network and write it to a file."""


def _sizes(_context, _option, text: str) -> list[int]:
    pieces = text.split("-") if text else []
    if not all(piece.isascii() and piece.isdecimal() and len(piece) <= 20 for piece in pieces):
        raise click.BadParameter(f"{text!r}: give sizes such as 128 or 256-128")
    sizes = [int(piece) for piece in pieces]
    if any(size < 1 for size in sizes):
        raise click.BadParameter(f"{text!r}: every size must be at least 1")
    return sizes


def _rate(_context, _option, rate: float) -> float:
    if not math.isfinite(rate):
        raise click.BadParameter(f"{rate} is no learning rate: give a number such as 0.003")
    return rate


def _model_file(_context, _option, path: Path) -> Path:
    """A file that can be written, or an error."""
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no directory {click.format_filename(path.parent)!r}")
    try:
        safe_writes.check(path)
    except OSError as error:
        raise click.BadParameter(f"cannot write {_text(error)}") from None
    return path


def _picture(_context, _option, path: Path) -> Path:
    """The file of a picture that can be written and has an ending of one, or an error."""
    from fastnn import plots

    try:
        path = plots.check_path(path)
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        safe_writes.check(path)
    except (ValueError, ImportError) as error:
        raise click.BadParameter(_text(error)) from None
    except OSError as error:
        raise click.BadParameter(f"cannot write {_text(error)}") from None
    return path


#: What training with Adam takes for each parameter: itself, its gradient, its best and earlier
#: values, and two slots, in float32.
_BYTES_OF_PARAMETER = 24


def _check_memory(sizes: list[int]) -> None:
    """Refuse a network that cannot be trained in the memory of this machine.

    Without this the system would end the process once the memory is used.
    """
    if not hasattr(os, "sysconf"):
        return
    n_parameters = sum((n_in + 1) * n for n_in, n in pairwise(sizes))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if n_parameters * _BYTES_OF_PARAMETER > memory:
        raise click.BadParameter(
            f"the network has {n_parameters:,} parameters, which take "
            f"{n_parameters * _BYTES_OF_PARAMETER / 2**30:,.1f} GiB to train, but this machine has "
            f"{memory / 2**30:,.1f} GiB: give smaller sizes",
            param_hint="'--hidden'",
        )


_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)
_COUNT = click.IntRange(1, 2**31 - 1)


@train.command()
@click.option("--hidden", default="128", callback=_sizes, show_default=True, metavar="SIZES",
              help="Sizes of the hidden layers, such as 256-128.")  # fmt: skip
@click.option("--epochs", default=40, type=_COUNT, show_default=True)
@click.option("--lr", default=0.003, type=click.FloatRange(0, min_open=True), callback=_rate,
              show_default=True, help="Learning rate of Adam.")  # fmt: skip
@click.option("--batch-size", default=32, type=_COUNT, show_default=True)
@click.option("--seed", default=0, type=click.IntRange(0, 2**64 - 1), show_default=True)
@click.option("--output", "-o", default="digits.safetensors", type=_FILE,
              callback=_model_file,
              show_default=True, help="Where to write the model.")  # fmt: skip
@click.option("--plot", default="digits.png", type=_FILE, callback=_picture,
              show_default=True, help="Where to write the learning curves.")  # fmt: skip
def digits(hidden, epochs, lr, batch_size, seed, output, plot) -> None:
    """Train on 1347 real handwritten digits and test on 450 others.

    The images are shipped with fastnn (UCI Optical Recognition of Handwritten Digits, CC BY 4.0).
    """
    from fastnn import Adam, Dense, Sequential, data, installation

    if output.resolve() == plot.resolve():
        raise click.UsageError("--output and --plot name the same file: give two")
    _check_memory([64, *hidden, 10])
    with _mistakes():
        installation.check_environment()
        layers = [Dense(size, activation="relu") for size in hidden] + [Dense(10)]
        net = Sequential(layers, n_inputs=64, seed=seed)
        optimizer = Adam(lr)
    X, y = data.load_digits()
    train_rows, test_rows = data.stratified_split(y)
    X = X / 16.0  # pixels are whole numbers from 0 to 16
    net.summary()
    test = X[test_rows], y[test_rows]
    with _failures("the training failed"):
        history = net.fit(
            X[train_rows], y[train_rows], loss="cross_entropy", optimizer=optimizer,
            epochs=epochs, batch_size=batch_size, validation_data=test, progress=True,
        )  # fmt: skip
    with _failures("the model could not be written"):
        net.save(output)
    with _failures("the learning curves could not be written"):
        history.plot(plot)
    train_accuracy = net.evaluate(X[train_rows], y[train_rows])["accuracy"]
    test_accuracy = net.evaluate(*test)["accuracy"]
    used = history.threads_used or {1: 0}
    n_threads = max(used, key=lambda n: used[n])
    threads = f"{n_threads} thread" + "s" * (n_threads > 1)
    click.echo(f"train accuracy  {train_accuracy:.4f}  ({len(train_rows)} digits)")
    click.echo(f"test accuracy   {test_accuracy:.4f}  ({len(test_rows)} digits)")
    click.echo(
        f"training        {sum(history['seconds']):.2f} s, {history.rows_per_second:,.0f} rows/s, "
        f"engine {history.engine}, mostly {threads}"
    )
    click.echo(f"model           {click.format_filename(output)}")
    click.echo(f"learning curve  {click.format_filename(plot)}")
