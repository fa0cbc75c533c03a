"""The machine: its description, its measured peak, and an environment without tuning variables."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

#: Variables that change how many threads or which kernels a library uses.
TUNING = (
    "BLIS_", "GOMP_", "GOTO_", "KMP_", "MKL_", "NUMBA_", "OMP_", "OPENBLAS_", "XLA_", "VECLIB_",
    "FASTNN_ENGINE", "FASTNN_NUM_THREADS", "FASTNN_SIMD",
)  # fmt: skip

PEAK_SOURCE = Path(__file__).with_name("peak.c")


def clean_environment() -> list[str]:
    """Remove every tuning variable from this process and so from the processes it starts.

    Returns
    -------
    list of str
        The names that were removed.
    """
    removed = sorted(name for name in os.environ if name.startswith(TUNING))
    for name in removed:
        del os.environ[name]
    return removed


def cores() -> int:
    """Cores that this process may use, as fastnn counts them."""
    from fastnn.engines.threads import cpu_count

    return cpu_count()


def processor() -> str:
    """The name that the system reports for the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    if platform.system() == "Darwin":
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True
        )
        if asked.returncode == 0:
            return asked.stdout.strip()
    return platform.processor() or platform.machine()


def vector_unit() -> str:
    """The widest vector instructions that Linux reports, elsewhere the architecture."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return platform.machine()
    known = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "asimd": "NEON"}
    return next((name for flag, name in known.items() if flag in flags), platform.machine())


def describe() -> str:
    """One line: processor, cores, vector unit, system and Python."""
    n = cores()
    return (
        f"{processor()}, {n} core{'s' * (n > 1)}, {vector_unit()}, {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}"
    )


def seconds_of_others() -> float | None:
    """CPU seconds of everything but this process since the start of the machine (Linux).

    They include those that a hypervisor gave to other machines.
    """
    try:
        user, nice, system, _, _, irq, softirq, steal = map(
            int, Path("/proc/stat").read_text().split()[1:9]
        )
    except (OSError, ValueError):
        return None
    mine = os.times()
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK") - mine.user - mine.system


def compiler() -> str | None:
    """The system's C compiler, or None."""
    names = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def measure_peak(seconds: float = 0.4, threads: int | None = None) -> dict[str, float]:
    """Compile and run the peak program.

    Parameters
    ----------
    seconds : float
        How long each of its five measurements runs.
    threads : int, optional
        How many threads "all" stands for; by default one per core.

    Returns
    -------
    dict
        GFLOP/s of fused multiply-adds in one thread and in all: ``float32_one``, ``float32_all``,
        ``float64_one`` and ``float64_all``; GB/s read and written by a copy in all: ``copy_all``.

    Raises
    ------
    RuntimeError
        If there is no C compiler, or the program cannot be compiled or run; the text is one line.
    """
    command = compiler()
    if command is None:
        raise RuntimeError("no C compiler (cc, gcc or clang) was found: install one or set CC")
    with tempfile.TemporaryDirectory() as place:
        program = Path(place) / "peak"
        flags = ["-O3", "-march=native", "-ffp-contract=fast"]
        build = [command, *flags, "-o", program, PEAK_SOURCE, "-lpthread"]
        try:
            subprocess.run(build, check=True, capture_output=True, text=True, timeout=60)
            run = subprocess.run(
                [program, str(threads or cores()), str(seconds)],
                check=True, capture_output=True, text=True, timeout=60 + 20 * seconds,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            said = (error.stderr or "").strip().splitlines() or [f"exit status {error.returncode}"]
            raise RuntimeError(f"{Path(command).name} or its program failed: {said[0]}") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RuntimeError(f"the peak program could not be run: {error}") from None
    lines = (line.split() for line in run.stdout.splitlines())
    return {name: float(value) for name, value in lines}
