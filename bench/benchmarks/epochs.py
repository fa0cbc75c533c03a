"""An epoch of training on each workload."""

from __future__ import annotations

from .common import OnEngine, load, workload_names


class Epoch(OnEngine):
    """A whole call of ``fit`` for one epoch, after a warm-up call."""

    case_name = "workload"
    cases = workload_names()
    warmup_time = 0.0
    number = 1
    repeat = (3, 10, 5.0)

    def prepare(self, name):
        from workloads import make_data, make_network, make_optimizer

        self.workload = load(name)
        self.X, self.y = make_data(self.workload)
        self.net = make_network(self.workload)
        self.optimizer = make_optimizer(self.workload)
        self.time_fit()

    def time_fit(self, *_):
        """Checks, shuffle, and all steps."""
        self.net.fit(
            self.X, self.y, loss=self.workload.loss, optimizer=self.optimizer, epochs=1,
            batch_size=self.workload.batch_size, progress=False,
        )  # fmt: skip
