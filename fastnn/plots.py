"""Plots, with Matplotlib (extra ``plot``). No window is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .training import History


def _new_figure(**arguments) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plots need Matplotlib: pip install 'fastnn[plot]'") from None
    return Figure(layout="constrained", **arguments)


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
    >>> history = Sequential([Dense(1)]).fit([[0.0], [1.0]], [0.0, 1.0], progress=False)
    >>> len(plots.learning_curves(history).axes)
    1
    """
    panels = [("loss", history.loss_name.replace("_", " "))]
    if "accuracy" in history:
        panels.append(("accuracy", "accuracy"))
    figure = _new_figure(figsize=(5 * len(panels), 3.6))
    epochs = range(1, len(history["loss"]) + 1)
    for axes, (key, label) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        axes.plot(epochs, history[key], label="training")
        if f"val_{key}" in history:
            axes.plot(epochs, history[f"val_{key}"], label="validation")
        if f"average_val_{key}" in history:
            axes.plot(epochs, history[f"average_val_{key}"], label="validation of the average")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend()
        if key == "loss" and min(history[key]) > 0:
            axes.set_yscale("log")
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure
