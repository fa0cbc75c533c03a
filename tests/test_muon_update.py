"""Muon: which parameters are matrices, their factors, and what is refused."""

import dataclasses

import numpy as np
import pytest
from conftest import DTYPES, table
from muon_cases import one_matrix, relative_error, take_steps

from fastnn import (
    SGD,
    Activation,
    Adam,
    AdamW,
    BatchNorm,
    Dense,
    Embedding,
    Maxout,
    Muon,
    Residual,
    Sequential,
    engines,
    losses,
)
from fastnn.engines import boundary
from fastnn.engines.program import Task, Variant, calls_of, meetings
from fastnn.engines.workspace import Steps
from fastnn.errors import EngineError
from fastnn.schedules import Linear
from fastnn.tables import COMMON, HYPER, NORM_BLOCK, Rule
from fastnn.update import Update

# -- which parameters, with what factors ----------------------------------------------------------


def updated(layers, n_inputs, optimizer, **keywords):
    """The update of a network, and the names of what each of its groups holds."""
    net = Sequential(layers, n_inputs=n_inputs)
    plan = net.lower(losses.get("mse"))
    update = Update.of(plan, optimizer, **keywords)
    found = [
        {p.name for p in plan.parameters if begin <= p.offset < end}
        for begin, end, *_ in [*update.groups, *(group for _, group in update.matrices)]
    ]
    split = len(update.groups)
    return update, set().union(*found[:split]), [name for names in found[split:] for name in names]


def test_hidden_matrices_are_those_between_the_first_and_the_last():
    layers = [Embedding({0: (5, 2)}), Dense(8), BatchNorm(), Activation("relu"), Maxout(6, 2),
              Residual([Dense(4), Dense(5)]), Dense(3)]  # fmt: skip
    update, others, matrices = updated(layers, 3, Muon())
    assert matrices == ["4.W", "5.0.W", "5.1.W", "5.projection.W"]
    assert others >= {"0.E0", "1.W", "4.b", "5.0.b", "6.W", "6.b"}
    assert not others & set(matrices)
    assert update.n_slots == 2


def test_factors_and_frozen_layers_hold_for_matrices_too():
    layers = [Dense(4), Dense(5), Dense(6), Dense(7), Dense(2)]
    optimizer = Muon(
        weight_decay=0.1, lr_factors={"1": 0.5, "3.W": 0}, decay_factors={"2.W": 0.25, "0": 3},
        adamw=AdamW(weight_decay=0.0),
    )  # fmt: skip
    update, others, matrices = updated(layers, 3, optimizer, freeze=["4"])
    assert matrices == ["1.W", "2.W"]
    assert [group[2:] for _, group in update.matrices] == [(0.5, 1.0), (1.0, 0.25)]
    assert {group[3] for group in update.groups} == {0.0}  # adamw has no decay
    assert others == {"0.W", "0.b", "1.b", "2.b", "3.b"}
    all_frozen, _, matrices = updated(layers, 3, Muon(), freeze=["1.W", "2.W", "3.W"])
    assert not matrices
    assert all_frozen.groups
    only, others, matrices = updated(layers, 3, Muon(), freeze=["0", "1.b", "2", "3", "4"])
    assert (others, matrices, only.groups) == (set(), ["1.W"], ())


@pytest.mark.parametrize("dtype", DTYPES)
def test_factors_multiply_rate_and_decay(engine, dtype):
    plain = Muon(0.2, weight_decay=0.5)
    half = Muon(0.2, weight_decay=0.5, lr_factors={"1": 0.5}, decay_factors={"1": 0.2})
    moved = {}
    for optimizer in (plain, half):
        ws, (W, slots, _) = one_matrix(9, 6, dtype, optimizer)
        before = W.astype(float)
        take_steps(ws, optimizer)
        moved[optimizer is half] = before, W - before, slots[1].astype(float)
    for is_half, (before, change, direction) in moved.items():
        rate, decay = (0.1, 0.1) if is_half else (0.2, 0.5)
        wanted = -rate * decay * before - rate * direction
        assert relative_error(change, wanted) < (1e-5 if dtype == "float32" else 1e-13)


def test_a_frozen_matrix_and_its_slots_stay(engine):
    ws, (W, slots, _) = one_matrix(9, 6, "float32", Muon(), freeze=["1.W"])
    before = ws.params.copy()
    take_steps(ws, Muon(), 2)
    found = np.flatnonzero(ws.params != before)
    assert found.size == ws.params.size - W.size
    assert (slots == 0).all()


def test_only_a_matrix_is_trained(engine):
    ws, (W, _, _) = one_matrix(9, 6, "float32", Muon(), freeze=["0", "1.b", "2"])
    before = ws.params.copy()
    take_steps(ws, Muon(), 2)
    assert np.flatnonzero(ws.params != before).size == W.size


@pytest.mark.parametrize("shape", [(90, 80), (9, 6)], ids=str)
def test_clipping_counts_matrices(engine, shape):
    """The norm is that of all trained parameters, several blocks of them and fewer than one."""
    optimizer = Muon(clip_norm=0.5, momentum=0.0)
    ws, _ = one_matrix(*shape, "float64", optimizer)
    assert (ws.grad.size > NORM_BLOCK) == (shape[0] > 9)
    wanted = ws.grad * 0.5 / np.linalg.norm(ws.grad)
    take_steps(ws, optimizer)
    assert relative_error(ws.grad, wanted) < 1e-12


def test_the_columns_of_a_step():
    optimizer = Muon(
        Linear(0.02, 0.01, 4), Linear(0.9, 0.8, 4), every=2, weight_decay=0.1,
        adamw=AdamW(0.003, weight_decay=0.2),
    )  # fmt: skip
    rates = optimizer.rates(0, 4)
    columns = optimizer.hyper(1, rates)
    found = dict(zip(HYPER[Rule.muon], columns.T, strict=True))
    other = dict(zip(HYPER[Rule.adam], optimizer.adamw.hyper(1, np.full(4, 0.003)).T, strict=True))
    for name in (*COMMON, "epsilon", "beta1", "beta2"):
        np.testing.assert_array_equal(found[name], other[name])
    np.testing.assert_allclose(found["matrix_lr"], [0.02, 0.0175, 0.015, 0.0125])
    np.testing.assert_allclose(found["matrix_decoupled"], 0.1 * found["matrix_lr"])
    np.testing.assert_allclose(found["momentum"], [0.9, 0.875, 0.85, 0.825])
    np.testing.assert_allclose(found["of_gradient"], 1 - found["momentum"])
    assert found["orthogonalises"].tolist() == [1, 0, 1, 0]
    later = optimizer.hyper(4, optimizer.rates(3, 1))
    np.testing.assert_array_equal(later[0], columns[3])


def test_a_schedule_of_fit_multiplies_both_rates():
    """What fit gives instead of the optimizer's own rate changes AdamW's in proportion."""
    optimizer = Muon(0.02, adamw=AdamW(0.003))
    usual, half = (optimizer.hyper(5, np.full(3, rate)) for rate in (0.02, 0.01))
    at = HYPER[Rule.muon].index("matrix_lr")
    np.testing.assert_allclose(half[:, [0, at]], usual[:, [0, at]] / 2)


# -- bad input ------------------------------------------------------------------------------------

BAD = {
    "rate": (ValueError, "lr must be above 0", lambda: Muon(0)),
    "momentum": (ValueError, "momentum must be below 1", lambda: Muon(momentum=1.0)),
    "nesterov": (TypeError, "nesterov must be True", lambda: Muon(nesterov=1)),
    "no turns": (ValueError, "newton_schulz must be at least 1", lambda: Muon(newton_schulz=0)),
    "turns": (ValueError, "newton_schulz must be at most 10", lambda: Muon(newton_schulz=11)),
    "every": (ValueError, "every must be at least 1", lambda: Muon(every=0)),
    "every a float": (TypeError, "every must be a whole", lambda: Muon(every=2.0)),
    "decay": (ValueError, "weight_decay must be at least 0", lambda: Muon(weight_decay=-1)),
    "another optimizer": (TypeError, "adamw must be an AdamW", lambda: Muon(adamw=Adam())),
    "a name": (TypeError, "adamw must be an AdamW", lambda: Muon(adamw="adamw")),
    "clipping": (ValueError, "give it to Muon", lambda: Muon(adamw=AdamW(clip_norm=1.0))),
    "factors": (ValueError, "adamw must have no lr_factors",
                lambda: Muon(adamw=AdamW(lr_factors={"0": 1}))),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_hyperparameters_are_refused(what):
    error, message, make = BAD[what]
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("layers", [[Dense(3)], [Dense(8), Activation("relu"), Dense(3)]])
def test_a_network_without_a_hidden_matrix_is_refused(engine, layers):
    X, y = table()
    net = Sequential(layers, n_inputs=X.shape[1])
    before = net.flat_params.copy()
    with pytest.raises(ValueError, match="add a hidden layer, or train with AdamW"):
        net.fit(X, y, optimizer=Muon(), progress=False)
    np.testing.assert_array_equal(net.flat_params, before)


def test_freezing_everything_is_refused():
    with pytest.raises(ValueError, match="every parameter is frozen"):
        one_matrix(4, 3, "float32", Muon(), freeze=["0", "1", "2"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matrices": ((0, (0, 8, 1.0, 1.0)),)}, "is not that of operation 0"),
        ({"matrices": ((9, (8, 32, 1.0, 1.0)),)}, "is not that of operation 9"),
        ({"matrices": ((-1, (8, 32, 1.0, 1.0)),)}, "is not that of operation -1"),
        ({"turns": 0}, "0 Newton-Schulz steps"),
        ({"turns": 11}, "11 Newton-Schulz steps"),
        ({"matrices": ()}, "do not fit"),
    ],
)
def test_damaged_updates_are_refused(change, message):
    ws, _ = one_matrix(4, 6, "float32", Muon())
    boundary.check_training(ws, True)
    ws.update = dataclasses.replace(ws.update, **change)
    with pytest.raises(ValueError, match=message):
        boundary.check_training(ws, True)


@pytest.mark.parametrize("field", ["begin", "end"])
@pytest.mark.parametrize("value", [-1, 9, 1 << 40])
def test_damaged_groups_of_matrices_are_refused(field, value):
    ws, _ = one_matrix(4, 6, "float32", Muon())
    ws.groups = ws.groups.copy()
    ws.groups[-1][field] = value
    with pytest.raises(ValueError, match=r"groups of the update|is not that of"):
        boundary.check_training(ws, True)


def test_too_small_a_scratch_space_is_refused():
    ws, _ = one_matrix(4, 6, "float32", Muon())
    ws.layout = dataclasses.replace(ws.layout, scratch=ws.update.scratch(ws.layout.ops) - 1)
    with pytest.raises(ValueError, match="the update needs"):
        boundary.check_training(ws, True)


def test_a_matrix_without_its_group_stops_the_run(compiled):
    """The kernel looks for its group, and finds none."""
    ws, _ = one_matrix(4, 6, "float32", Muon())
    take_steps(ws, Muon())
    ws.groups.flags.writeable = True
    ws.groups[-1]["begin"] = 3
    with pytest.raises(EngineError, match="stopped with status"):
        take_steps(ws, Muon())


def test_threads_meet_before_each_call_of_a_matrix():
    """Each reads what the one before writes."""
    ws, _ = one_matrix(9, 6, "float32", Muon(newton_schulz=2))
    calls = list(calls_of(ws, Variant(Task.UPDATE)))
    assert [call.kernel for call in calls] == [
        "adam", "muon_momentum", "muon_start", "muon_gram", "muon_factor", "muon_turn",
        "muon_gram_back", "muon_factor", "muon_turn_back", "muon_apply",
    ]  # fmt: skip
    assert all(meetings(calls))


def test_steps_of_another_rule_are_refused(compiled):
    ws, _ = one_matrix(4, 6, "float32", Muon())
    with pytest.raises(ValueError, match="hyper has"):
        engines.current().update(ws, Steps(SGD().hyper(1, np.ones(1))))
