"""The C engine: the same tables and bits as Numba's, no imports, no allocation, no stray access."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import LOGITS, LOSSES
from conftest import COMPILED, DTYPES, only, table

import fastnn
from fastnn import SGD, Activation, Adam, Dense, Sequential, engines, tables
from fastnn.engines import boundary, native
from fastnn.engines import compiled as compiled_module
from fastnn.engines.workspace import Data, Steps, Workspace
from fastnn.errors import EngineError
from fastnn.tables import CALL, CONTEXT, OP, Act, Status
from fastnn.update import Update

HERE = Path(__file__).parent
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")

needs_c = pytest.mark.skipif("c" not in COMPILED, reason=f"no C engine: {native.trouble()}")


def run(code, **environment):
    """A Python process of its own; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, cwd=HERE,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout


# -- the tables ---------------------------------------------------------------------------------


@needs_c
@pytest.mark.parametrize(("name", "layout"), [("op", OP), ("call", CALL), ("context", CONTEXT)])
def test_the_c_structures_are_the_records(name, layout):
    assert native.layout()[name] == {field: layout.fields[field][1] for field in layout.names}
    assert native.layout()["sizes"][name] == layout.itemsize


@needs_c
def test_the_c_codes_are_those_of_the_tables():
    codes = native.layout()["codes"]
    expected = {f"STATUS_{status.name}": int(status) for status in Status}
    expected |= {f"SPLIT_{split.name}": int(split) for split in tables.Split}
    for loss in (tables.Loss.mse, tables.Loss.squared_error):
        expected[f"LOSS_{loss.name}"] = int(loss)
    expected |= {name: getattr(tables, name) for name in codes.keys() - expected.keys()}
    assert codes == expected


@needs_c
@pytest.mark.parametrize("dtype", DTYPES)
def test_both_compiled_engines_have_the_same_functions(dtype):
    jit = pytest.importorskip("fastnn.engines.jit")
    # Without the C module, NumPy draws the normals of initial weights.
    assert [name for name in native.names() if name != "normals"] == jit.names()
    for name in jit.names():
        assert native.address(name, dtype) > 0


# -- the choice ---------------------------------------------------------------------------------

FIT = """
import sys, numpy as np, fastnn
net = fastnn.Sequential([fastnn.Dense(8, "gelu"), fastnn.Dense(3)])
net.fit(np.eye(30), np.arange(30) % 3, epochs=2, progress=False)
net.predict(np.eye(30))
print(net.history.engine, *(name for name in ("numba", "scipy") if name in sys.modules))
"""


@needs_c
def test_the_c_engine_imports_neither_numba_nor_scipy():
    assert run(FIT, FASTNN_ENGINE="c").split() == ["c"]


@needs_c
def test_auto_takes_the_c_engine_without_numba():
    hidden = "import sys; sys.modules['numba'] = None\nimport importlib.util\n"
    hidden += "find = importlib.util.find_spec\n"
    hidden += "importlib.util.find_spec = lambda n, *a: None if n == 'numba' else find(n, *a)\n"
    assert run(hidden + FIT).split() == ["c", "numba"]  # the name, not the module


def test_without_its_module_the_c_engine_says_why(monkeypatch):
    monkeypatch.setattr(native, "_module", None)
    for error, message in [
        ("cannot import name '_c' from 'fastnn.engines'", "install gcc or clang"),
        ("libc.so.7: cannot open shared object file", "cannot be loaded .libc.so.7"),
    ]:
        monkeypatch.setattr(native, "_trouble", error, raising=False)
        engines.trouble.cache_clear()
        with pytest.raises(ValueError, match=message):
            fastnn.set_engine("c")
    monkeypatch.undo()
    engines.trouble.cache_clear()


@needs_c
def test_a_module_of_other_sources_is_not_used(monkeypatch):
    """A stale module would read the context at other offsets."""
    for function in (engines.trouble, native._is_of_other_sources):
        function.cache_clear()
    stale = native.layout()
    stale["context"] = {**stale["context"], "seed": 0}
    monkeypatch.setattr(native, "layout", lambda: stale)
    try:
        with pytest.raises(ValueError, match="compiled from other sources"):
            fastnn.set_engine("c")
        assert "c" not in engines.available()
    finally:
        monkeypatch.undo()
        for function in (engines.trouble, native._is_of_other_sources):
            function.cache_clear()


# -- the same bits ------------------------------------------------------------------------------

OPTIMIZERS = [SGD(0.02), SGD(0.02, momentum=0.9), SGD(0.02, 0.9, nesterov=True), Adam(0.01)]


def trajectory(engine, act, loss, optimizer, dtype):
    """Everything that a run leaves: parameters, memory of the optimizer, losses, outputs."""
    X, labels = table(130, 9, 5, seed=3)
    y = np.eye(5)[labels] - (0.3 if loss in ("mse", "sse", "mae", "huber", "quantile") else 0)
    if loss in ("cross_entropy", "focal"):
        y = labels
    last = Dense(5) if loss in LOGITS else Dense(5, act if act != "softmax" else None)
    if loss == "gaussian_nll":
        last = Dense(10)
    layers = [Dense(33, act, l2=1e-3), Activation("tanh"), Dense(18, act, l1=1e-3), last]
    net = Sequential(layers, n_inputs=9, dtype=dtype, seed=1)
    with only(engine):
        history = net.fit(
            X, y, loss=loss, optimizer=optimizer, epochs=3, batch_size=27, progress=False,
            sample_weight=np.linspace(0.5, 2, 130), validation_data=(X[:50], y[:50]),
        )  # fmt: skip
        total, gradient = net.loss_and_grad(X, y)
        slots = net.training_state.slots
        arrays = [net.flat_params, slots, net.logits(X), gradient, np.float64(total)]
        arrays += [np.array(history[k]) for k in ("loss", "val_loss")]
        arrays.append(net.predict(X))
        if loss.endswith("entropy") or loss == "focal":
            arrays.append(net.predict_proba(X))
    return [array.tobytes() for array in arrays]


@needs_c
@pytest.mark.skipif("numba" not in COMPILED, reason="compares with Numba")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("act", "loss"),
    [
        *itertools.product([act.name for act in Act], LOSSES[:4]),
        *itertools.product(["tanh"], LOSSES[4:]),
    ],
)
def test_whole_runs_have_the_bits_of_the_numba_engine(act, loss, dtype):
    for optimizer in OPTIMIZERS if act in ("tanh", "gelu") else OPTIMIZERS[3:]:
        found, expected = (
            trajectory(engine, act, loss, optimizer, dtype) for engine in ("c", "numba")
        )
        assert found == expected


@needs_c
@pytest.mark.skipif("numba" not in COMPILED, reason="compares with Numba")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("act", [act.name for act in Act if act not in (Act.identity, Act.softmax)])
def test_activations_have_the_bits_of_the_numba_engine_everywhere(act, dtype):
    """Over all magnitudes, at the edges of the numbers, and in the last lanes of a vector."""
    rng = np.random.default_rng(1)
    size = np.exp(rng.uniform(-80, 80, 4001)) * rng.choice([-1, 1], 4001)
    info = np.finfo(dtype)
    edges = [0.0, -0.0, np.inf, -np.inf, np.nan, info.max, info.min, info.tiny, -info.tiny]
    with np.errstate(over="ignore", under="ignore"):
        x = np.concatenate([size, rng.normal(size=4001), rng.uniform(-110, 110, 4001), edges])
        x = x.astype(dtype)
    op = np.zeros(1, OP)
    op["arg0"] = 0.3
    found = {}
    for engine, name in itertools.product(COMPILED, (act, f"{act}_derivative")):
        with only(engine):
            address = engines.current().address(name, np.dtype(dtype))
        call = compiled_module.ctypes.CFUNCTYPE(
            compiled_module.ctypes.c_int64, *[compiled_module.ctypes.c_void_p] * 3,
            compiled_module.ctypes.c_int64, compiled_module.ctypes.c_void_p,
        )(address)  # fmt: skip
        z, a, da = x.copy(), x.copy(), np.ones_like(x)
        assert call(*(v.ctypes.data for v in (z, a, da)), x.size, op.ctypes.data) == 0
        for array in (a, da):
            array[np.isnan(array)] = np.nan  # any NaN is as good as another
        found.setdefault(name, []).append((a.tobytes(), da.tobytes()))
    for name, results in found.items():
        assert len(results) == 2, name
        assert results[0] == results[1], name


# -- no allocation, no leak, no waiting ------------------------------------------------------------

COUNTED = """
import ctypes, sys, numpy as np, fastnn
from fastnn.engines import compiled, threads
library = ctypes.CDLL(sys.argv[1])
count = library.count_during
count.restype = ctypes.c_int64
count.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int64] * 3
counted = ctypes.c_long(0)
compiled._DRIVER = lambda address: lambda *a: count(address, ctypes.addressof(counted), *a)
compiled.LEAST_WORK, compiled.PARTS = 0.0, int(sys.argv[2])
threads.get_num_threads = lambda: compiled.PARTS
def train():
    layers = [fastnn.Dense(33, "gelu", l1=0.1), fastnn.Dense(3, "softmax"), fastnn.Dense(5)]
    net = fastnn.Sequential(layers)
    net.fit(np.eye(60, dtype="f4"), np.arange(60) % 5, epochs=3, batch_size=7, progress=False)
    net.predict_proba(np.eye(60))
train()
counted.value = 0
train()
found = counted.value
address = ctypes.cast(library.wasteful, ctypes.c_void_p).value
count(address, ctypes.addressof(counted), None, None, 0, 0, 0)
print(found, counted.value - found)
"""


@pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a compiler on Linux")
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("engine", COMPILED)
def test_no_allocator_is_called_while_batches_run(engine, parts, tmp_path):
    if engine == "numba" and parts > 1:
        pytest.skip("Numba's own parallel loop allocates its schedule")
    library = tmp_path / "counted.so"
    subprocess.run(
        [COMPILER, "-O1", "-fPIC", "-shared", HERE / "counted.c", "-o", library], check=True
    )
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, library, str(parts)], capture_output=True, text=True,
        env={**os.environ, "LD_PRELOAD": str(library), "FASTNN_ENGINE": engine}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "1"]  # and one that is made is counted


LEAK = """
import numpy as np, fastnn
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
X, y = np.eye(200, 30, dtype="f4"), np.arange(200) % 3
def fits(n):
    for _ in range(n):
        net = fastnn.Sequential([fastnn.Dense(200, "relu"), fastnn.Dense(3)])
        net.fit(X, y, epochs=1, batch_size=100, progress=False)
        net.predict(X)
fits(1200)
before = resident()
fits(1000)
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize("engine", COMPILED)
def test_a_thousand_fits_leave_no_memory_behind(engine):
    """A fit's arrays take 300 kB: those of one in sixty would show. The first fits fill the heap,
    which may keep the 2 MB for panels of the last one."""
    assert int(run(LEAK, FASTNN_ENGINE=engine)) < 2_000_000 + tables.PACK_BYTES


IDLE = """
import time, numpy as np, fastnn
from fastnn.engines import compiled, threads
compiled.LEAST_WORK, compiled.PARTS = 0.0, 4
threads.get_num_threads = lambda: 4
net = fastnn.Sequential([fastnn.Dense(33, "relu"), fastnn.Dense(3)])
net.fit(np.eye(60), np.arange(60) % 3, epochs=20, progress=False)
time.sleep(0.01)
began = time.process_time()
time.sleep(0.5)
print(time.process_time() - began)
"""


@needs_c
def test_no_worker_spins_after_a_call():
    assert float(run(IDLE, FASTNN_ENGINE="c")) < 0.05


# -- what the boundary refuses --------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
@pytest.mark.parametrize("side", ["end", "start"])
@pytest.mark.parametrize("engine", COMPILED)
def test_nothing_is_touched_outside_of_an_array(engine, side):
    done = subprocess.run(
        [sys.executable, "guarded.py", engine, side], cwd=HERE, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
@pytest.mark.parametrize("engine", COMPILED)
def test_damaged_plans_are_refused_or_harmless(engine):
    count = os.environ.get("FASTNN_DAMAGED_PLANS", "400")
    done = subprocess.run(
        [sys.executable, "guarded.py", engine, "fuzz", count], cwd=HERE, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr)
    refused = int(done.stdout.split()[0])
    assert int(count) / 2 < refused < int(count)


def make_workspace(rows=20):
    net = Sequential([Dense(6, "gelu", l1=0.1), Dense(3)], n_inputs=4)
    plan = net.lower(fastnn.losses.cross_entropy)
    state = np.zeros(0, np.float32)
    return Workspace(plan, net.flat_params, state, rows, Update.of(plan, Adam()))


def make_data(**changes):
    values = {
        "X": np.ones((20, 4), np.float32), "labels": np.zeros(20, np.int32),
        "order": np.arange(20), "weights": np.ones(20), "batch_size": 8,
    }  # fmt: skip
    return Data(**{**values, **changes})


def step(ws, data, steps=3, results=None, out=None, hyper=None):
    """One run of everything on given arrays."""
    engine = engines.current()
    hyper = Adam(0.01).hyper(1, np.full(steps, 0.01)) if hyper is None else hyper
    results = np.zeros((steps, 2)) if results is None else results
    predicting = Workspace(ws.plan, ws.params, ws.state, ws.rows)
    engine.forward(predicting, data, np.zeros((20, 3), np.float32) if out is None else out)
    engine.run_batches(ws, data, Steps(hyper), results, 0, steps)


def misaligned(shape, dtype):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.zeros(size + 1, np.uint8)[1:].view(dtype).reshape(shape)


def read_only(array):
    array.flags.writeable = False
    return array


def test_what_is_right_runs(compiled):
    step(make_workspace(), make_data())


BAD_DATA = {
    "X of another width": {"X": np.ones((20, 5), np.float32)},
    "X of another type": {"X": np.ones((20, 4), np.complex64)},
    "X of the other byte order": {"X": np.ones((20, 4), ">f4")},
    "X in columns": {"X": np.asfortranarray(np.ones((20, 4), np.float32))},
    "X misaligned": {"X": misaligned((20, 4), np.float32)},
    "X of one dimension": {"X": np.ones(80, np.float32)},
    "batches that do not fit": {"X": np.ones((200, 4), np.float32), "batch_size": 100},
    "labels of another type": {"labels": np.zeros(20, np.int64)},
    "too few labels": {"labels": np.zeros(19, np.int32)},
    "a label too large": {"labels": np.full(20, 3, np.int32)},
    "a label below 0": {"labels": np.full(20, -1, np.int32)},
    "too short an order": {"order": np.arange(15)},
    "an order of another type": {"order": np.arange(20, dtype=np.int32)},
    "an order beyond the rows": {"order": np.arange(20) + 1},
    "an order below 0": {"order": np.arange(20) - 1},
    "too few weights": {"weights": np.ones(3)},
    "weights of another type": {"weights": np.ones(20, np.float32)},
    "neither Y nor labels": {"labels": None},
    "Y of another type": {"labels": None, "Y": np.zeros((20, 3))},
    "too small a Y": {"labels": None, "Y": np.zeros((20, 2), np.float32)},
    "strided weights": {"weights": np.ones(40)[::2]},
}


@pytest.mark.parametrize("what", BAD_DATA)
def test_bad_data_are_refused(compiled, what):
    with pytest.raises((TypeError, ValueError, EngineError)):
        step(make_workspace(), make_data(**BAD_DATA[what]))


BAD_ARRAYS = {
    "a read-only output": {"out": read_only(np.zeros((20, 3), np.float32))},
    "a small output": {"out": np.zeros((19, 3), np.float32)},
    "an output of another type": {"out": np.zeros((20, 3))},
    "a strided output": {"out": np.zeros((20, 6), np.float32)[:, ::2]},
    "a misaligned output": {"out": misaligned((20, 3), np.float32)},
    "no output": {"out": [0.0] * 60},
    "few results": {"results": np.zeros((2, 2))},
    "read-only results": {"results": read_only(np.zeros((3, 2)))},
    "few hyperparameters": {"hyper": np.zeros((3, 3))},
    "hyperparameters of another type": {"hyper": np.zeros((3, 4), np.float32)},
    "more steps than batches": {"steps": 4},
}


@pytest.mark.parametrize("what", BAD_ARRAYS)
def test_bad_arrays_are_refused(compiled, what):
    with pytest.raises((TypeError, ValueError)):
        step(make_workspace(), make_data(), **BAD_ARRAYS[what])


@pytest.mark.parametrize("name", ["params", "grad", "slots", "work", "batch", "row_loss",
                                  "row_correct"])  # fmt: skip
@pytest.mark.parametrize("fault", ["small", "type", "misaligned", "read-only"])
def test_a_bad_workspace_is_refused(compiled, name, fault):
    ws = make_workspace()
    array = getattr(ws, name)
    bad = {
        "small": lambda: array.reshape(-1)[:-1].copy(),
        "type": lambda: array.astype(np.float32 if array.dtype == np.float64 else np.float64),
        "misaligned": lambda: misaligned(array.shape, array.dtype),
        "read-only": lambda: read_only(array.copy()),
    }[fault]()
    setattr(ws, name, bad)
    with pytest.raises((TypeError, ValueError)):
        step(ws, make_data())


def test_the_table_of_a_plan_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        make_workspace().layout.ops["w"] = 7


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kind", 99, "operation 0 .*kind is 99"),
        ("code", 77, "code is 77"),
        ("n_in", 0, "n_in is 0"),
        ("n_out", 1 << 60, "n_out is"),
        ("w", 40, "w is 40"),
        ("b", -5, "b is -5"),
        ("a", 1 << 62, "a is"),
        ("x2", -2, "it reads 2 values instead of 1"),
        ("z", -2, "z is the input"),
    ],
)
def test_a_damaged_row_is_named(field, value, message):
    import dataclasses

    ws = make_workspace()
    ops = ws.layout.ops.copy()
    ops[0][field] = value
    ws.layout = dataclasses.replace(ws.layout, ops=ops)
    with pytest.raises(ValueError, match=message):
        boundary.check_workspace(ws)
