"""The numpy engine: one readable function per operation, with the formulas of textbooks.

It is the judge of the compiled engines: what they do in tiles and parts is written here as one
expression. Rows are samples: X is (m, n_in), W is (n_in, n_out), Z = X W + b.
"""

from __future__ import annotations

from .engine import evaluate, forward, loss_and_grad, permutations, run_batches, update
from .images import cut, smooth, warp

__all__ = [
    "cut",
    "evaluate",
    "forward",
    "loss_and_grad",
    "name",
    "permutations",
    "run_batches",
    "smooth",
    "update",
    "warp",
]

name = "numpy"
