"""The data set that fastnn contains, readers of others, and splitting rows."""

from .digits import load_digits
from .idx import load_idx, load_mnist
from .images import Images, load_images
from .split import stratified_split

__all__ = ["Images", "load_digits", "load_idx", "load_images", "load_mnist", "stratified_split"]
