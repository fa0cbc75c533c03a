"""Runs whose arrays end, or begin, at a page that nobody may touch.

``python tests/guarded.py ENGINE SIDE`` trains the networks of the digests with every array of the
model, the workspace and the data placed against a guard page, behind ("end") or before ("start")
it: one element read or written too far ends the process. ``python tests/guarded.py ENGINE fuzz N``
runs N damaged plans on such arrays: each must be refused or do no harm.
"""

import ctypes
import dataclasses
import itertools
import json
import mmap
import sys

import digests
import numpy as np
import scipy.sparse

import fastnn
from fastnn import (
    Activation,
    Adam,
    BatchNorm,
    Dense,
    Muon,
    PReLU,
    Residual,
    Sequential,
    engines,
    features,
    losses,
    network,
)
from fastnn.engines import compiled, workspace
from fastnn.engines.csr import CSR
from fastnn.engines.workspace import Data, Steps, Workspace
from fastnn.errors import EngineError
from fastnn.ops.operation import Table
from fastnn.tables import OP
from fastnn.update import Update

_libc = ctypes.CDLL(None, use_errno=True)
_kept = []


def guarded(size, dtype, side="end"):
    """A zeroed vector at a guard page. Arrays of no elements point at it."""
    dtype = np.dtype(dtype)
    nbytes = int(size) * dtype.itemsize
    room = -(-max(nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, room + 2 * mmap.PAGESIZE)
    _kept.append(memory)
    raw = np.frombuffer(memory, np.uint8)
    address = raw.ctypes.data
    for guard in (address, address + mmap.PAGESIZE + room):
        if _libc.mprotect(ctypes.c_void_p(guard), mmap.PAGESIZE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    begin = mmap.PAGESIZE + (room - nbytes if side == "end" else 0)
    return raw[begin : begin + nbytes].view(dtype)


def like(array, side):
    """A guarded copy."""
    copy = guarded(array.size, array.dtype, side).reshape(array.shape)
    copy[...] = array
    return copy


def guard_everything(side):
    """Let every array that engines see be a guarded one."""

    def zeros(size, dtype, alignment=64):
        return guarded(size, dtype, side)

    workspace.aligned_zeros = network.aligned_zeros = zeros
    original = Data.__post_init__

    def guard_data(self):
        original(self)
        for name in ("X", "Y", "labels", "weights"):
            array = getattr(self, name)
            if isinstance(array, CSR):
                parts = (array.values, array.indices, array.indptr)
                self.X = CSR(*(like(part, side) for part in parts), array.n_columns)
            elif array is not None:
                setattr(self, name, like(array, side))

    Data.__post_init__ = guard_data


def train_all(side):
    """The digests, with many parts and with one."""
    guard_everything(side)
    compiled.LEAST_WORK = 0.0
    wanted = json.loads(digests.KEPT.read_text())
    for compiled.PARTS in (1, 3):
        for name in digests.NETWORKS:
            for dtype in ("float32", "float64"):
                net = digests.train(name, dtype)
                found = digests.digest_of(net)
                assert found == wanted[f"{name}, {dtype}"], (name, dtype)
                X = np.zeros((5, net.n_inputs), net.dtype)
                for outputs in (net.logits(X), net.predict(X)):
                    assert np.isfinite(np.asarray(outputs, float)).all()
                _kept.clear()
        train_on_sparse_rows()
        _kept.clear()


def train_on_sparse_rows():
    """Rows of which the first and the last store the most, and end in the last column."""
    features._SMALL = 0
    dense = np.random.default_rng(0).normal(size=(60, 19))
    dense[1:-1][dense[1:-1] < 0.8] = 0
    y = np.arange(60) % 2
    for dtype, index_type in itertools.product(("float32", "float64"), ("int32", "int64")):
        X = scipy.sparse.csr_array(dense.astype(dtype))
        X.indices, X.indptr = X.indices.astype(index_type), X.indptr.astype(index_type)
        nets = [Sequential([Dense(5), Dense(2)]) for _ in range(2)]
        for net, given in zip(nets, (X, X.toarray()), strict=True):
            net.fit(given, y, batch_size=8, epochs=2, progress=False)
        assert (nets[0].flat_params == nets[1].flat_params).all()
        assert (nets[0].logits(X) == nets[1].logits(X.toarray())).all()


def damage(ops, rng):
    """A copy of the table with one to three fields changed, a little or beyond all measure."""
    ops = ops.copy()
    for _ in range(rng.integers(1, 4)):
        op, field = rng.integers(len(ops)), OP.names[rng.integers(len(OP.names))]
        if OP[field] == np.float64:
            ops[op][field] = rng.choice([np.nan, np.inf, -1.0, 1e300, 0.5])
            continue
        old = max(int(ops[op][field]), 1 - (1 << 63))
        changes = [old - 1, old + 1, -old, 0, -1, -2, -3, 1 << 31, (1 << 62) - 1, -(1 << 63),
                   int(rng.integers(0, 400)), int(rng.integers(-(1 << 62), 1 << 62))]  # fmt: skip
        ops[op][field] = changes[rng.integers(len(changes))]
    return ops


def fuzz(count):
    """Damaged plans, one after another; how many were refused."""
    rng = np.random.default_rng(0)
    engine, refused = engines.current(), 0
    nets = [
        Sequential([Dense(7, "tanh"), Dense(5, "gelu", l1=0.1), Dense(3)], n_inputs=4),
        Sequential([Dense(40, "relu"), Dense(2, "softmax"), Dense(3)], n_inputs=90),
        Sequential(
            [Residual([Dense(6, "silu"), PReLU()]), Residual([PReLU(0.1, True)]), Dense(3)],
            n_inputs=5,
        ),
        Sequential(
            [BatchNorm(), Dense(9), BatchNorm(), Activation("relu"), BatchNorm(), Dense(3)],
            n_inputs=5,
        ),
    ]
    loss_functions = losses.cross_entropy, losses.Quantile([0.1, 0.5, 0.9]), losses.Focal()
    for number in range(count):
        net = nets[number % len(nets)]
        plan = net.lower(loss_functions[number // 9 % 3])
        change = {}
        if rng.random() < 0.2:
            fields = ["per_sample", "per_batch", "scratch", "gathered", "targets", "logits",
                      "output"]  # fmt: skip
            change = {rng.choice(fields): int(rng.choice([-1, 0, 3, 1 << 40]))}
        params, state = like(net.flat_params, "end"), like(net._statistics, "end")
        try:
            is_muon = number % len(nets) < 2 and rng.random() < 0.5
            optimizer = Muon(clip_norm=1.0) if is_muon else Adam(clip_norm=1.0)
            steps = Steps(optimizer.hyper(1, np.full(3, 0.01)))
            updates = (None, Update.of(plan, optimizer, averages=True))
            spaces = [Workspace(plan, params, state, 20, update) for update in updates]
            for ws in spaces:
                ws.layout = dataclasses.replace(ws.layout, ops=damage(ws.layout.ops, rng), **change)
                ws.table = Table(
                    ws.layout.ops, ws.capacity, 20, ws.layout.gathered, ws.layout.targets,
                    ws.layout.training,
                )  # fmt: skip
                for name in ("work", "batch", "scratch", "row_loss", "row_correct", "grad",
                             "slots", "average"):  # fmt: skip
                    setattr(ws, name, like(getattr(ws, name), "end"))
            data = Data(
                like(np.ones((20, net.n_inputs), np.float32), "end"),
                labels=like(np.arange(20, dtype=np.int32) % 3, "end"), batch_size=8,
            )  # fmt: skip
            out, results = guarded(20 * 3, np.float32).reshape(20, 3), np.zeros((3, 2))
            task = number // len(nets) % 3
            if task == 0:
                engine.forward(spaces[0], data, out, "softmax")
            elif task == 1:
                engine.evaluate(spaces[0], data, results)
            else:
                engine.run_batches(spaces[1], data, steps, results, 0, 3)
        except (ValueError, TypeError, EngineError, OverflowError):
            refused += 1
        _kept.clear()
    return refused


if __name__ == "__main__":
    fastnn.set_engine(sys.argv[1])
    if sys.argv[2] == "fuzz":
        print(fuzz(int(sys.argv[3])), "refused")
    else:
        train_all(sys.argv[2])
        print("done")
