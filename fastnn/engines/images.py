"""Calls of the compiled functions that change images: see :mod:`.protocol`."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

_WARP = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 7)
_FOUR = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 4)


class ImageFunctions:
    """What a compiled engine does with images, by its ``address``."""

    address: Callable[[str, Any], int]

    def warp(self, images, maps, fields, shape, fill):
        height, width, channels = shape
        n = _check_images(images, shape)
        _check(maps, (n, 6), images.dtype)
        if fields is not None:
            _check(fields, (n, 2, height, width), images.dtype)
        # Positions count in the image with a border of one pixel, so that they are not negative.
        maps = maps + np.array([0, 0, 1, 0, 0, 1], images.dtype)
        near = fill is not None
        limits = [1 - near, height + near, 1 - near, width + near, fill or 0.0]
        room = (height + 3) * (width + 3) * channels + width
        self._call(
            "warp", _WARP, images.dtype, images, images, maps, fields,
            np.array(limits, images.dtype), np.empty(room, images.dtype),
            np.array([n, *shape, fill is None, fields is not None], np.int64),
        )  # fmt: skip

    def smooth(self, fields, weights):
        n, height, width = fields.shape
        reach = len(weights) // 2
        _check(fields, (n, height, width), fields.dtype)
        _check(weights, (2 * reach + 1,), fields.dtype)
        room = np.empty(2 * height * (width + reach) + reach, fields.dtype)
        sizes = np.array([n, height, width, reach], np.int64)
        self._call("smooth", _FOUR, fields.dtype, fields, weights, room, sizes)

    def cut(self, images, boxes, shape, fill):
        n = _check_images(images, shape)
        _check(boxes, (n, 4), np.int64)
        first, last, most = boxes[:, ::2], boxes[:, 1::2], np.array(shape[:2])
        if not ((first >= 0) & (first <= last) & (last <= most)).all():
            raise ValueError("a box is not within its image")
        fill, sizes = np.array([fill], images.dtype), np.array([n, *shape], np.int64)
        self._call("cut", _FOUR, images.dtype, images, boxes, fill, sizes)

    def _call(self, name, kind, dtype, *arrays):
        function = kind(self.address(name, dtype))
        function(*(None if array is None else array.ctypes.data for array in arrays))


def _check_images(images, shape) -> int:
    _check(images, (len(images), int(np.prod(shape))), images.dtype)
    return len(images)


def _check(array, shape, dtype) -> None:
    """Refuse arrays that compiled code would read or write as something else."""
    if array.shape != shape or array.dtype != dtype or not array.flags.carray:
        raise ValueError(
            f"an array of {array.dtype} of the shape {array.shape}, not a contiguous one of "
            f"{np.dtype(dtype)} of the shape {shape}"
        )
