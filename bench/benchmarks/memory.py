"""Peak memory of a process that trains or predicts."""

from __future__ import annotations

from .common import OnEngine, load


class Memory(OnEngine):
    """Peak of the whole process, with interpreter, libraries, data and workspaces."""

    case_name = "workload"
    cases = ("digits-128", "table-100", "digits-2048")

    def prepare(self, name):
        from workloads import make_data, make_network, make_optimizer

        self.workload = load(name)
        self.X, self.y = make_data(self.workload)
        self.net = make_network(self.workload)
        self.optimizer = make_optimizer(self.workload)

    def peakmem_fit(self, *_):
        """One epoch."""
        self.net.fit(
            self.X, self.y, loss=self.workload.loss, optimizer=self.optimizer, epochs=1,
            batch_size=self.workload.batch_size, progress=False,
        )  # fmt: skip

    def peakmem_predict(self, *_):
        """Outputs of all rows."""
        self.net.logits(self.X)
