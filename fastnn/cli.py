"""The command line, with Click (extra ``cli``).

A mistake of the user is one line on stderr and exit status 2, before anything is computed. A
command that fails later ends with status 1, and after Ctrl-C with 130.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable
from typing import Any

try:
    import click
except ImportError:
    sys.exit("the command line needs more packages: pip install 'fastnn-cpu[cli]'")

import fastnn
from fastnn import train_named
from fastnn.cli_options import mistakes, text_of


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
            _say(f"Error: {what}{text_of(error)}")
        return 1
    raise error


def _say(message: str) -> None:
    """Write one line to stderr, if there is one that can be written."""
    with contextlib.suppress(OSError):
        click.echo(" ".join(message.split()), err=True)


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

    with mistakes():
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


train_named.add_commands(train)
