"""The command line, with Click (extra ``cli``)."""

from __future__ import annotations

import sys
import time
from pathlib import Path

try:
    import click
except ImportError:
    sys.exit("the command line needs more packages: pip install 'fastnn-cpu[cli]'")

import fastnn
from fastnn import train_named


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
    try:
        sizes = [int(size) for size in text.split("-") if size]
    except ValueError:
        raise click.BadParameter(f"{text!r}: give sizes such as 128 or 256-128") from None
    if any(size < 1 for size in sizes):
        raise click.BadParameter(f"{text!r}: every size must be at least 1")
    return sizes


def _in_a_directory(_context, _option, path: Path) -> Path:
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no directory {str(path.parent)!r}")
    return path


_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


@train.command()
@click.option("--hidden", default="128", callback=_sizes, show_default=True, metavar="SIZES",
              help="Sizes of the hidden layers, such as 256-128.")  # fmt: skip
@click.option("--epochs", default=40, type=click.IntRange(1), show_default=True)
@click.option("--lr", default=0.003, type=click.FloatRange(0, min_open=True), show_default=True,
              help="Learning rate of Adam.")  # fmt: skip
@click.option("--batch-size", default=32, type=click.IntRange(1), show_default=True)
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True)
@click.option("--output", "-o", default="digits.safetensors", type=_FILE,
              callback=_in_a_directory,
              show_default=True, help="Where to write the model.")  # fmt: skip
@click.option("--plot", default="digits.png", type=_FILE, callback=_in_a_directory,
              show_default=True, help="Where to write the learning curves.")  # fmt: skip
def digits(hidden, epochs, lr, batch_size, seed, output, plot) -> None:
    """Train on 1347 real handwritten digits and test on 450 others.

    The images are shipped with fastnn (UCI Optical Recognition of Handwritten Digits, CC BY 4.0).
    """
    from fastnn import Adam, Dense, Sequential, data

    X, y = data.load_digits()
    train_rows, test_rows = data.stratified_split(y)
    X = X / 16.0  # pixels are whole numbers from 0 to 16
    layers = [Dense(size, activation="relu") for size in hidden] + [Dense(10)]
    net = Sequential(layers, n_inputs=64, seed=seed)
    net.summary()
    test = X[test_rows], y[test_rows]
    history = net.fit(
        X[train_rows], y[train_rows], loss="cross_entropy", optimizer=Adam(lr), epochs=epochs,
        batch_size=batch_size, validation_data=test, progress=True,
    )  # fmt: skip
    net.save(output)
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
    click.echo(f"model           {output}")
    click.echo(f"learning curve  {plot}")


train_named.add_commands(train, _sizes, _in_a_directory)
