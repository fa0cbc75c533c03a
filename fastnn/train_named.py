"""``fastnn train NAME``: training on a data set by its name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

from . import cli_options
from .cli_options import COUNT, FILE, Mistake, check_memory, failures, mistakes
from .data.named import IN_A_FOLDER, SHOWN, Named, load_named


@dataclass(frozen=True)
class Recipe:
    """The defaults of a command.

    `of_images` means one mean and standard deviation of all pixels, batch normalisation, one cycle
    of the learning rate with its peak at `lr`, images that are moved by up to `shift` pixels and,
    if `flip`, mirrored, and `noise` of this standard deviation; `largest` that X is divided by this
    number, and by default every column is standardised.
    """

    hidden: str = "64"
    epochs: int = 100
    lr: float = 0.003
    batch_size: int = 16
    dropout: float = 0.0
    of_images: bool = False
    shift: float = 0.0
    flip: bool = False
    noise: float = 0.0
    largest: float | None = None
    test_rows: str = "a quarter of the rows"


_OF_TABLES = Recipe()
_OF_IMAGES = Recipe("512-512", 10, 0.004, 128, 0.1, True, shift=1.0, test_rows="10000 others")
RECIPES = {
    "digits": Recipe("128", 40, 0.003, 32, largest=16.0, test_rows="450 others"),
    "mnist": _OF_IMAGES,
    "fashion_mnist": replace(
        _OF_IMAGES, epochs=20, lr=0.003, dropout=0.0, shift=0.7, flip=True, noise=0.2
    ),
    "diabetes": replace(_OF_TABLES, hidden="16", epochs=15),
    "linnerud": replace(_OF_TABLES, hidden="8", epochs=200),
}


def add_commands(train: click.Group) -> None:
    """Add a command to ``fastnn train`` for each name."""
    for name, shown in SHOWN.items():
        train.add_command(_command(name, shown))


def _command(name: str, shown: str) -> click.Command:
    recipe = RECIPES.get(name, _OF_TABLES)
    option = click.Option
    parameters: list[click.Parameter] = [
        option(["--hidden"], default=recipe.hidden, callback=cli_options.sizes, show_default=True,
               metavar="SIZES", help="Sizes of the hidden layers, such as 256-128."),
        option(["--epochs"], default=recipe.epochs, type=COUNT, show_default=True),
        option(["--lr"], default=recipe.lr, type=click.FloatRange(0, min_open=True),
               callback=cli_options.rate, show_default=True,
               help="The highest learning rate of a cycle." if recipe.of_images
               else "Learning rate of Adam."),
        option(["--batch-size"], default=recipe.batch_size, type=COUNT, show_default=True),
        option(["--seed"], default=0, type=click.IntRange(0, 2**64 - 1), show_default=True),
        option(["--output", "-o"], default=f"{name}.safetensors", type=FILE,
               callback=cli_options.model_file, show_default=True,
               help="Where to write the model."),
        option(["--plot"], default=f"{name}.png", type=FILE, callback=cli_options.picture,
               show_default=True, help="Where to write the learning curves."),
    ]  # fmt: skip
    if name in IN_A_FOLDER:
        parameters.insert(0, option(
            ["--data"], type=click.Path(path_type=Path), metavar="DIR",
            help=f"Folder of the four idx files, or that of a folder {name} with them.",
        ))  # fmt: skip

    def run(data=None, **options) -> None:
        _train(name, data, recipe, **options)

    text = f"Train on {shown}; test on {recipe.test_rows}."
    return click.Command(name, params=parameters, callback=run, help=text)


def _loaded(name: str, folder: Path | None) -> Named:
    if name in IN_A_FOLDER and folder is None:
        raise Mistake(f"name the folder of the four idx files: fastnn train {name} --data DIR")
    try:
        data = load_named(name, folder)
    except ImportError as error:
        raise click.ClickException(str(error)) from None
    except (ValueError, OSError) as error:
        raise Mistake(str(error)) from None
    if not data.is_regression and len(np.unique(data.y)) < 2:
        raise Mistake(f"all images in {folder} have the label {data.y[0]}: two classes are needed")
    return data


def _train(
    name: str, folder: Path | None, recipe: Recipe, hidden, epochs, lr, batch_size, seed, output,
    plot,
) -> None:  # fmt: skip
    from . import Adam, AdamW, Sequential, installation
    from .schedules import OneCycle

    if output.resolve() == plot.resolve():
        raise click.UsageError("--output and --plot name the same file: give two")
    data = _loaded(name, folder)
    n_inputs, n_outputs = data.X.shape[1], _n_outputs(data)
    check_memory([n_inputs, *hidden, n_outputs])
    with mistakes():
        installation.check_environment()
        layers = _layers(hidden, n_outputs, recipe)
        net = Sequential(layers, n_inputs=n_inputs, seed=seed)
        optimizer = AdamW(OneCycle(lr)) if recipe.of_images else Adam(lr)
    net.summary()
    y, y_test, shift, scale = data.y, data.y_test, None, None
    if data.is_regression:
        shift, scale = y.mean(axis=0), y.std(axis=0)
        y, y_test = ((values - shift) / scale for values in (y, y_test))
    with failures("the training failed"):
        history = net.fit(
            data.X, y, loss="mse" if data.is_regression else "cross_entropy",
            optimizer=optimizer, epochs=epochs, batch_size=batch_size,
            validation_data=(data.X_test, y_test), augment=_augmentation(net, data, recipe),
            progress=True,
        )  # fmt: skip
    if scale is not None:
        _scale_outputs(net, shift, scale)
    with failures("the model could not be written"):
        net.save(output)
    with failures("the learning curves could not be written"):
        history.plot(plot)
    _report(net, data, history)
    click.echo(f"model           {click.format_filename(output)}")
    click.echo(f"learning curve  {click.format_filename(plot)}")


def _augmentation(net, data: Named, recipe: Recipe):
    """What moves images that the network standardises, on their black background."""
    if data.shape is None:
        return None
    from .augmentation import Images

    learned = net.adapt(data.X).state_dict()
    black = -float(learned["0.mean"][0] / learned["0.std"][0])
    return Images(data.shape, shift=recipe.shift, flip=recipe.flip, noise=recipe.noise, fill=black)


def _n_outputs(data: Named) -> int:
    if not data.is_regression:
        return len(np.unique(data.y))
    return 1 if data.y.ndim == 1 else data.y.shape[1]


def _layers(hidden: list[int], n_outputs: int, recipe: Recipe) -> list:
    from . import Activation, BatchNorm, Dense, Dropout, Rescale, Standardize

    layers: list = [Standardize(channels=1 if recipe.of_images else None)]
    if recipe.largest is not None:
        layers = [Rescale(1 / recipe.largest)]
    for size in hidden:
        if recipe.of_images:
            layers += [Dense(size), BatchNorm(), Activation("relu")]
        else:
            layers.append(Dense(size, activation="relu"))
        if recipe.dropout:
            layers.append(Dropout(recipe.dropout))
    return [*layers, Dense(n_outputs)]


def _scale_outputs(net, shift, scale) -> None:
    """Let the last layer give y scale + shift where it gave y."""
    last = len(net.layers) - 1
    W, b = (net.parameters()[f"{last}.{name}"] for name in "Wb")
    W *= scale
    b[:] = b * scale + shift


def _report(net, data: Named, history) -> None:
    """The scores, and what the training took."""
    what = "R^2" if data.is_regression else "accuracy"
    for name, X, y in (("train", data.X, data.y), ("test", data.X_test, data.y_test)):
        found = net.predict(X)
        if data.is_regression:
            error = np.square(found - y).mean(axis=0)
            score = float((1 - error / y.var(axis=0)).mean())
        else:
            score = float((found == y).mean())
        click.echo(f"{f'{name} {what}':<16}{score:.4f}  ({len(y)} rows)")
    used = history.threads_used or {1: 0}
    n_threads = max(used, key=lambda n: used[n])
    click.echo(
        f"training        {sum(history['seconds']):.2f} s, {history.rows_per_second:,.0f} rows/s, "
        f"engine {history.engine}, mostly {n_threads} thread{'s' * (n_threads > 1)}"
    )
