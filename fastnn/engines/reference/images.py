"""Images in the rows of a batch: moved, smoothed and cut out for augmentation."""

from __future__ import annotations

import numpy as np


def warp(
    images: np.ndarray, maps: np.ndarray, fields: np.ndarray | None, shape: tuple[int, int, int],
    fill: float | None,
) -> None:  # fmt: skip
    """Bilinear interpolation of each image at its positions, between its pixels and `fill`."""
    height, width = shape[:2]
    x = images.reshape(-1, *shape)
    rows, columns = np.indices((height, width), images.dtype)
    m = maps[:, :, None, None]
    y = m[:, 0] * rows + m[:, 1] * columns + m[:, 2]
    x_ = m[:, 3] * rows + m[:, 4] * columns + m[:, 5]
    if fields is not None:
        y, x_ = y + fields[:, 0], x_ + fields[:, 1]
    border = ((0, 0), (1, 2), (1, 2), (0, 0))
    if fill is None:
        padded, near = np.pad(x, border, "edge"), 0
    else:
        padded, near = np.pad(x, border, constant_values=fill), 1
    y = np.clip(y, -near, height - 1 + near) + 1
    x_ = np.clip(x_, -near, width - 1 + near) + 1
    i, j = y.astype(np.int64), x_.astype(np.int64)
    down, right = (y - i)[..., None], (x_ - j)[..., None]
    k = np.arange(len(x))[:, None, None]
    upper = (1 - right) * padded[k, i, j] + right * padded[k, i, j + 1]
    lower = (1 - right) * padded[k, i + 1, j] + right * padded[k, i + 1, j + 1]
    x[:] = (1 - down) * upper + down * lower


def smooth(fields: np.ndarray, weights: np.ndarray) -> None:
    """Each field as the weighted sum of its neighbours, down and then to the right."""
    reach = len(weights) // 2
    for axis in (1, 2):
        border = [(0, 0)] * 3
        border[axis] = (reach, reach)
        near = np.lib.stride_tricks.sliding_window_view(
            np.pad(fields, border), len(weights), axis=axis
        )
        fields[:] = near @ weights


def cut(images: np.ndarray, boxes: np.ndarray, shape: tuple[int, int, int], fill: float) -> None:
    """`fill` in the box of each image."""
    for image, (top, bottom, left, right) in zip(images.reshape(-1, *shape), boxes, strict=True):
        image[top:bottom, left:right] = fill
