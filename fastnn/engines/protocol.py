"""The functions that every engine has, with their signatures."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from .workspace import Data, Steps, Workspace


class Engine(Protocol):
    """An engine: the numpy engine is a module, the compiled ones are objects.

    All functions run on the batches first, ..., last-1 of the data, by default on all. Splitting a
    run into several calls changes nothing.
    """

    name: str

    def forward(
        self, ws: Workspace, data: Data, out: np.ndarray, function: str = "logits",
        first: int = 0, last: int | None = None,
    ) -> None:  # fmt: skip
        """Write the outputs of the rows into `out`, which is (n_rows, n_outputs).

        `function` is "logits", "output" (after the last activation), or "sigmoid" or "softmax"
        of the logits.
        """

    def evaluate(
        self, ws: Workspace, data: Data, results: np.ndarray, first: int = 0,
        last: int | None = None,
    ) -> bool:  # fmt: skip
        """Write (sum of losses, n_correct) of each batch into `results`, (last - first, 2).

        Returns whether all losses are finite.
        """

    def loss_and_grad(
        self, ws: Workspace, data: Data, results: np.ndarray, first: int = 0,
        last: int | None = None, steps: Steps | None = None,
    ) -> None:  # fmt: skip
        """Add the gradient of pieces of one batch to ``ws.grad``; the first piece overwrites it.

        `results`, (2,), is the running (sum of losses, n_correct). The batches of `data` are
        pieces of one batch, of a multiple of KC rows except the last one. In the compiled engines
        the sum has the same bits as for one piece. If ``data.separate``, they are small batches of
        any size instead, which have statistics of their own and change the running ones, and the
        gradient is the mean over the rows of all of them. If the loss is not finite, the gradient
        is NaN. `steps` says which step of a training it belongs to.
        """

    def update(self, ws: Workspace, steps: Steps) -> None:
        """One optimizer step from ``ws.grad`` for each row of ``steps.hyper``."""

    def run_batches(
        self, ws: Workspace, data: Data, steps: Steps, results: np.ndarray, first: int, last: int
    ) -> int:
        """Train on minibatches, with a row of hyperparameters in `steps` for each.

        It writes each batch's sum of losses and n_correct into `results`, (last - first, 2), and
        returns the number of batches trained on: fewer than last - first only if the loss of the
        next one is not finite. An exception of a user's function is raised after the driver has
        stopped; ``ws.completed`` then says how many batches were trained on.
        """

    def permutations(self, seed: int, stream: int, first: int, count: int, n: int) -> np.ndarray:
        """The orders of :func:`fastnn.random.permutations`: (count, n), int64."""

    def warp(
        self, images: np.ndarray, maps: np.ndarray, fields: np.ndarray | None,
        shape: tuple[int, int, int], fill: float | None,
    ) -> None:  # fmt: skip
        """Move the pixels of images in place, by bilinear interpolation.

        `images` is (n, height * width * channels), `shape` the last three. Row k of `maps`, (n, 6),
        is (a, b, c, d, e, f): pixel (row, column) becomes what image k has at row a row + b column
        + c and column d row + e column + f, plus ``fields[k]`` (2, height, width) if there are any.
        Beyond the image there is `fill`, or the nearest pixel if it is None. All arrays are of the
        type of `images`; a value has the same bits in all compiled engines.
        """

    def smooth(self, fields: np.ndarray, weights: np.ndarray) -> None:
        """Smooth fields (n, height, width) in place by an odd number of weights.

        The sums run down and then to the right; there are zeros around a field.
        """

    def cut(
        self, images: np.ndarray, boxes: np.ndarray, shape: tuple[int, int, int], fill: float
    ) -> None:
        """Write `fill` into a box of each image: int64 (n, 4), (top, bottom, left, right)."""
