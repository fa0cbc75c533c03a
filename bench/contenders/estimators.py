"""MLPClassifier and MLPRegressor of scikit-learn and of fastnn, on one data set at a time."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
import warnings
from pathlib import Path

from encoded import encoded

from contenders.common import blas


class Estimators:
    """One library's estimators, in its own process.

    Parameters
    ----------
    engine : str or None
        fastnn's engine; None stands for scikit-learn.
    blas_threads : int or None
        Threads of the BLAS library; None leaves them as they are.
    """

    def __init__(self, engine: str | None, blas_threads: int | None = None):
        self._engine = engine
        if engine is None:
            from sklearn.neural_network import MLPClassifier, MLPRegressor
        else:
            from fastnn import MLPClassifier, MLPRegressor, set_engine

            set_engine(engine)
        self._kinds = (MLPClassifier, MLPRegressor)
        if blas_threads is not None:
            from threadpoolctl import threadpool_limits

            self._limit = threadpool_limits(blas_threads, user_api="blas")

    def about(self) -> dict:
        if self._engine is None:
            import sklearn

            return {"scikit-learn": sklearn.__version__} | blas()
        import fastnn

        return {
            "fastnn": fastnn.__version__, "engine": self._engine,
            "threads": fastnn.get_num_threads(),
        }  # fmt: skip

    def load(self, folder: Path, name: str, dtype: str, sparse: bool) -> str:
        """Encode a data set; returns what it is."""
        self.data = encoded(folder, name, dtype, sparse)
        rows, columns = self.data.X.shape
        y = self.data.y
        outputs = 1 if self.data.is_regression else len(set(y.tolist()))
        return f"{rows} rows, {columns}-100-{outputs if outputs > 2 else 1}"

    def fit(self, rows: int | None, settings: dict) -> dict:
        """Fit a new estimator on the first rows; seconds, its last loss, its epochs."""
        self.model = self._kinds[self.data.is_regression](random_state=0, **settings)
        X, y = self.data.X[:rows], self.data.y[:rows]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged
            began = time.perf_counter()
            self.model.fit(X, y)
            seconds = time.perf_counter() - began
        return {"seconds": seconds, "loss": float(self.model.loss_), "epochs": self.model.n_iter_}

    def score(self) -> float:
        """Accuracy or R^2 on the test rows."""
        return float(self.model.score(self.data.X_test, self.data.y_test))

    def predict(self, rows: int | None, calls: int) -> float:
        """The least seconds of a call of ``predict``."""
        X = self.data.X[:rows]
        least = float("inf")
        for _ in range(calls):
            began = time.perf_counter()
            self.model.predict(X)
            least = min(least, time.perf_counter() - began)
        return least

    def memory(self, epochs: int) -> dict:
        """Bytes by which a fit raises the peak of this process's memory, and that peak."""
        settings = {"max_iter": epochs}
        self.fit(500, settings)  # imports, kernels, threads
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak becomes what is in use
        before = _peak()
        self.fit(None, settings)
        return {"fit": _peak() - before, "process": _peak()}


def _peak() -> int:
    """Peak of the resident memory since it was last set back, in bytes."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
