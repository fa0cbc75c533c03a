"""``fastnn train NAME``: training on a data set by its name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

from .data.named import IN_A_FOLDER, OF_SKLEARN, Named, load_named


class Mistake(click.ClickException):
    """A mistake of the user: one line, exit code 2."""

    exit_code = 2


@dataclass(frozen=True)
class Recipe:
    """The defaults of a command."""

    hidden: str = "64"
    epochs: int = 100
    lr: float = 0.003
    batch_size: int = 16
    dropout: float = 0.0
    #: Batch normalisation, and one cycle of the learning rate with its peak at `lr`.
    of_images: bool = False


_OF_TABLES = Recipe()
RECIPES = {
    "mnist": Recipe("512-512", 8, 0.004, 128, 0.3, True),
    "fashion_mnist": Recipe("512-512", 10, 0.004, 128, 0.3, True),
    "diabetes": replace(_OF_TABLES, hidden="16", epochs=15),
    "linnerud": replace(_OF_TABLES, hidden="8", epochs=200),
}


def add_commands(train: click.Group, sizes, in_a_directory) -> None:
    """Add a command to ``fastnn train`` for each name.

    Parameters
    ----------
    train : click.Group
    sizes, in_a_directory : callables
        Callbacks of the options: sizes of layers from a text, and a path whose directory exists.
    """
    for name, shown in (IN_A_FOLDER | OF_SKLEARN).items():
        train.add_command(_command(name, shown, sizes, in_a_directory))


def _command(name: str, shown: str, sizes, in_a_directory) -> click.Command:
    recipe = RECIPES.get(name, _OF_TABLES)
    file = click.Path(dir_okay=False, writable=True, path_type=Path)
    option = click.Option
    parameters: list[click.Parameter] = [
        option(["--hidden"], default=recipe.hidden, callback=sizes, show_default=True,
               metavar="SIZES", help="Sizes of the hidden layers, such as 256-128."),
        option(["--epochs"], default=recipe.epochs, type=click.IntRange(1), show_default=True),
        option(["--lr"], default=recipe.lr, type=click.FloatRange(0, min_open=True),
               show_default=True, help="Learning rate; with images the highest of a cycle."),
        option(["--batch-size"], default=recipe.batch_size, type=click.IntRange(1),
               show_default=True),
        option(["--seed"], default=0, type=click.IntRange(0), show_default=True),
        option(["--output", "-o"], default=f"{name}.safetensors", type=file,
               callback=in_a_directory, show_default=True, help="Where to write the model."),
        option(["--plot"], default=f"{name}.png", type=file, callback=in_a_directory,
               show_default=True, help="Where to write the learning curves."),
    ]  # fmt: skip
    if name in IN_A_FOLDER:
        parameters.insert(0, option(
            ["--data"], type=click.Path(path_type=Path), metavar="DIR",
            help=f"Folder of the four idx files, or that of a folder {name} with them.",
        ))  # fmt: skip
        text = f"Train on 60000 images of {shown} and test on 10000 others, from idx files."
    else:
        text = f"Train on three quarters of {shown}; test on the rest. From scikit-learn."

    def run(data=None, **options) -> None:
        _train(_loaded(name, data), recipe, **options)

    return click.Command(name, params=parameters, callback=run, help=text)


def _loaded(name: str, folder: Path | None) -> Named:
    if name in IN_A_FOLDER and folder is None:
        raise Mistake(f"name the folder of the four idx files: fastnn train {name} --data DIR")
    try:
        return load_named(name, folder)
    except ImportError as error:
        raise click.ClickException(str(error)) from None
    except (ValueError, OSError) as error:
        raise Mistake(str(error)) from None


def _train(data: Named, recipe: Recipe, hidden, epochs, lr, batch_size, seed, output, plot) -> None:
    from . import Adam, AdamW, Sequential
    from .schedules import OneCycle

    outputs = 1 if data.y.ndim == 1 else data.y.shape[1]
    if not data.is_regression:
        outputs = len(np.unique(data.y))
    net = Sequential(_layers(hidden, outputs, recipe), n_inputs=data.X.shape[1], seed=seed)
    net.summary()
    shift, scale = _scaling(data.X, recipe.of_images)
    X, X_test = ((rows.astype(np.float32) - shift) / scale for rows in (data.X, data.X_test))
    y, y_test = data.y, data.y_test
    if data.is_regression:
        y_shift, y_scale = y.mean(axis=0), y.std(axis=0)
        y, y_test = ((values - y_shift) / y_scale for values in (y, y_test))
    optimizer = AdamW(OneCycle(lr)) if recipe.of_images else Adam(lr)
    history = net.fit(
        X, y, loss="mse" if data.is_regression else "cross_entropy", optimizer=optimizer,
        epochs=epochs, batch_size=batch_size, validation_data=(X_test, y_test), progress=True,
    )  # fmt: skip
    # The model takes rows as they are: the scaling goes into the first and the last layer.
    _scale_inputs(net, shift, scale)
    if data.is_regression:
        _scale_outputs(net, y_shift, y_scale)
    net.save(output)
    history.plot(plot)
    _report(net, data, history)
    click.echo(f"model           {output}")
    click.echo(f"learning curve  {plot}")


def _layers(hidden: list[int], outputs: int, recipe: Recipe) -> list:
    from . import Activation, BatchNorm, Dense, Dropout

    layers: list = []
    for size in hidden:
        if recipe.of_images:
            layers += [Dense(size), BatchNorm(), Activation("relu")]
        else:
            layers.append(Dense(size, activation="relu"))
        if recipe.dropout:
            layers.append(Dropout(recipe.dropout))
    return [*layers, Dense(outputs)]


def _scaling(X: np.ndarray, of_images: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of all pixels of images, of each column of a table."""
    axis = None if of_images else 0
    scale = X.std(axis=axis, dtype=np.float64)
    shift = np.broadcast_to(X.mean(axis=axis, dtype=np.float64), X.shape[1])
    scale = np.broadcast_to(np.where(scale > 0, scale, 1), X.shape[1])
    return shift.astype(np.float32), scale.astype(np.float32)


def _scale_inputs(net, shift, scale) -> None:
    """Let the first layer take x where it took (x - shift) / scale."""
    values = net.state_dict()
    wide = values["0.W"].astype(np.float64) / scale[:, None]
    moved = shift @ wide
    if "0.b" in values:
        values["0.b"] = values["0.b"] - moved
    else:  # the layer has no bias, since the next one subtracts a mean
        values["1.running_mean"] = values["1.running_mean"] + moved
    values["0.W"] = wide
    net.load_state_dict(values)


def _scale_outputs(net, shift, scale) -> None:
    """Let the last layer give y scale + shift where it gave y."""
    last = len(net.layers) - 1
    W, b = (net.parameters()[f"{last}.{name}"] for name in "Wb")
    W *= scale
    b[:] = b * scale + shift


def _report(net, data: Named, history) -> None:
    """The scores, and what the training took."""
    for name, X, y in (("train", data.X, data.y), ("test", data.X_test, data.y_test)):
        found = net.predict(X)
        if data.is_regression:
            error = np.square(found - y).mean(axis=0)
            what, score = "R^2", float((1 - error / y.var(axis=0)).mean())
        else:
            what, score = "accuracy", float((found == y).mean())
        click.echo(f"{f'{name} {what}':<16}{score:.4f}  ({len(y)} rows)")
    used = history.threads_used or {1: 0}
    n_threads = max(used, key=lambda n: used[n])
    click.echo(
        f"training        {sum(history['seconds']):.2f} s, {history.rows_per_second:,.0f} rows/s, "
        f"engine {history.engine}, mostly {n_threads} thread{'s' * (n_threads > 1)}"
    )
