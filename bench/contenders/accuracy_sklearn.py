"""scikit-learn in bench/accuracy.py: MLPClassifier with Adam, one ``partial_fit`` per epoch."""

from __future__ import annotations

import time

import numpy as np
import sklearn
from pictures import standardised
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from contenders.common import blas


class Accuracy:
    """Trains one network after another, in one BLAS thread or in all, whichever is faster."""

    def __init__(self):
        self._limit = None

    def about(self) -> dict:
        return {"scikit-learn": sklearn.__version__} | blas()

    def load(self, folder, name: str, rows: int | None, held_out: bool) -> None:
        self.data = standardised(folder, name, rows, held_out)

    def start(self, recipe, seed: int) -> None:
        """Make a classifier; of a recipe it takes widths, batches, rate and penalty."""
        self.classes = np.arange(10)
        seconds = {}
        for n in (1, None):
            self._threads(n)
            self._make(recipe, seed)
            rows = slice(20 * recipe.batch_size)
            self._train(rows)
            seconds[n] = self._train(rows)
        if seconds[1] < seconds[None]:
            self._threads(1)
        self._make(recipe, seed)

    def _threads(self, n: int | None) -> None:
        """One thread, or as many as the BLAS takes by itself."""
        if self._limit is not None:
            self._limit.restore_original_limits()
            self._limit = None
        if n is not None:
            self._limit = threadpool_limits(n, user_api="blas")

    def _make(self, recipe, seed: int) -> None:
        self.model = MLPClassifier(
            recipe.hidden, batch_size=recipe.batch_size, learning_rate_init=recipe.lr,
            alpha=recipe.alpha, random_state=seed,
        )  # fmt: skip

    def epoch(self) -> float:
        """Seconds of an epoch."""
        return self._train(slice(None))

    def _train(self, rows: slice) -> float:
        began = time.perf_counter()
        self.model.partial_fit(self.data.X[rows], self.data.y[rows], classes=self.classes)
        return time.perf_counter() - began

    def accuracy(self) -> float:
        """Percent of the test images."""
        found = self.model.predict(self.data.X_test)
        return 100 * float((found == self.data.y_test).mean())
