"""The training program of a workload: its calls, meetings of the threads, and lines that cross.

A line crosses if one core reads or writes it after another core has written or read it. The counts
are estimates from what each call says it reads and writes; nothing is run.
"""

from __future__ import annotations

import argparse

import numpy as np
from workloads import THREADED, WORKLOADS, make_data, make_network, make_optimizer

from fastnn import losses
from fastnn.engines.program import Program, Task, Variant, calls_of
from fastnn.engines.workspace import Workspace
from fastnn.printing import program_table
from fastnn.tables import CALL
from fastnn.update import Update

_ALL = {**WORKLOADS, **THREADED}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workload", choices=_ALL)
    parser.add_argument("--parts", type=int, default=2, help="parts of each call (default 2)")
    options = parser.parse_args()
    workload = _ALL[options.workload]
    net = make_network(workload)
    plan = net.lower(losses.get(workload.loss), workload.sizes[0])
    dtype = np.dtype(workload.dtype)
    params, state = np.zeros(plan.n_params, dtype), np.zeros(plan.n_state, dtype)
    ws = Workspace(
        plan, params, state, workload.batch_size, Update.of(plan, make_optimizer(workload))
    )
    variant = Variant(Task.TRAIN, make_data(workload.shortened())[0].dtype)
    calls = list(calls_of(ws, variant))
    program = Program(calls, np.zeros(len(calls), CALL))
    print(
        f"{workload}: {plan.n_params} parameters in {plan.n_params * dtype.itemsize / 64:.0f} lines"
    )
    rows = workload.batch_size
    print(
        program_table(program.split_for(options.parts, rows), options.parts, rows, dtype.itemsize)
    )


if __name__ == "__main__":
    main()
