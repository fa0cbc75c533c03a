"""The rows on which a network is evaluated after every epoch."""

from __future__ import annotations

import numpy as np

from . import run
from .engines.workspace import Data, Workspace


class Validation:
    """Rows to evaluate after every epoch, and what is measured on them."""

    def __init__(self, engine, plan, data: Data, y, target, loss, metrics=()):
        self._engine, self._data = engine, data
        data.batch_size = run.chunk_rows(plan, data.n_rows)

    @property
    def batch_size(self) -> int:
        """Rows of a workspace for it."""
        return self._data.batch_size

    def names(self, prefix: str = "val_") -> list[str]:
        """The names of its values."""
        return [prefix + name for name in (["loss", "accuracy"] if self._data.metric else ["loss"])]

    def bind(self, ws: Workspace) -> None:
        """Compile and bind what :meth:`values` runs."""
        self._engine.evaluate(ws, self._data, np.zeros((0, 2)), 0, 0)

    def values(self, ws: Workspace, prefix: str = "val_") -> dict[str, float]:
        """The values for the parameters of a workspace."""
        return run.metrics(self._engine, ws, self._data, prefix)
