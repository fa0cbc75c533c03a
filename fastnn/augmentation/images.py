"""Augmentation of images: all effects, in one interpolation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import engines
from ..checks import real_number, whole_number
from .rows import RowWise, add_noise

#: Random numbers of an image: what each of them decides on.
_DRAWN = 10
_DOWN, _RIGHT, _TURN, _SIZE, _MIRROR, _UPSIDE, _CROPS, _CUTS = 0, 1, 2, 3, 4, 5, (6, 7), (8, 9)

#: Standard deviations after which a Gaussian is cut off.
_REACH = 3

#: Most elements of an image with its border, whose places are numbers of 32 bits.
_MOST_ELEMENTS = 2**31 - 1

#: More pixels than any displacement is smoothed over: what is one number in all images.
_MOST_SIGMA = 1e4

#: More pixels than any image moves by: positions stay finite in float32.
FAR = 2.0**31

FLIPS = (False, True, "horizontal", "vertical", "both")


class Images(RowWise):
    """Images in the rows of X, changed at random: each gets numbers of its own.

    Shift, rotation, scale, flip, crop and elastic displacements make one map from every pixel to
    the place that it comes from, so that each image is interpolated once, bilinearly. Noise is
    added to what that gives, and the squares are cut out at last.

    Parameters
    ----------
    shape : tuple of int
        (height, width) or (height, width, channels) of an image, whose elements lie in this order.
    shift : float, default 0
        Most pixels that an image moves, in each direction, also by fractions.
    rotate : float, default 0
        Most degrees that it is turned by, either way, about its centre.
    scale : float, default 0
        It is enlarged by a factor between 1 - scale and 1 + scale.
    flip : bool or {"horizontal", "vertical", "both"}, default False
        Whether half of the images are mirrored; True is "horizontal", left to right. "both" decides
        on each direction by itself.
    crop : int, default 0
        Pixels that are added around an image, of which a part as large as before is taken.
    elastic : tuple (alpha, sigma), optional
        Every pixel is displaced by uniform random numbers from -alpha to alpha, smoothed by a
        Gaussian of sigma pixels: P. Y. Simard et al., Best practices for convolutional neural
        networks applied to visual document analysis, 2003. For digits of 28 x 28 pixels
        (36, 5) is a good start.
    cutout : int, default 0
        The side of a square around a random pixel that is made blank, as far as it lies inside:
        T. DeVries and G. W. Taylor, arXiv:1708.04552, 2017.
    noise : float, default 0
        Standard deviation of normal noise of every element.
    fill : float or "edge", default 0.0
        What lies beyond an image: a number, in the units that the network reads, or its nearest
        pixel. Cut squares are blank with the number, or 0.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.augmentation import Images
    >>> augment = Images((28, 28), shift=2, rotate=10, scale=0.1)
    >>> augment
    Images((28, 28), shift=2.0, rotate=10.0, scale=0.1)
    >>> batch = np.ones((32, 784), np.float32)
    >>> augment(batch, np.random.default_rng(0)).shape
    (32, 784)
    """

    def __init__(
        self, shape, shift=0.0, rotate=0.0, scale=0.0, flip=False, crop=0, elastic=None, cutout=0,
        noise=0.0, fill=0.0,
    ):  # fmt: skip
        self.shape = _checked_shape(shape)
        self.shift = real_number(shift, "shift", least=0.0, below=FAR)
        self.rotate = real_number(rotate, "rotate", least=0.0)
        self.scale = real_number(scale, "scale", least=0.0, below=1.0)
        if isinstance(flip, np.bool_):
            flip = bool(flip)
        if not isinstance(flip, bool | str) or flip not in FLIPS:
            raise ValueError(f"flip must be one of {list(FLIPS)}, not {flip!r}")
        self.flip = flip
        self.crop = whole_number(crop, "crop", least=0)
        self.elastic = _checked_elastic(elastic)
        self.cutout = whole_number(cutout, "cutout", least=0)
        self.noise = real_number(noise, "noise", least=0.0)
        is_edge = isinstance(fill, str) and fill == "edge"
        self.fill = fill if is_edge else real_number(fill, "fill")

    @property
    def n_inputs(self) -> int:
        """Elements of an image."""
        return math.prod(self.shape)

    def draw(self, shape, dtype, rng):
        """Numbers from 0 to 1 for each image and for its elastic displacements, and noise."""
        height, width = self.shape[:2]
        uniform = rng.random((shape[0], _DRAWN))
        fields = None
        if self.elastic is not None:
            fields = rng.random((shape[0], 2, height, width), dtype)
        return uniform, fields, rng.standard_normal(shape, dtype) if self.noise else None

    def apply(self, batch, drawn):
        """Change the images in place; destroys what was drawn."""
        uniform, fields, noise = drawn
        engine, shape = engines.current(), (*self.shape, 1)[:3]
        fill = None if self.fill == "edge" else self.fill
        if self._moves:
            if fields is not None:
                self._smooth(fields)
            engine.warp(batch, self._maps(uniform).astype(batch.dtype), fields, shape, fill)
        if noise is not None:
            add_noise(batch, self.noise, noise)
        if self.cutout:
            engine.cut(batch, self._boxes(uniform), shape, fill or 0.0)

    @property
    def _moves(self) -> bool:
        moves = (self.shift, self.rotate, self.scale, self.flip, self.crop)
        return any(moves) or self.elastic is not None

    def _maps(self, drawn: np.ndarray) -> np.ndarray:
        """Where the pixels of each image come from: rows (row/row, row/column, row, ...).

        An image is mirrored, enlarged and turned about its centre, then shifted; this is the
        inverse.
        """
        height, width = self.shape[:2]
        y, x = (height - 1) / 2, (width - 1) / 2
        angle = math.radians(self.rotate) * (2 * drawn[:, _TURN] - 1)
        size = 1 + self.scale * (2 * drawn[:, _SIZE] - 1)
        cosine, sine = np.cos(angle) / size, np.sin(angle) / size
        down, right = (self.shift * (2 * drawn[:, column] - 1) for column in (_DOWN, _RIGHT))
        down = down + np.floor((2 * self.crop + 1) * drawn[:, _CROPS[0]]) - self.crop
        right = right + np.floor((2 * self.crop + 1) * drawn[:, _CROPS[1]]) - self.crop
        across = np.where(self._mirrors("horizontal") & (drawn[:, _MIRROR] < 0.5), -1.0, 1.0)
        upside = np.where(self._mirrors("vertical") & (drawn[:, _UPSIDE] < 0.5), -1.0, 1.0)
        y_of, x_of = (upside * cosine, -upside * sine), (across * sine, across * cosine)
        maps = np.empty((len(drawn), 6))
        for first, centre, (of_row, of_column) in ((0, y, y_of), (3, x, x_of)):
            maps[:, first], maps[:, first + 1] = of_row, of_column
            maps[:, first + 2] = centre - of_row * (y + down) - of_column * (x + right)
        return maps

    def _mirrors(self, direction: str) -> bool:
        return self.flip in (direction, "both") or (self.flip is True and direction != "vertical")

    def _smooth(self, fields: np.ndarray) -> None:
        """Make of numbers from 0 to 1, (n, 2, height, width), displacements down and right."""
        assert self.elastic is not None
        alpha, sigma = self.elastic
        reach = max(1, round(_REACH * sigma))
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        fields -= 0.5
        fields *= 2 * alpha
        weights = (weights / weights.sum()).astype(fields.dtype)
        engines.current().smooth(fields.reshape(-1, *fields.shape[2:]), weights)

    def _boxes(self, drawn: np.ndarray) -> np.ndarray:
        """The squares to cut out, (n, 4): top, bottom, left, right."""
        boxes = np.empty((len(drawn), 4), np.int64)
        for axis, column in enumerate(_CUTS):
            length = self.shape[axis]
            begin = np.floor(length * drawn[:, column]) - self.cutout // 2
            boxes[:, 2 * axis] = np.clip(begin, 0, length)
            boxes[:, 2 * axis + 1] = np.clip(begin + self.cutout, 0, length)
        return boxes

    def _shown(self) -> dict[str, Any]:
        """The arguments besides the shape that are not the defaults."""
        given = {
            name: getattr(self, name)
            for name in ("shift", "rotate", "scale", "flip", "crop", "elastic", "cutout", "noise")
        }
        return {name: value for name, value in given.items() if value not in (0, None)}

    def __repr__(self) -> str:
        shown = self._shown() | ({} if self.fill == 0 else {"fill": self.fill})
        return f"{type(self).__name__}({', '.join([str(self.shape), *_assignments(shown)])})"


def _assignments(arguments: dict[str, Any]) -> list[str]:
    return [f"{name}={value!r}" for name, value in arguments.items()]


def _checked_shape(shape) -> tuple[int, ...]:
    if not isinstance(shape, tuple | list) or len(shape) not in (2, 3):
        raise ValueError(
            f"shape must be (height, width) or (height, width, channels), not {shape!r}"
        )
    names = "height", "width", "channels"
    checked = tuple(whole_number(n, f"the {name}") for n, name in zip(shape, names, strict=False))
    if math.prod((checked[0] + 3, checked[1] + 3, *checked[2:])) > _MOST_ELEMENTS:
        raise ValueError(f"images of the shape {checked} are too large")
    return checked


def _checked_elastic(elastic) -> tuple[float, float] | None:
    if elastic is None:
        return None
    if not isinstance(elastic, tuple | list) or len(elastic) != 2:
        raise TypeError(f"elastic must be a pair (alpha, sigma), not {elastic!r}")
    alpha = real_number(elastic[0], "alpha", least=0.0, below=FAR)
    return alpha, real_number(elastic[1], "sigma", below=_MOST_SIGMA, positive=True)
