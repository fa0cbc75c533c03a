"""Data that is shipped with fastnn, and how it is split."""

from .digits import load_digits
from .split import stratified_split

__all__ = ["load_digits", "stratified_split"]
