"""Workspaces kept between predictions, so that a small one allocates nothing."""

from __future__ import annotations

import numpy as np

from .engines.workspace import Workspace


class IdleWorkspaces:
    """Workspaces that no thread uses, for predictions and for gradients."""

    def __init__(self):
        self._for_prediction: list[Workspace] = []
        self._for_gradients: list[Workspace] = []

    def take(
        self, plan, params: np.ndarray, state: np.ndarray, rows: int, total_rows: int | None = None
    ) -> Workspace:
        """A workspace for `rows`; with `total_rows`, for the gradient of a batch in pieces."""
        idle = self._for_prediction if total_rows is None else self._for_gradients
        try:
            ws = idle.pop()  # another thread may have emptied the list
        except IndexError:
            ws = None
        if (
            ws is not None
            and ws.is_for(plan, params, state)
            and ws.capacity >= rows
            and (total_rows is None or (ws.rows == rows and ws.total_rows >= total_rows))
        ):
            return ws
        trains = total_rows is not None
        return Workspace(plan, params, state, rows, None, total_rows, training=trains)

    def put_back(self, ws: Workspace) -> None:
        """Keep a workspace for the next call of :meth:`take`."""
        (self._for_gradients if ws.layout.training else self._for_prediction).append(ws)
