"""The same bits from every engine, width of vector, number of parts and state of the processor."""

import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import digests
import numpy as np
import pytest
from conftest import COMPILED, DTYPES

from fastnn import Adam, Dense, Sequential, losses
from fastnn.engines import compiled as compiled_module
from fastnn.engines import levels
from fastnn.tables import MC, Act, Loss, Rule

KEPT = json.loads(digests.KEPT.read_text())


def test_the_kept_digests_are_those_of_the_list():
    listed = {f"{n}, {t}" for n in digests.NETWORKS for t in DTYPES}
    assert not listed - KEPT.keys(), f"networks without digests: {digests.IF_NEW}"
    assert not KEPT.keys() - listed, f"digests without networks: {digests.IF_NEW}"
    assert len(set(KEPT.values())) == len(KEPT)


def test_every_loss_rule_and_activation_is_in_a_network():
    """A new one needs an entry in digests.NETWORKS; a new activation gets it by itself."""
    found = [(losses.get(loss).code, optimizer.rule, acts)
             for _, _, loss, optimizer, _, acts, _ in digests.NETWORKS.values()]  # fmt: skip
    # A squared error of any factor has the kernel of mse and sse.
    assert {code for code, _, _ in found} >= set(Loss) - {Loss.squared_error}
    assert {rule for _, rule, _ in found} == set(Rule)
    acts = {*digests.ACTIVATIONS, *(act for _, _, acts in found for act in acts)}
    assert acts >= {act.name for act in Act} - {"step", "softmax"}


def test_keeping_adds_what_is_new_and_changes_only_what_is_named(tmp_path, monkeypatch, capsys):
    path = tmp_path / "digests.json"
    path.write_text(json.dumps({"a, float32": "1", "b, float32": "2", "c, float32": "3"}))
    monkeypatch.setattr(digests, "KEPT", path)
    found = {"a, float32": "1", "b, float32": "20", "new, float32": "4"}
    assert digests.keep(found) == 1
    assert json.loads(path.read_text()) == {**found, "b, float32": "2"}
    assert "--change" in capsys.readouterr().out
    assert digests.keep(found, ["b"]) == 0
    assert json.loads(path.read_text()) == found
    with pytest.raises(AssertionError, match=r"digests.py --keep"):
        digests.check("1", "missing", "float32")
    with pytest.raises(AssertionError, match=r"digests.py --change NETWORK"):
        digests.check("1", "b", "float32")


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", digests.NETWORKS)
def test_every_number_of_parts_gives_the_kept_digest(
    compiled, name, dtype, parts, workspaces, monkeypatch
):
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(compiled_module, "PARTS", parts)
    digests.check(digests.digest(name, dtype), name, dtype)
    assert any(ws.ran[parts - 1] > 0 and (ws.ran[parts:] == 0).all() for ws in workspaces)


#: The widest registers of each level's machine code.
REGISTER = {"avx512": "zmm", "avx2": "ymm", "plain": "xmm"}

#: Code that prints the digests and the widest registers in the engine's product.
NUMBAS_REGISTERS = """
from fastnn.engines.jit import kernels
code = kernels.compile_function('product', 'float32')[0].get_asm_str()
"""
CS_REGISTERS = """
import ctypes, subprocess, tempfile
from fastnn.engines import native
with tempfile.NamedTemporaryFile() as file:
    file.write(ctypes.string_at(native.address('dense_forward', 'float32'), 1500))
    file.write(ctypes.string_at(native.address('adam', 'float32'), 400))
    file.flush()
    command = ['objdump', '-D', '-b', 'binary', '-m', 'i386:x86-64', file.name]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
"""
PRINTED = """
widest = max((r for r in ('xmm', 'ymm', 'zmm') if r in code), default=None)
print(json.dumps([found, widest]))
"""
#: Before that: a kernel that the tests compile for themselves must not stand beside a cached one.
DIGESTS = """
import digests, json, sys
found = digests.all_digests(sys.argv[1:])
"""

#: The type in which an engine is checked at a level, if not both: Numba compiles every kernel anew,
#: which takes half a minute a type, and without vector instructions fused multiply-adds are calls,
#: which takes as long. There, the two engines give the digests of one type each. FASTNN_ALL_LEVELS,
#: as in the nightly run, takes both types in both.
TYPES = {
    ("numba", "avx2"): ["float32"], ("numba", "plain"): ["float64"], ("c", "plain"): ["float32"],
}  # fmt: skip


def types_of(engine, level):
    """The types in which an engine's digests are checked at a lower level."""
    every = len(COMPILED) < 2 or os.environ.get("FASTNN_ALL_LEVELS")
    return DTYPES if every else TYPES.get((engine, level), DTYPES)


@pytest.mark.parametrize("engine", COMPILED)
def test_fewer_vector_instructions_give_the_kept_digests(engine):
    """All levels below this processor's, one process each, run together."""
    if engine == "numba":
        from fastnn.engines.jit import isa as engine_module
    else:
        from fastnn.engines import native as engine_module
    lower = levels.NAMES[levels.NAMES.index(engine_module.host_level()) + 1 :]
    seen = engine == "numba" or (shutil.which("objdump") and platform.machine() == "x86_64")
    code = {"numba": NUMBAS_REGISTERS, "c": CS_REGISTERS}[engine] if seen else "code = ''"
    running = {
        level: subprocess.Popen(
            [sys.executable, "-c", DIGESTS + code + PRINTED, *types_of(engine, level)],
            env={**os.environ, "FASTNN_SIMD": level, "FASTNN_ENGINE": engine},
            cwd=Path(__file__).parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        for level in lower
        if level != "neon"
    }
    for level, process in running.items():
        found, widest = json.loads(process.communicate()[0])
        types = types_of(engine, level)
        wanted = {k: v for k, v in KEPT.items() if k.endswith(tuple(types))}
        assert found == wanted, f"{level}: {digests.IF_MEANT}"
        assert len(found) == len(types) * len(digests.NETWORKS)
        assert widest == REGISTER[level] or not seen


@pytest.mark.parametrize("module", ["jit.isa", "native"])
@pytest.mark.parametrize("level", ["avx1024", "neon"])
def test_a_level_that_is_not_there_is_refused(level, module):
    if ("numba" if module == "jit.isa" else "c") not in COMPILED:
        pytest.skip("this engine cannot run here")
    code = f"import fastnn.engines.{module} as module; module.level()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "FASTNN_SIMD": level},
        capture_output=True,
        text=True,
    )
    if level == "neon" and done.returncode == 0:
        pytest.skip("this processor has neon")
    assert f"FASTNN_SIMD{' must be one of' if level == 'avx1024' else '=neon'}" in done.stderr


def slice_by_slice(net, X, sizes):
    """Predictions of consecutive slices of X, one call each."""
    bounds = np.cumsum([0, *sizes])
    return np.concatenate([net.logits(X[a:b]) for a, b in itertools.pairwise(bounds)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_out", [1, 2, 4, 5, 15, 16, 17, 33, 48, 100])
@pytest.mark.parametrize("n_in", [1, 3, 16, 100, 300])
def test_a_row_has_the_same_bits_alone_and_in_any_batch(compiled, n_in, n_out, dtype):
    net = Sequential([Dense(n_out)], n_inputs=n_in, dtype=dtype)
    net.flat_params = digests.numbers(net.flat_params.size, 7919)
    X = digests.numbers(70 * n_in, 104729).reshape(70, n_in).astype(dtype)
    together = net.logits(X)
    np.testing.assert_array_equal(slice_by_slice(net, X, [1] * 70), together)
    np.testing.assert_array_equal(slice_by_slice(net, X, [3, 8, 13, 17, 29]), together)
    exact = X.astype(np.float64) @ net.parameters()["0.W"].astype(np.float64)
    exact += net.parameters()["0.b"]
    np.testing.assert_allclose(together, exact, rtol=0, atol=1e-13 if dtype == "float64" else 1e-5)


WIDTHS = [49, 50, 64, 80, 97, 100, 113, 127, 130, 163, 190, 257, 300, 355, 390]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_out", WIDTHS)
def test_a_single_row_behind_blocks_of_rows(compiled, n_out, dtype):
    """MC rows at a time share the packed weights; one that is left has micro-panels of its own."""
    net = Sequential([Dense(n_out)], n_inputs=700, dtype=dtype)
    net.flat_params = digests.numbers(net.flat_params.size, 7919)
    X = digests.numbers((2 * MC + 1) * 700, 104729).reshape(-1, 700).astype(dtype)
    alone = net.logits(X[-1:])[0]
    for rows in (MC + 1, 2 * MC + 1):
        np.testing.assert_array_equal(net.logits(X[-rows:])[-1], alone)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("units", [100, 130])
def test_gradients_of_one_weight_row_more_than_a_block(compiled, units, dtype, monkeypatch):
    """The products of dW and dX whose last block of rows is a single one, in any parts."""
    widths, m = (2 * MC + 1, units), 2 * MC + 1
    layers = [Dense(widths[0], "tanh"), Dense(units, "tanh"), Dense(2)]
    X = digests.numbers(m * widths[0], 104729).reshape(m, -1).astype(dtype)
    T = digests.numbers(m * 2, 7919).reshape(m, 2)
    found = set()
    for parts in (1, 2, 3):
        monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
        monkeypatch.setattr(compiled_module, "PARTS", parts)
        net = Sequential(layers, n_inputs=widths[0], dtype=dtype)
        _, gradient = net.loss_and_grad(X, T, loss="mse")
        found.add(gradient.tobytes())
    assert len(found) == 1
    p = {name: view.astype(float) for name, view in net.parameters().items()}
    a0 = np.tanh(X.astype(float) @ p["0.W"] + p["0.b"])
    a1 = np.tanh(a0 @ p["1.W"] + p["1.b"])
    dz2 = 2 * (a1 @ p["2.W"] + p["2.b"] - T) / T.size
    dz1 = dz2 @ p["2.W"].T * (1 - a1**2)
    dz0 = dz1 @ p["1.W"].T * (1 - a0**2)
    expected = {"0.W": X.T @ dz0, "1.W": a0.T @ dz1, "2.W": a1.T @ dz2}
    for parameter in net.plan.parameters[:3]:
        error = np.abs(parameter.view(gradient) - expected[parameter.name]).max()
        assert error < np.abs(expected[parameter.name]).max() * 1000 * np.finfo(dtype).eps


def tiny_products():
    """Logits whose exact values are denormal in float32."""
    net = Sequential([Dense(40)], n_inputs=30)
    net.flat_params = np.full(net.flat_params.size, 1e-20, np.float32)
    net.parameters()["0.b"][...] = 0
    X = np.full((64, 30), 1e-20, np.float32)
    return net.logits(X)


@pytest.mark.parametrize("parts", [1, 2])
def test_denormals_are_zero_on_every_thread_and_the_caller_keeps_them(compiled, parts, monkeypatch):
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(compiled_module, "PARTS", parts)
    assert (tiny_products() == 0).all()
    assert np.float32(1e-30) * np.float32(1e-10) > 0


def test_pytorchs_flush_denormal_changes_no_bit(compiled, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(compiled_module, "PARTS", 2)
    try:
        for flag in (True, False):
            torch.set_flush_denormal(flag)
            for name in ("odd", "few outputs"):
                digests.check(digests.digest(name, "float32"), name, "float32")
            assert (tiny_products() == 0).all()
    finally:
        torch.set_flush_denormal(False)


def test_a_run_has_the_same_bits_in_slices(compiled):
    X = digests.numbers(120 * 9, 7919).reshape(120, 9)
    y = np.arange(120) % 3
    whole = Sequential([Dense(20, "tanh"), Dense(3)], seed=1)
    whole.fit(X, y, optimizer=Adam(0.01), epochs=4, batch_size=50, progress=False)
    sliced = Sequential([Dense(20, "tanh"), Dense(3)], seed=1)
    for _ in range(4):
        sliced.fit(X, y, optimizer=Adam(0.01), epochs=1, batch_size=50, progress=False)
    np.testing.assert_array_equal(sliced.flat_params, whole.flat_params)
