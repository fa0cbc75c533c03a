"""Operations: one home each, for everything that is true of one on every engine.

A module of this package that has an ``OPERATION`` is such a home. Its arithmetic is in the files
of the same name in ``engines/reference``, ``engines/jit`` and ``engines/csrc``.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from .operation import Operation


def _find() -> dict[str, Operation]:
    modules = [import_module(f".{m.name}", __name__) for m in pkgutil.iter_modules(__path__)]
    homes = [module.OPERATION for module in modules if hasattr(module, "OPERATION")]
    return {home.name: home for home in homes}


#: Every operation by name, and by its code in the tables.
OPERATIONS = _find()
BY_KIND = {home.kind: home for home in OPERATIONS.values()}
