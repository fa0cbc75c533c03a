"""Augmentation of images with one effect each."""

from __future__ import annotations

from ..checks import real_number, whole_number
from .images import FAR, FLIPS, Images


class Shift(Images):
    """Images moved by up to so many pixels in each direction.

    Parameters
    ----------
    shape : tuple of int
        As for :class:`Images`.
    pixels : float, default 2
    fill : float or "edge", default 0.0

    Examples
    --------
    >>> from fastnn.augmentation import Shift
    >>> Shift((28, 28), 3)
    Shift((28, 28), pixels=3.0)
    """

    def __init__(self, shape, pixels=2, fill=0.0):
        pixels = real_number(pixels, "pixels", least=0.0, below=FAR)
        super().__init__(shape, shift=pixels, fill=fill)

    def _shown(self):
        return {"pixels": self.shift}


class Rotate(Images):
    """Images turned by up to so many degrees, either way.

    Parameters
    ----------
    shape : tuple of int
        As for :class:`Images`.
    degrees : float, default 10
    fill : float or "edge", default 0.0

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.augmentation import Rotate
    >>> turned = Rotate((3, 3), 45)(np.eye(9, dtype=np.float32), np.random.default_rng(0))
    >>> bool(turned[4, 4] == 1)
    True
    """

    def __init__(self, shape, degrees=10, fill=0.0):
        super().__init__(shape, rotate=real_number(degrees, "degrees", least=0.0), fill=fill)

    def _shown(self):
        return {"degrees": self.rotate}


class Scale(Images):
    """Images enlarged by a factor between 1 - by and 1 + by.

    Parameters
    ----------
    shape : tuple of int
        As for :class:`Images`.
    by : float, default 0.1
        Below 1.
    fill : float or "edge", default 0.0

    Examples
    --------
    >>> from fastnn.augmentation import Scale
    >>> Scale((28, 28), 0.2)
    Scale((28, 28), by=0.2)
    """

    def __init__(self, shape, by=0.1, fill=0.0):
        super().__init__(shape, scale=real_number(by, "by", least=0.0, below=1.0), fill=fill)

    def _shown(self):
        return {"by": self.scale}


class Flip(Images):
    """Images of which half are mirrored.

    Parameters
    ----------
    shape : tuple of int
        As for :class:`Images`.
    direction : {"horizontal", "vertical", "both"}, default "horizontal"
        "horizontal" exchanges left and right.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.augmentation import Flip
    >>> Flip((1, 2))(np.array([[1.0, 2.0]] * 3), np.random.default_rng(4))
    array([[1., 2.],
           [1., 2.],
           [2., 1.]])
    """

    def __init__(self, shape, direction="horizontal"):
        if not isinstance(direction, str) or direction not in FLIPS:
            raise ValueError(f"direction must be one of {list(FLIPS[2:])}, not {direction!r}")
        super().__init__(shape, flip=direction)

    def _shown(self):
        return {"direction": self.flip}


class Crop(Images):
    """A random part of the padded image, as large as the image: a shift by whole pixels.

    Parameters
    ----------
    shape : tuple of int
        As for :class:`Images`.
    padding : int, default 4
        Pixels that are added on each side.
    fill : float or "edge", default 0.0
        What is added.

    Examples
    --------
    >>> from fastnn.augmentation import Crop
    >>> Crop((32, 32, 3), 4)
    Crop((32, 32, 3), padding=4)
    """

    def __init__(self, shape, padding=4, fill=0.0):
        super().__init__(shape, crop=whole_number(padding, "padding", least=0), fill=fill)

    def _shown(self):
        return {"padding": self.crop}


class Elastic(Images):
    """Images bent by smooth random displacements (P. Y. Simard et al., 2003).

    Parameters
    ----------
    shape : tuple of int
        As for :class:`Images`.
    alpha : float, default 36
        Displacements are from -alpha to alpha before they are smoothed.
    sigma : float, default 5
        Pixels of the Gaussian that smooths them.
    fill : float or "edge", default 0.0

    Examples
    --------
    >>> from fastnn.augmentation import Elastic
    >>> Elastic((28, 28))
    Elastic((28, 28), alpha=36.0, sigma=5.0)
    """

    def __init__(self, shape, alpha=36, sigma=5, fill=0.0):
        super().__init__(shape, elastic=(alpha, sigma), fill=fill)

    def _shown(self):
        assert self.elastic is not None
        return dict(zip(("alpha", "sigma"), self.elastic, strict=True))


class Cutout(Images):
    """Images of which a square around a random pixel is blank (T. DeVries and G. W. Taylor, 2017).

    Parameters
    ----------
    shape : tuple of int
        As for :class:`Images`.
    size : int, default 8
        The side of the square.
    fill : float, default 0.0
        What it holds.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.augmentation import Cutout
    >>> int(Cutout((4, 4), 1)(np.ones((1, 16)), np.random.default_rng(0)).sum())
    15
    """

    def __init__(self, shape, size=8, fill=0.0):
        size = whole_number(size, "size", least=0)
        super().__init__(shape, cutout=size, fill=real_number(fill, "fill"))

    def _shown(self):
        return {"size": self.cutout}
