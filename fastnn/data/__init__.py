"""The data set that fastnn contains, readers of others, and splitting rows."""

from .digits import load_digits
from .idx import load_idx, load_mnist
from .images import ImageData, load_images
from .split import stratified_split

__all__ = ["ImageData", "load_digits", "load_idx", "load_images", "load_mnist", "stratified_split"]
