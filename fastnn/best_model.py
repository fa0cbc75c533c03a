"""The callback that keeps the best model of a fit in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import safe_writes
from .callbacks import Callback
from .early_stopping import EarlyStopping, Watch

if TYPE_CHECKING:
    from .training import Training


class BestModel(Callback):
    """Save the network whenever an epoch is the best so far.

    The file is a model file, as :meth:`fastnn.Sequential.save` writes it: at every moment there is
    a whole one. A fit that resumes a checkpoint goes on from the best value.

    Parameters
    ----------
    path : str or path
        The model file; an existing one is replaced by the first epoch.
    metric : str, optional
        A key of the history. By default "val_loss", or "loss" without validation rows. One that
        begins with "average_" saves the averaged weights.
    mode : {"auto", "min", "max"}
        Whether smaller or larger is better; "auto" is "max" for accuracies and those metrics of
        which more is better.
    min_delta : float, default 0
        An improvement is better than the best by more than this.

    Attributes
    ----------
    best : float or None
        The value of the epoch that was saved last.
    best_epoch : int or None
        Its number, from 1 on.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type; or when a fit begins whose epochs have
        no value of that name.
    OSError
        When the file cannot be written; the fit then ends.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastnn import BestModel, Dense, Sequential, load
    >>> net = Sequential([Dense(1)])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     best = BestModel(Path(directory) / "best.safetensors")
    ...     history = net.fit([[0.0], [1.0]], [0.0, 1.0], callbacks=[best], progress=False)
    ...     found = load(best.path)
    >>> best.best == min(history["loss"])
    True
    """

    def __init__(self, path, metric: str | None = None, mode: str = "auto", min_delta: float = 0.0):
        EarlyStopping(metric=metric or "loss", mode=mode, min_delta=min_delta)  # checks them
        self.path, self.metric, self.mode, self.min_delta = Path(path), metric, mode, min_delta
        self.best: float | None = None
        self.best_epoch: int | None = None
        self._watch: Watch | None = None
        self._loaded: dict[str, Any] = {}

    def on_fit_begin(self, training: Training) -> None:
        """Look for the metric, and forget another fit's best."""
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"there is no directory {str(self.path.parent)!r} for the model {self.path.name}"
            )
        safe_writes.check(self.path)
        name = self.metric or ("loss" if training.validation is None else "val_loss")
        loaded = self._loaded if training.resumed else {}
        self.best, self.best_epoch = loaded.get("best"), loaded.get("best_epoch")
        rule = EarlyStopping(None, name, self.min_delta, self.best, False, self.mode)
        directions = training.fit.scheduled.directions
        self._watch, self._loaded = Watch.of(rule, directions, "BestModel"), {}

    def on_epoch_end(self, training: Training) -> None:
        """Save the network if this epoch is the best."""
        watch = self._watch
        assert watch is not None
        watch.observe(training)
        if watch.waited:
            return
        self.best, self.best_epoch = watch.best, training.epoch
        if not watch.rule.metric.startswith("average_"):
            training.net.save(self.path)
            return
        params, state, average = training.snapshot()
        ws = training.fit.ws
        try:
            ws.params[:], ws.state[:] = average[: len(params)], average[len(params) :]
            training.net.save(self.path)
        finally:
            ws.params[:], ws.state[:] = params, state

    def state_dict(self) -> dict[str, Any]:
        """The best value and its epoch."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a best value."""
        self._loaded = dict(state)
