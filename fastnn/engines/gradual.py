"""The automatic choice where both compiled engines can run: c at once, numba when it is compiled.

Both give the same bits, so a fit may go over from one to the other between two calls. A process
starts on c and does not even import Numba. Once it has trained for :data:`PATIENCE` seconds, a
second process compiles what c has used, into the cache, and when that is done numba goes on.

The compiler is mostly Python. A thread of this process would hold the interpreter's lock against
the training, and at the end of the process or in a forked child it would leave LLVM half way; a
process does neither, and gives way to the training where cores are few.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from . import native
from .compiled import CompiledEngine

log = logging.getLogger("fastnn")

#: Seconds of training before Numba is imported, and between two looks at the compiling process.
PATIENCE, PAUSE = 2.0, 0.5

#: What the second process runs: it ends when its input does, and with it when this process ends.
_PROGRAM = """
import json, os, signal, sys, threading
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path[:], kernels = json.loads(sys.stdin.readline())
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
from fastnn.engines import jit
for name, dtype in kernels:
    jit.address(name, dtype)
os._exit(0)
"""


class _NotCompiledError(Exception):
    """Numba would have to compile a kernel."""


class GradualEngine:
    """Runs on c, and on numba once all kernels that c has used are in Numba's cache.

    Attributes
    ----------
    name : str
        That of the engine that runs now.
    """

    def __init__(self):
        self._wanted: set[tuple[str, str]] = set()
        self._c = CompiledEngine("c", self._address_in_c, native.launch, native.address)
        self._numba = CompiledEngine("numba", self._address_in_numba, native.launch, native.address)
        self._now = self._c
        self._seconds, self._look_at = 0.0, PATIENCE
        self._lock = threading.Lock()
        self._compiler: Compiler | None = None
        self._may_compile = True
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    @property
    def name(self) -> str:
        return self._now.name

    # -- the engine's functions: see protocol.py ----------------------------------------------

    def forward(self, *args, **named):
        return self._run("forward", args, named)

    def evaluate(self, *args, **named):
        return self._run("evaluate", args, named)

    def loss_and_grad(self, *args, **named):
        return self._train("loss_and_grad", args, named)

    def update(self, *args, **named):
        return self._run("update", args, named)

    def run_batches(self, *args, **named):
        return self._train("run_batches", args, named)

    # What has no training before it that could compile it meanwhile stays on c.

    def permutations(self, *args, **named):
        return self._c.permutations(*args, **named)

    def warp(self, *args, **named):
        return self._c.warp(*args, **named)

    def smooth(self, *args, **named):
        return self._c.smooth(*args, **named)

    def cut(self, *args, **named):
        return self._c.cut(*args, **named)

    # -- going over ---------------------------------------------------------------------------

    def _run(self, function: str, args: tuple, named: dict):
        with contextlib.suppress(_NotCompiledError):
            return getattr(self._now, function)(*args, **named)
        self._now = self._c  # another network wants further kernels; nothing has run yet
        return getattr(self._c, function)(*args, **named)

    def _train(self, function: str, args: tuple, named: dict):
        if self._now is self._c and self._seconds >= self._look_at:
            self._look()
        began = time.perf_counter()
        try:
            return self._run(function, args, named)
        finally:
            self._seconds += time.perf_counter() - began

    def _address_in_c(self, kernel: str, dtype) -> int:
        self._wanted.add((kernel, np.dtype(dtype).name))
        return native.address(kernel, dtype)

    def _address_in_numba(self, kernel: str, dtype) -> int:
        from . import jit

        address = jit.compiled_address(kernel, dtype)
        if address is None:
            self._wanted.add((kernel, np.dtype(dtype).name))
            raise _NotCompiledError
        return address

    def _look(self) -> None:
        """Go over to numba if it has all kernels, otherwise see that they are compiled."""
        if not self._lock.acquire(blocking=False):  # another thread looks
            return
        try:
            self._look_at = self._seconds + PAUSE
            if self._compiler is not None and self._compiler.runs():
                return
            missing = self._missing()
            if not missing:
                self._now = self._numba
                log.info("numba goes on: its kernels are compiled")
            elif self._may_compile and (self._compiler is None or self._compiler.did(missing)):
                log.info("%d kernels are compiled meanwhile, training goes on in c", len(missing))
                self._compiler = Compiler(missing)
            else:
                self._look_at = math.inf
        except (ImportError, OSError) as error:  # c can go on, as if there were no Numba
            if isinstance(error, TimeoutError):  # which a handler of the user's may raise anywhere
                raise
            log.info("training stays in c: %s", error)
            self._look_at = math.inf
        finally:
            self._lock.release()

    def _missing(self) -> list[tuple[str, str]]:
        from . import jit

        missing = [key for key in sorted(self._wanted) if jit.compiled_address(*key) is None]
        # Each of many workers would compile the same, and elsewhere nobody would find it.
        if jit.cache.directory() is None or multiprocessing.parent_process() is not None:
            self._may_compile = False
        return missing

    def _after_fork(self) -> None:
        """In a forked child, whose parent may be within a look and has the compiler."""
        self._lock, self._compiler, self._may_compile = threading.Lock(), None, False


class Compiler:
    """A process that compiles kernels into the cache.

    Parameters
    ----------
    kernels : list of (str, str)
        Names and dtypes.

    Raises
    ------
    OSError
        If this program is not Python's own, or cannot start a process.
    """

    def __init__(self, kernels: list[tuple[str, str]]):
        program = Path(sys.executable or "").name.lower()
        if getattr(sys, "frozen", False) or not program.startswith("python"):
            raise OSError(f"{program!r} is not an interpreter that could compile kernels")
        self._kernels = set(kernels)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
        atexit.register(self.end)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([list(map(str, sys.path)), kernels]).encode() + b"\n")
        self._process.stdin.flush()

    def runs(self) -> bool:
        """Whether it is still at work."""
        return self._process.poll() is None

    def did(self, missing: list[tuple[str, str]]) -> bool:
        """Whether what is missing are other kernels than those it had to compile."""
        return not self._kernels & set(missing)

    def end(self) -> None:
        """End it, whether it is done or not."""
        atexit.unregister(self.end)
        self._process.kill()
        self._process.communicate()
