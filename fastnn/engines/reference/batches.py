"""Minibatches: which rows they are, their targets, and how many are classified correctly."""

from __future__ import annotations

import numpy as np


def rows_of(data, index):
    """The rows of a minibatch, as a slice or as numbers of rows."""
    rows = data.rows_of(index)
    return rows if data.order is None else data.order[rows]


def targets_of(data, rows, m, n_outputs, dtype):
    """Targets (m, n_outputs), one-hot coded where they are labels."""
    if data.labels is None:
        return data.Y[rows]
    if n_outputs == 1:
        return data.labels[rows].astype(dtype)[:, None]
    targets = np.zeros((m, n_outputs), dtype)
    targets[np.arange(m), data.labels[rows]] = 1
    return targets


def n_correct(metric, logits, targets):
    """How many rows are classified correctly: by the largest logit, or by all signs."""
    if metric is None:
        return 0.0
    if metric == "class":
        return float((logits.argmax(axis=1) == targets.argmax(axis=1)).sum())
    return float(((logits > 0) == (targets > 0.5)).all(axis=1).sum())
