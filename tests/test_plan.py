"""Plans: who reads what, where buffers lie, what is state, and what each program is made of."""

from dataclasses import replace

import numpy as np
import pytest
from cases import cases
from conftest import COMPILED, only
from hypothesis import given, settings

import fastnn
from fastnn import Activation, Adam, Dense, PReLU, Residual, Sequential, buffers, losses, ops, run
from fastnn.engines import boundary
from fastnn.engines.program import crossings
from fastnn.engines.workspace import Data, Steps, Workspace
from fastnn.initializers import Constant
from fastnn.layers import Layer
from fastnn.ops.activation import Activation as ActivationHome
from fastnn.ops.operation import BY_ROWS, LOSSES, RESULT, Access, Call, Table
from fastnn.plan import Lowering
from fastnn.printing import program_table
from fastnn.tables import HYPER, INPUT, NONE, Rule, Split
from fastnn.update import Update

STACK = [
    Dense(8, "relu"),
    Residual([Dense(8, "gelu"), Residual([Dense(5), PReLU()]), Dense(8, l2=0.1)]),
    Activation("silu"),
    PReLU(shared=True),
    Dense(3),
]


def records(layers, training=True, n_inputs=4):
    """The operations of a network with cross-entropy."""
    lowered = Sequential(layers, n_inputs=n_inputs).lower(losses.cross_entropy)
    layout = lowered.training if training else lowered.prediction
    return Table(layout.ops, 16)


def test_the_table_shows_both_inputs_of_a_residual_sum():
    net = Sequential([Dense(4, "relu"), Residual([Dense(4)]), Dense(2)], n_inputs=3)
    lines = str(net.lower(losses.cross_entropy)).splitlines()
    assert lines[1].split() == ["op", "operation", "shape", "reads", "parameters", "writes",
                                "backward"]  # fmt: skip
    (line,) = [line for line in lines if " residual " in line]
    assert "a1, a0" in line
    assert line.split()[-2:] == ["dz1", "da0"]
    (dense,) = [line for line in lines if line.startswith("1 ")]
    assert dense.endswith("+dz0")


def test_the_gradient_with_respect_to_the_input_is_never_computed():
    table = records([Residual([Dense(6), PReLU()]), Dense(3)])
    for op in table.records:
        for number in range(op.n_edges):
            value, gradient, adds, below = op.edge(number)
            if value == INPUT:
                assert (gradient, adds, below) == (NONE, 0, NONE)
            else:
                assert gradient == table[below].da
    assert records([Activation("tanh"), Dense(3)])[0].da == NONE


def test_the_first_reader_from_above_overwrites_a_gradient_and_the_last_one_finishes_it():
    table = records(STACK)
    for value in range(len(table) - 1):
        edges = [
            (index, number)
            for index in range(len(table))
            for number in range(table[index].n_edges)
            if table[index].edge(number)[3] == value
        ]
        highest = max(index for index, _ in edges)
        order = sorted(edges, key=lambda edge: (-edge[0], edge[1]))
        assert [table[i].edge(n)[2] for i, n in order] == [0] + [1] * (len(order) - 1)
        assert [table.is_last_writer(i, n) for i, n in order] == [False] * (len(order) - 1) + [True]
        assert order[0][0] == highest


def test_nothing_is_fused_into_a_value_that_a_shortcut_reads():
    table = records([Dense(6), Residual([Activation("relu"), Dense(6)]), Dense(3)])
    assert [op.code for op in table.records[:2]] == [0, 4]
    apart = records([Dense(6), Activation("relu"), Dense(3)])
    assert apart[0].code == 4
    assert len(apart) == 3


def test_prediction_keeps_less_than_training():
    deep = Sequential([Dense(32, "gelu") for _ in range(20)] + [Dense(2)], n_inputs=8)
    lowered = deep.lower(losses.cross_entropy)
    assert lowered.prediction.per_sample < 110 < 20 * 64 < lowered.training.per_sample
    assert (lowered.prediction.ops["da"] == NONE)[:-1].sum() >= 19


@settings(max_examples=25)
@given(cases())
def test_buffers_that_share_memory_change_no_bit(case):
    """The same network with a buffer of its own for everything."""
    found = []
    place = buffers.Buffers.place

    def apart(self):
        self.size = 0
        for buffer in self._buffers:
            buffer[3] = self.size
            self.size += buffer[0]

    for engine in COMPILED or ["numpy"]:
        for method in (place, apart):
            with pytest.MonkeyPatch.context() as patch, only(engine):
                patch.setattr(buffers.Buffers, "place", method)
                net = case.network("float32")
                loss, gradient = net.loss_and_grad(case.X, **case.arguments)
                found.append((net.logits(case.X).tobytes(), loss, gradient.tobytes()))
    assert len(set(found)) == 1


def test_offsets_lie_within_their_spaces():
    lowered = Sequential(STACK, n_inputs=4, l1=0.01).lower(losses.cross_entropy)
    for layout in (lowered.training, lowered.prediction):
        for name in ("a", "z", "x", "da", "dx"):
            assert (layout.ops[name] < layout.per_sample).all()
    assert lowered.training.ops["batch"].max() < lowered.training.per_batch
    names = [p.name for p in lowered.parameters]
    assert names[: names.index("0.b")] == [
        "0.W", "1.0.W", "1.1.0.W", "1.1.projection.W", "1.2.W", "4.W",
    ]  # fmt: skip
    assert lowered.n_weights == sum(p.size for p in lowered.parameters if p.name.endswith("W"))


def test_only_penalised_weights_are_penalised():
    """arg1 and arg2 of other operations are not penalties."""
    from fastnn.ops import BY_KIND

    table = records(STACK)
    for index, op in enumerate(table.records):
        table.records[index] = op._replace(arg1=0.5)
    penalised = {
        BY_KIND[op.kind].name
        for index, op in enumerate(table.records)
        for call in BY_KIND[op.kind].penalty(table, index)
        if call.kernel == "penalise"
    }
    assert penalised == {"dense"}


# -- state ----------------------------------------------------------------------------------------


class Counting(Layer):
    """A layer that has statistics and nothing else: what normalisation will bring."""

    def lower(self, lowering, name):
        from fastnn.ops import activation

        statistics = {"state": ("running_mean", (lowering.width,), Constant(0.5))}
        lowering.add(activation.OPERATION, name, lowering.width, state=statistics, code=4)

    def config(self):
        return {"layer": "Counting"}


@pytest.fixture
def counting(monkeypatch):
    """A network with statistics, and an engine that changes them in every step."""
    from fastnn import layers
    from fastnn.engines import reference

    monkeypatch.setitem(layers._KINDS, "Counting", Counting)
    step = reference.run_batches

    def run_batches(ws, data, steps, results, first, last):
        ws.state += last - first
        return step(ws, data, steps, results, first, last)

    monkeypatch.setattr(reference, "run_batches", run_batches)
    with fastnn.use_engine("numpy"):
        yield Sequential([Dense(3), Counting(), Dense(2)], n_inputs=2)


def statistics(net):
    (parameter,) = net.lower(None).state
    assert parameter.name == "1.running_mean"
    return parameter.view(net._statistics)


def test_statistics_start_are_trained_copied_saved_and_continued(counting, tmp_path):
    X, y = np.eye(6, 2), np.arange(6) % 2
    np.testing.assert_array_equal(statistics(counting), 0.5)
    counting.fit(X, y, epochs=2, batch_size=2, progress=False)
    np.testing.assert_array_equal(statistics(counting), 6.5)
    assert counting.training_state.state is counting._statistics
    np.testing.assert_array_equal(statistics(counting.copy("float64")), 6.5)
    counting.save(tmp_path / "net")
    back = fastnn.load(tmp_path / "net")
    np.testing.assert_array_equal(statistics(back), 6.5)
    counting.fit(X, y, epochs=1, batch_size=2, progress=False)
    np.testing.assert_array_equal(statistics(counting), 9.5)
    np.testing.assert_array_equal(statistics(back), 6.5)


def test_statistics_are_rolled_back_with_the_parameters(counting):
    X, y = np.eye(6, 2), np.arange(6) % 2
    counting.fit(X, y, epochs=1, batch_size=2, progress=False)
    before = statistics(counting).copy(), counting.flat_params.copy()
    with pytest.raises(fastnn.errors.DivergedError):
        counting.fit(1e30 * X, y, optimizer=fastnn.SGD(1e30),
                     epochs=3, batch_size=2, progress=False)  # fmt: skip
    np.testing.assert_array_equal(statistics(counting), before[0])
    np.testing.assert_array_equal(counting.flat_params, before[1])


# -- constants ------------------------------------------------------------------------------------


class Reading(ActivationHome):
    """An operation that reads two of the plan's constants."""

    def n_constants(self, op):
        return 2


def test_constants_of_operations_follow_one_another():
    lowering, home = Lowering(3), Reading()
    for numbers in ([0.5, 0.25], [1.0, 2.0]):
        lowering.add(home, "0", 3, constants=numbers)
    lowered = lowering.finish()
    assert lowered.constants.tolist() == [0.5, 0.25, 1.0, 2.0]
    assert not lowered.constants.flags.writeable
    assert lowered.training.ops["constants"].tolist() == [0, 2]


@pytest.mark.parametrize("at", [-1, -2, 3, 2**62])
def test_constants_out_of_range_are_refused(at, monkeypatch):
    lowering, home = Lowering(3), Reading()
    monkeypatch.setitem(ops.BY_KIND, home.kind, home)
    lowering.add(home, "0", 3, constants=[0.5, 0.25])
    lowering.add(home, "1", 3, constants=[1.0, 2.0])
    lowered = lowering.finish()
    boundary.check_layout(lowered, lowered.training, 16, 16)
    table = lowered.training.ops.copy()
    table["constants"][0] = at
    with pytest.raises(ValueError, match=r"operation 0 .*: constants is"):
        boundary.check_layout(lowered, replace(lowered.training, ops=table), 16, 16)


def test_constants_that_nothing_reads_are_refused():
    lowered = Sequential([Activation("softmax"), Dense(3)], n_inputs=2).lower(None)
    table = lowered.training.ops.copy()
    table["constants"][0] = 0
    with pytest.raises(ValueError, match="it reads none"):
        boundary.check_layout(lowered, replace(lowered.training, ops=table), 16, 16)


# -- what the driver knows ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [7, 2**64 - 1])
def test_the_driver_knows_seed_step_and_mode(compiled, seed):
    net = Sequential([Dense(3)], n_inputs=2, seed=seed)
    lowered = net.lower(losses.cross_entropy)
    params, state = net.flat_params, np.zeros(0, np.float32)
    data = Data(np.ones((20, 2), np.float32), labels=np.zeros(20, np.int32), batch_size=4)
    ws = Workspace(lowered, params, state, 4, Update.of(lowered, Adam()))
    engine = fastnn.engines.current()
    steps = Steps(Adam().hyper(11, np.full(5, 0.1)), seed, 10)
    engine.run_batches(ws, data, steps, np.zeros((5, 2)), 0, 5)
    context = ws.programs[compiled].context
    assert (context["seed"] % 2**64, context["step"], context["training"]) == (seed, 15, 1)
    assert context["hyper_columns"] == len(HYPER[Rule.adam])
    forward = Workspace(lowered, params, state, 4)
    engine.evaluate(forward, data, np.zeros((5, 2)))
    assert forward.programs[compiled].context["training"] == 0


def test_a_workspace_for_prediction_cannot_train(compiled):
    net = Sequential([Dense(3)], n_inputs=2)
    ws = Workspace(net.lower(losses.cross_entropy), net.flat_params, np.zeros(0, np.float32), 4)
    data = Data(np.ones((4, 2), np.float32), labels=np.zeros(4, np.int32))
    with pytest.raises(ValueError, match="for prediction"):
        fastnn.engines.current().loss_and_grad(ws, data, np.zeros(2))


def test_a_workspace_counts_all_its_bytes():
    net = Sequential([Dense(3, l2=0.1)], n_inputs=2)
    plan, state = net.lower(losses.cross_entropy), np.zeros(0, np.float32)
    ws = Workspace(plan, net.flat_params, state, 8, Update.of(plan, Adam(), averages=True))
    ws.pack_for(2)
    small = (ws.ran, ws.ran_on, ws.team, ws.groups)
    arrays = [a for a in vars(ws).values() if isinstance(a, np.ndarray)]
    counted = [a for a in arrays if not any(a is b for b in (ws.params, ws.state, *small))]
    assert len(counted) == 9
    assert ws.nbytes == sum(a.nbytes for a in counted)


def test_a_piece_is_a_whole_number_of_blocks():
    lowered = Sequential([Dense(2048), Dense(2)], n_inputs=3000).lower(losses.cross_entropy)
    assert run.piece_rows(lowered, 10**6) % 512 == 0
    assert run.piece_rows(lowered, 100) == 100


#: What a step might be: a product of all weights with the rows of x, which are 8 lines of 64 bytes
#: (16 columns, 8 rows, 4 bytes), and a step on the weights, 4 lines, that reads all rows.
X = Access("value", 0, 16, BY_ROWS)
WEIGHTS = Access("params", 0, 64)
TWO_CALLS = [
    Call("dense_forward", "add_bias", 0, 0.0, 0.0, Split.rows, (WEIGHTS,), (X,)),
    Call("adam", None, 1, 0.0, 0.0, Split.blocks, (X,), (WEIGHTS,)),
]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # Each part reads the lines that the others wrote: of 2 parts half, of 3 two thirds. All
        # lines that are written were read by others in the step before.
        (2, [(4, 8), (8, 4)]),
        (3, [(8, 8), (16, 4)]),
    ],
)
def test_lines_that_cross_between_cores(parts, expected):
    assert crossings(TWO_CALLS, parts, 8, 4) == expected
    double = [(2 * reads, 2 * writes) for reads, writes in expected]
    assert crossings(TWO_CALLS, parts, 8, 8) == double


def test_nothing_crosses_between_calls_that_are_split_alike():
    values = [Access("value", 16 * i, 16 * (i + 1), BY_ROWS) for i in range(3)]
    calls = [
        Call("f", None, i, 0.0, 0.0, Split.rows, (values[i],), (values[(i + 1) % 3],))
        for i in range(3)
    ]
    assert crossings(calls, 2, 8, 4) == [(0, 0)] * 3


def test_one_thread_takes_from_the_others_what_it_reads_alone():
    """Losses are numbers of 8 bytes: of 32 rows 4 lines, of which 4 parts wrote a quarter each."""
    sums = Call("sums", None, 0, 0.0, 0.0, Split.alone, (LOSSES,), (RESULT,))
    calls = [Call("loss", None, 0, 0.0, 0.0, Split.rows, (), (LOSSES,)), sums]
    assert crossings(calls, 4, 32, 4) == [(0, 4), (3, 0)]


def test_a_program_is_printed_with_its_meetings_and_lines():
    lines = program_table(TWO_CALLS, 2, 8, 4).splitlines()
    assert [line.split() for line in lines] == [
        ["call", "op", "split", "lines", "read", "lines", "written"],
        ["meet", "dense_forward", "+", "add_bias", "0", "rows", "4", "8"],
        ["meet", "adam", "1", "blocks", "8", "4"],
        ["2", "meetings", "that", "cross:", "12", "12"],
    ]
    lines = program_table([TWO_CALLS[0], *TWO_CALLS], 2, 8, 4).splitlines()
    assert [line.split()[0] for line in lines] == ["call", "meet", "dense_forward", "meet", "2"]
