"""Plots, with Matplotlib (extra ``plot``). No window is opened."""

from __future__ import annotations

import functools
import io
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from .checks import whole_number
from .schedules import PerEpoch, Schedule
from .schedules.base import Span

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .history import History

#: Dots per inch of pictures.
_DPI = 120

#: A loss has a logarithmic axis if its largest value is this many times the smallest one.
_DECADE = 10

#: Points of a curve; of longer schedules every so many steps are shown.
_MOST_POINTS = 20_000


def _new_figure(**arguments) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plots need Matplotlib: pip install 'fastnn-cpu[plot]'") from None
    figure = Figure(layout="constrained", **arguments)
    # Notebooks show it by this, whether or not they have loaded Matplotlib's own backend.
    figure._repr_png_ = functools.partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI)
    return content.getvalue()


def check_path(path) -> Path:
    """The file that a plot given this path writes, or an error before anything is computed.

    Parameters
    ----------
    path : str or path
        Its ending selects the format; without one it gets ".png".

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    ValueError
        If no picture can have this ending, or the folder is missing, or it is a folder.
    TypeError
        If it is not a path.

    Examples
    --------
    >>> from fastnn import plots
    >>> plots.check_path("curve.svg").name, plots.check_path("curve").name
    ('curve.svg', 'curve.png')
    """
    canvas = _new_figure().canvas
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"the path of a picture must be a string or a path, not {path!r}")
    path = Path(os.fsdecode(path))
    known = sorted(canvas.get_supported_filetypes())
    if not path.name or path.is_dir():
        raise ValueError(f"a picture needs the name of a file, and {str(path)!r} is a folder")
    if not path.suffix and not path.name.endswith("."):
        path = path.with_name(f"{path.name}.png")
    if path.suffix[1:].lower() not in known:
        raise ValueError(
            f"a picture cannot have the ending {path.suffix!r}, as in {str(path)!r}: take one of "
            + ", ".join(known)
        )
    if not path.parent.is_dir():
        raise ValueError(
            f"there is no folder {str(path.parent)!r} for the picture {path.name!r}: create it"
        )
    return path


def _write(figure: Figure, path) -> None:
    """Write a figure to a path, or to a file that is open."""
    figure.savefig(path if hasattr(path, "write") else check_path(path), dpi=_DPI)


def learning_curves(history: History, path=None) -> Figure:
    """Loss and, for classes, accuracy over the epochs, for training and validation rows.

    Parameters
    ----------
    history : History
    path : str or path, optional
        File to write; its extension selects the format.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If Matplotlib is not installed.

    Examples
    --------
    >>> from fastnn import Dense, Sequential, plots
    >>> history = Sequential([Dense(1)]).fit([[0.0], [1.0]], [0.5, 1.5], progress=False)
    >>> len(plots.learning_curves(history).axes)
    1
    """
    panels = [("loss", history.loss_name.replace("_", " "))]
    if "accuracy" in history:
        panels.append(("accuracy", "accuracy"))
    figure = _new_figure(figsize=(5 * len(panels), 3.6))
    epochs = range(1, len(history["loss"]) + 1)
    marker = "o" if len(epochs) == 1 else None  # a line of one point is invisible
    for axes, (key, label) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        axes.plot(epochs, history[key], label="training", marker=marker)
        if f"val_{key}" in history:
            axes.plot(epochs, history[f"val_{key}"], label="validation", marker=marker)
        if f"average_val_{key}" in history:
            values = history[f"average_val_{key}"]
            axes.plot(epochs, values, label="validation of the average", marker=marker)
        axes.set_xlabel("epoch")
        if len(epochs) == 1:
            axes.set_xticks([1])
        else:
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend()
        if key == "loss" and max(history[key]) > _DECADE * min(history[key]) > 0:
            axes.set_yscale("log")
    if path is not None:
        _write(figure, path)
    return figure


def schedule_curve(schedule: Schedule, path=None, steps: int | None = None) -> Figure:
    """The values of a schedule over the steps.

    Parameters
    ----------
    schedule : Schedule
    path : str or path, optional
        File to write; its extension selects the format.
    steps : int, optional
        How many; by default the schedule's own length, or 1000. A :class:`PerEpoch` is shown over
        epochs.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    ValueError
        If the schedule has fewer steps.

    Examples
    --------
    >>> from fastnn import plots, schedules
    >>> axes = plots.schedule_curve(schedules.WarmRestarts(T_0=100, T_mult=2)).axes[0]
    >>> axes.get_xlabel()
    'step'
    """
    if steps is not None:
        steps = whole_number(steps, "steps")
    span = Span(0, steps or schedule.length or 1000)
    resolved = schedule.resolved(span)  # with a step for each epoch
    steps = steps or resolved.length or span.steps
    values = resolved.values(0, steps)
    each = -(-steps // _MOST_POINTS)
    figure = _new_figure(figsize=(5, 3.6))
    axes = figure.subplots()
    axes.plot(range(0, steps, each), values[::each], drawstyle="steps-post" if steps < 50 else None)
    axes.set_xlabel("epoch" if isinstance(schedule, PerEpoch) else "step")
    axes.set_ylabel("value")
    axes.set_title(textwrap.shorten(repr(schedule), 60, placeholder=" ..."), fontsize="medium")
    axes.grid(alpha=0.3)
    if path is not None:
        _write(figure, path)
    return figure
