"""Levels of vector instructions: their names, and the one that ``FASTNN_SIMD`` asks for.

``FASTNN_SIMD`` forces a lower level: ``avx2`` or ``plain`` where the processor has AVX-512. The
results do not depend on it, to the last bit; it is there to prove just that.
"""

from __future__ import annotations

import os

#: All levels, the best first; what a level must have is known to the compiled engines.
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
