"""Start-up: the import, and the first fit of a process."""

from __future__ import annotations

import subprocess
import sys

from .common import ENGINES, use

FIT = """
import numpy
import fastnn
fastnn.set_engine({engine!r})
X = numpy.random.default_rng(0).standard_normal((64, 14), numpy.float32)
net = fastnn.Sequential([fastnn.Dense(64, "relu"), fastnn.Dense(2)])
net.fit(X, X[:, 0] > 0, loss="cross_entropy", epochs=1, progress=False)
"""

COLD = """
import os, tempfile
folder = tempfile.TemporaryDirectory()
os.environ["FASTNN_CACHE_DIR"] = folder.name
"""


class Import:
    """``import fastnn`` and NumPy alone, each in a new process."""

    number = 1
    repeat = (2, 10, 5.0)

    def timeraw_numpy(self):
        """NumPy, which fastnn imports."""
        return "import numpy"

    def timeraw_fastnn(self):
        """The package, without what it imports lazily."""
        return "import numpy, fastnn"

    def timeraw_sequential(self):
        """The package and its main class."""
        return "from fastnn import Sequential"


class FirstFit:
    """A small fit in a new process, imports included."""

    params = ENGINES
    param_names = ("engine",)
    number = 1
    repeat = (1, 5, 10.0)

    def setup(self, engine):
        use(engine, "all")
        # Fill the kernel cache: the fit that is timed runs in another process.
        subprocess.run([sys.executable, "-c", FIT.format(engine=engine)], check=True)

    def timeraw_warm(self, engine):
        """With compiled kernels in the cache."""
        return FIT.format(engine=engine)

    def timeraw_cold(self, engine):
        """With an empty cache: kernels are compiled (numba)."""
        return FIT.format(engine=engine), COLD
