"""What bench/accuracy.py trains: an architecture and its training, for each contender."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """A network and its training; every contender takes of it what its library has."""

    hidden: tuple[int, ...] = (512, 512)
    epochs: int = 10
    batch_size: int = 128
    lr: float = 4e-3
    weight_decay: float = 0.01
    batch_norm: bool = True
    dropout: float = 0.1
    #: Standard deviation of what is added to the (standardised) pixels.
    noise: float = 0.0
    label_smoothing: float = 0.1
    #: One cycle of the rate with its peak at `lr`, over all epochs; else `lr` throughout.
    one_cycle: bool = True
    #: L2 penalty of scikit-learn's loss.
    alpha: float = 0.0
    #: Arguments of fastnn.augmentation.Images, such as (("shift", 2), ("rotate", 10)). PyTorch and
    #: JAX have a shift by whole pixels and a flip, written for them in their contenders;
    #: scikit-learn has none of it.
    augment: tuple[tuple[str, float], ...] = (("shift", 1.0),)

    @property
    def network(self) -> str:
        """The widths and the layers between them."""
        words = ["-".join(map(str, (784, *self.hidden, 10)))]
        words += ["batch norm"] * self.batch_norm
        words += [f"dropout {self.dropout:g}"] * (self.dropout > 0)
        words += [f"noise {self.noise:g}"] * (self.noise > 0)
        words += [f"{name} {value:g}" for name, value in self.augment]
        return ", ".join(words)

    @property
    def shift(self) -> int:
        """The most whole pixels by which PyTorch and JAX move an image."""
        return round(dict(self.augment).get("shift", 0))

    @property
    def flip(self) -> bool:
        """Whether half of the images are mirrored."""
        return bool(dict(self.augment).get("flip", False))

    def __str__(self) -> str:
        rate = f"one cycle to {self.lr:g}" if self.one_cycle else f"rate {self.lr:g}"
        return f"{self.network}; batches of {self.batch_size}, {rate}"

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, as of fastnn's and PyTorch's OneCycle."""
        if not self.one_cycle:
            return self.lr
        low, end = self.lr / 25, self.lr / 25e4
        top = 0.3 * steps - 1
        if step <= top:
            return _cosine(low, self.lr, step / top)
        return _cosine(self.lr, end, (step - top) / max(steps - 1 - top, 1e-9))


def _cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * share))


def augmentation(recipe: Recipe, n_pixels: int, blank: float) -> dict:
    """The arguments of fastnn's fit that augment square images, whose background is `blank`."""
    if not recipe.augment:
        return {}
    from fastnn.augmentation import Images

    side = math.isqrt(n_pixels)
    return {"augment": Images((side, side), fill=blank, **dict(recipe.augment))}


#: Goals in percent of the test images.
GOALS = {"mnist": (98.0, 98.5, 99.0), "fashion_mnist": (88.5, 90.0, 91.0), "digits": (90.0, 95.0)}

_SAME = Recipe()
_OWN = replace(_SAME, hidden=(128, 128), epochs=5, lr=8e-3, dropout=0.0)
_CLOTHES = replace(
    _SAME, epochs=30, lr=3e-3, weight_decay=0.1, dropout=0.0, noise=0.2,
    augment=(("shift", 0.7), ("flip", True)),
)  # fmt: skip
_OWN_CLOTHES = replace(_CLOTHES, hidden=(256, 256), epochs=12, lr=5e-3, noise=0.1)
_PLAIN = replace(
    _SAME, batch_norm=False, dropout=0.0, label_smoothing=0.0, one_cycle=False, lr=1e-3,
    weight_decay=0.0, batch_size=200, epochs=20, alpha=1e-3, augment=(),
)  # fmt: skip
#: (data set, the "same" widths for all, their "own", or for the "most" that fastnn can reach): what
#: is trained, except by scikit-learn.
_CHOSEN = {
    ("mnist", "same"): _SAME,
    ("mnist", "own"): _OWN,
    ("mnist", "most"): replace(
        _SAME,
        epochs=30,
        dropout=0.0,
        augment=(("shift", 1.5), ("rotate", 6), ("scale", 0.05)),
    ),
    ("fashion_mnist", "same"): _CLOTHES,
    ("fashion_mnist", "own"): _OWN_CLOTHES,
    ("fashion_mnist", "most"): replace(_CLOTHES, hidden=(1024, 512), epochs=50),
}


def chosen(contender: str, way: str, data: str) -> Recipe:
    """The recipe of a contender; the digits have a small network."""
    if data == "digits":
        other = chosen(contender, way, "mnist")
        return replace(other, hidden=(64, 64), epochs=4, batch_size=32)
    if contender == "scikit-learn":
        return _PLAIN if way == "same" else replace(_PLAIN, hidden=(300,), epochs=30)
    return _CHOSEN[data, way]


@dataclass(frozen=True)
class Textbook:
    """A classic run and the accuracy that books report, in percent."""

    title: str
    hidden: int
    loss: str
    lr: float
    l2: float
    epochs: int
    expected: float


#: M. Nielsen, Neural Networks and Deep Learning, 2015, chapters 1 and 3: sigmoid throughout, and
#: batches of 10. His penalty (lambda / 2n) sum w^2 with lambda 5 and n 50000 is l2 = 5e-5.
TEXTBOOK = {
    "squared": Textbook(
        "784-30-10, squared error, SGD", 30, "squared_error", 3.0, 0.0, 30, 95.0
    ),
    "cross-entropy": Textbook(
        "784-100-10, cross-entropy, L2", 100, "binary_cross_entropy", 0.1, 5e-5, 60, 98.0
    ),
}  # fmt: skip
