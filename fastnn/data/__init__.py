"""The data set that fastnn contains, and splitting rows."""

from .digits import load_digits
from .split import stratified_split

__all__ = ["load_digits", "stratified_split"]
