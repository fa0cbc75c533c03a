"""Levels of vector instructions: their names, and the choice of one by ``FASTNN_SIMD``.

``FASTNN_SIMD`` forces a lower level: ``avx2`` or ``plain`` on a processor with AVX-512. The results
are equal bit for bit at every level; the variable exists to test that.
"""

from __future__ import annotations

import os

#: All levels, the best first; the compiled engines define the instructions that each requires.
NAMES = ("avx512", "avx2", "neon", "plain")


def choose(host: str) -> str:
    """The level to use on a processor whose best one is `host`.

    Raises
    ------
    ValueError
        If ``FASTNN_SIMD`` is not a level, or this processor does not have it.
    """
    chosen = os.environ.get("FASTNN_SIMD") or host
    if chosen not in NAMES:
        raise ValueError(f"FASTNN_SIMD must be one of {', '.join(NAMES)}, not {chosen!r}")
    foreign = {chosen, host} == {"avx2", "neon"} or (chosen == "neon" and host != "neon")
    if NAMES.index(chosen) < NAMES.index(host) or foreign:
        raise ValueError(f"FASTNN_SIMD={chosen}: this processor has {host}, not {chosen}")
    return chosen
