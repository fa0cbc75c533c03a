"""The Numba engine: kernels compiled on first use, kept on disk, called by address.

Importing it imports every module of the package, so that all kernels are registered: a new
operation is a new file.
"""

import importlib
import pkgutil

from . import cache
from .kernels import address, compiled_address, names
from .pool import launch

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["address", "cache", "compiled_address", "launch", "names"]
