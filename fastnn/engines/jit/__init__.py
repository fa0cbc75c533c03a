"""The Numba engine: leaves compiled on first use, kept on disk, called by address."""

from . import activations, batches, cache, driver, heads, narrow, products, rows, slabs, updates
from .kernels import address, names
from .pool import launch

__all__ = [
    "activations",
    "address",
    "batches",
    "cache",
    "driver",
    "heads",
    "launch",
    "names",
    "narrow",
    "products",
    "rows",
    "slabs",
    "updates",
]
