"""What was wrong without a word: an inferred loss, a cleared momentum, columns in another order."""

import copy
import inspect
import logging
import pickle

import numpy as np
import pytest

import fastnn
from fastnn import (
    EMA,
    SGD,
    Adam,
    AdamW,
    Dense,
    Muon,
    Nadam,
    RMSprop,
    Sequential,
    schedules,
    train_many,
)  # fmt: skip
from fastnn.data import stratified_split
from fastnn.targets import choose_loss

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
VALUES = X @ [1.0, -2.0, 0.5]

BINARY, MANY, MSE = "binary_cross_entropy", "cross_entropy", "mse"

#: Targets, and the losses for one output and for three.
TARGETS = {
    "0 and 1": ([0, 1, 1], BINARY, MANY),
    "0.0 and 1.0": ([0.0, 1.0, 1.0], BINARY, MANY),
    "-1.0 and 1.0": ([-1.0, 1.0, 1.0], BINARY, MANY),
    "two whole floats": ([3.0, 7.0, 3.0], BINARY, MANY),
    "a column of 0.0 and 1.0": ([[0.0], [1.0], [1.0]], BINARY, MANY),
    "booleans": ([True, False, True], BINARY, MANY),
    "text": (["a", "b", "a"], BINARY, MANY),
    "three whole numbers": ([0, 1, 2], MSE, MANY),
    "three whole floats": ([0.0, 1.0, 2.0], MSE, MANY),
    "fractions": ([0.5, 1.0, 0.5], MSE, MANY),
    "fractions in objects": (np.array([0.5, 1.0, 2.5], object), MSE, MANY),
    "0 and 1 in objects": (np.array([0, 1, 1], object), BINARY, MANY),
    "only zeros": ([0.0, 0.0, 0.0], BINARY, MANY),
    "one number": ([5, 5, 5], MSE, MANY),
    "one large number": ([1e300, 0.0, 1.0], MSE, MANY),
}


@pytest.mark.parametrize("name", TARGETS)
def test_the_loss_is_that_of_the_kind_of_targets(name):
    y, one, several = TARGETS[name]
    assert [choose_loss(y, n).name for n in (1, 3)] == [one, several]


def test_the_rule_is_that_of_scikit_learn():
    multiclass = pytest.importorskip("sklearn.utils.multiclass")
    losses = {"binary": BINARY, "multiclass": MSE, "continuous": MSE}
    for seed in range(300):
        rng = np.random.default_rng(seed)
        y = rng.integers(-1, rng.integers(1, 5), rng.integers(2, 300)).astype(
            rng.choice(["i8", "f4"])
        )
        if seed % 3 == 0 and y.dtype.kind == "f":
            y[rng.integers(len(y))] += 0.5
        if len(np.unique(y)) > 1:
            assert choose_loss(y, 1).name == losses[multiclass.type_of_target(y)]


@pytest.mark.parametrize("values", [(0.0, 1.0), (-1.0, 1.0), (2.0, 5.0)])
def test_two_whole_floats_are_classes(engine, values):
    net = Sequential([Dense(1)])
    y = np.array(values)[Y]
    history = net.fit(X, y, optimizer=Adam(0.1), epochs=20, progress=False)
    assert history.loss_name == BINARY
    assert f" of {BINARY}: " in repr(history)
    assert set(net.predict(X)) == set(values)
    assert net.evaluate(X, y)["accuracy"] > 0.9


def test_what_auto_is_stands_in_the_log_whatever_progress_is(caplog, capsys):
    with caplog.at_level(logging.INFO, "fastnn"):
        net = Sequential([Dense(1)]).set_targets([0.5, 1.5])
        assert "loss='auto' is mse" in caplog.text
        net = Sequential([Dense(1)])
        net.fit(X, Y, epochs=1, progress=False)
        assert f"loss {BINARY} ('auto')" in caplog.text
    assert capsys.readouterr().err == ""
    assert net.set_targets(VALUES).fit(X, VALUES, epochs=1, progress=False).loss_name == MSE


def test_the_rule_stands_in_the_help():
    text = inspect.getdoc(Sequential.fit)
    for word in ("type_of_target", BINARY, MANY, MSE, "history.loss_name"):
        assert word in text


# -- a second fit -----------------------------------------------------------------------------

RULES = {
    "adam": (Adam(0.1), Adam(0.01)),
    "momentum": (SGD(0.1, momentum=0.9), SGD(0.01, momentum=0.5)),
    "adam to adamw": (Adam(0.1), AdamW(0.1, weight_decay=0.1)),
    "rmsprop": (RMSprop(0.1), RMSprop(0.01, weight_decay=0.1)),
    "nadam": (Nadam(0.1), Nadam(0.01, clip_norm=1.0)),
    "muon": (Muon(0.1), Muon(0.01)),
}


@pytest.mark.parametrize("rule", RULES)
def test_another_rate_keeps_the_slots(engine, rule):
    first, second = RULES[rule]
    net = Sequential([Dense(4, "tanh"), Dense(4, "tanh"), Dense(1)])
    net.fit(X, VALUES, optimizer=first, epochs=2, progress=False)
    slots, steps = net.training_state.slots.copy(), net.training_state.step
    seen = []
    net.fit(
        X, VALUES, optimizer=second, epochs=1, progress=False, batch_size=None,
        callbacks=FitBegin(lambda t: seen.append(t.fit.ws.slots.copy())),
    )  # fmt: skip
    np.testing.assert_array_equal(seen[0], slots)
    assert net.training_state.step == steps + 1


class FitBegin(fastnn.Callback):
    """Calls a function when a fit begins."""

    def __init__(self, function):
        self.function = function

    def on_fit_begin(self, training):
        self.function(training)


def test_a_rate_that_changes_equals_a_schedule(engine):
    schedule = schedules.StepDecay(factor=0.1, every=2 * 2)
    whole, parts = (
        Sequential([Dense(3, "tanh"), Dense(1)]),
        Sequential([Dense(3, "tanh"), Dense(1)]),
    )
    common = {"progress": False, "loss": "mse"}
    whole.fit(X, VALUES, optimizer=Adam(0.1), schedule=schedule, epochs=4, **common)
    for rate in (0.1, 0.1 * 0.1):
        parts.fit(X, VALUES, optimizer=Adam(rate), epochs=2, **common)
    np.testing.assert_array_equal(whole.flat_params, parts.flat_params)


def test_another_rule_begins_anew(engine):
    net, twin = Sequential([Dense(1)]), Sequential([Dense(1)])
    net.fit(X, VALUES, optimizer=Adam(0.1), epochs=1, progress=False)
    twin.fit(X, VALUES, optimizer=RMSprop(0.1), epochs=1, progress=False)
    twin.load_state_dict(net.state_dict())
    for each in (net, twin):
        each.fit(X, VALUES, optimizer=SGD(0.1, momentum=0.9), epochs=1, progress=False)
    np.testing.assert_array_equal(net.flat_params, twin.flat_params)


def test_a_new_schedule_of_a_kept_optimizer_begins_with_its_step_0(engine):
    net = Sequential([Dense(1)])
    common = {"batch_size": None, "progress": False}
    net.fit(X, VALUES, optimizer=Adam(0.1), epochs=5, **common)
    rates = [0.5, 0.25, 0.125]
    for part in (rates[:2], rates[2:]):
        history = net.fit(X, VALUES, optimizer=Adam(rates), epochs=len(part), **common)
        assert history["lr"] == part
    assert net.training_state.step == 8
    with pytest.raises(ValueError, match="3 steps"):
        net.fit(X, VALUES, optimizer=Adam(rates), epochs=1, **common)
    assert net.fit(X, VALUES, optimizer=Adam([0.7]), epochs=1, **common)["lr"] == [0.7]


def test_a_new_schedule_of_a_kept_optimizer_goes_on_from_a_checkpoint(tmp_path, engine):
    def network():
        net = Sequential([Dense(1)])
        net.fit(X, VALUES, optimizer=Adam(0.1), epochs=2, progress=False)
        return net

    arguments = {"optimizer": Adam(schedules.TimeDecay(decay=0.1)), "progress": False}
    whole, parts = network(), network()
    whole.fit(X, VALUES, epochs=4, **arguments)
    path = tmp_path / "c"
    parts.fit(X, VALUES, epochs=2, checkpoint=path, **arguments)
    again = network()
    history = again.fit(X, VALUES, epochs=4, checkpoint=path, resume=True, **arguments)
    assert history["lr"] == whole.history["lr"]
    np.testing.assert_array_equal(again.flat_params, whole.flat_params)
    assert again.history_.n_epochs == 4


def test_an_average_goes_on_with_another_rate(engine):
    net = Sequential([Dense(1)])
    net.fit(X, VALUES, optimizer=Adam(0.1), epochs=2, ema=EMA(0.9), progress=False)
    net.fit(X, VALUES, optimizer=Adam(0.01), epochs=2, ema=EMA(0.9), progress=False)
    assert net.training_state.average.first_epoch == 0


# -- histories --------------------------------------------------------------------------------


def test_histories_of_continued_fits_join():
    net = Sequential([Dense(1)])
    assert net.history_ is None
    net.fit(X, VALUES, epochs=2, progress=False)
    assert net.history_ is net.history
    net.fit(X, VALUES, epochs=3, validation_split=0.25, early_stopping=9, progress=False)
    net.fit(X, VALUES, epochs=1, loss="mae", progress=False)
    joined = net.history_
    assert (net.history.n_epochs, joined.n_epochs) == (1, 6)
    assert {len(values) for values in joined.values()} == {6}
    assert np.isnan(joined["val_loss"]).tolist() == [True] * 2 + [False] * 3 + [True]
    assert joined.loss_name == "mse, mae"
    assert joined.n_steps == net.training_state.total_steps
    assert joined.rows_trained == 2 * 60 + 3 * 45 + 60
    assert joined == net.history_ == copy.deepcopy(net).history_
    assert pickle.loads(pickle.dumps(net)).history_.n_epochs == 6
    assert repr(joined).startswith("<History of 6 epochs of mse, mae: ")


def test_a_fit_that_fails_before_its_first_step_is_in_no_history():
    net = Sequential([Dense(1)])
    for _ in range(2):
        net.fit(X, VALUES, epochs=2, progress=False)
    with pytest.raises(ZeroDivisionError):
        net.fit(X, VALUES, callbacks=FitBegin(lambda _: 1 / 0), progress=False)
    assert net.history_.n_epochs == 4
    for _ in range(2):
        net.partial_fit(X, VALUES)
    assert net.history_.n_epochs == 6


def test_a_resumed_fit_counts_once(tmp_path):
    net = Sequential([Dense(1)])
    arguments = {"checkpoint": tmp_path / "c", "progress": False}
    for _ in net.epochs(X, VALUES, epochs=5, **arguments):
        if net.history.n_epochs == 2:
            break
    net.fit(X, VALUES, epochs=5, resume=True, **arguments)
    assert net.history_.n_epochs == 5


# -- columns of data frames -------------------------------------------------------------------


@pytest.fixture
def frame():
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(X, columns=["age", "height", "weight"])


def fitted(frame, **options):
    net = Sequential([Dense(1)])
    net.fit(frame, VALUES, epochs=1, progress=False, **options)
    return net


def test_columns_in_another_order_are_refused(frame):
    net = fitted(frame)
    assert net.feature_names_in_ == ["age", "height", "weight"]
    other = frame[["weight", "age", "height"]]
    calls = (
        net.predict, net.logits, lambda X: net.evaluate(X, VALUES), lambda X: net.trace(X),
        lambda X: net.fit(X, VALUES, progress=False), lambda X: net.partial_fit(X, VALUES),
        lambda X: net.loss_and_grad(X, VALUES),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(ValueError, match=r"column 0 is 'weight', but was 'age'.*X\[net.feat"):
            call(other)
    np.testing.assert_array_equal(net.predict(other[net.feature_names_in_]), net.predict(frame))
    np.testing.assert_array_equal(net.predict(frame.to_numpy()), net.predict(frame))


def test_other_columns_are_named(frame):
    net = fitted(frame)
    with pytest.raises(ValueError, match="lacks the column 'age' of the fit and has 'AGE'"):
        net.predict(frame.rename(columns={"age": "AGE"}))
    with pytest.raises(fastnn.errors.ShapeError, match="lacks the column 'weight' of the fit"):
        net.predict(frame[["age", "height"]])
    with pytest.raises(fastnn.errors.ShapeError, match=r"has 'id', .*net.feature_names_in_"):
        net.predict(frame.assign(id=1))


def test_validation_rows_have_the_same_columns(frame):
    other = frame[["weight", "age", "height"]]
    with pytest.raises(ValueError, match="validation X has the columns of the fit in another"):
        fitted(frame, validation_data=(other, VALUES))
    specs = [{"layers": [Dense(1)], "validation_data": (other, VALUES)}]
    with pytest.raises(ValueError, match="validation X has the columns of the fit in another"):
        train_many(specs, frame, VALUES, progress=False)


def test_batches_have_the_same_columns(frame):
    net = Sequential([Dense(1)])
    batches = [(frame[:30], VALUES[:30]), (frame[30:][["weight", "age", "height"]], VALUES[30:])]
    with pytest.raises(ValueError, match="in another order"):
        net.fit(batches, epochs=1, progress=False)


def test_names_are_remembered(frame, tmp_path):
    net = fitted(frame)
    net.save(tmp_path / "m")
    (trained,) = train_many([{"layers": [Dense(1)], "epochs": 1}], frame, VALUES, progress=False)
    for again in (fastnn.load(tmp_path / "m"), net.copy(), copy.deepcopy(net), trained):
        assert again.feature_names_in_ == net.feature_names_in_
        with pytest.raises(ValueError, match="in another order"):
            again.predict(frame[["weight", "age", "height"]])


def test_columns_without_names_have_none(frame):
    pandas = pytest.importorskip("pandas")
    net = fitted(pandas.DataFrame(X))
    assert net.feature_names_in_ is None
    net.predict(frame)


# -- splits, arguments ------------------------------------------------------------------------


def test_a_split_of_continuous_labels_is_refused():
    with pytest.raises(ValueError, match=r"60 of the 60 labels occur once.*np\.digitize"):
        stratified_split(VALUES)
    ranges = np.digitize(VALUES, np.quantile(VALUES, [0.25, 0.5, 0.75]))
    train, test = stratified_split(ranges, 0.2)
    assert (len(train), len(test)) == (48, 12)
    assert len(stratified_split(np.zeros(60))[1]) == 15
    assert len(stratified_split(["a", "b", "c", "c"])[1]) == 1


ARGUMENTS = {
    "lr": r"optimizer=Adam\(lr=0.001\)", "learning_rate": "optimizer=Adam",
    "momentum": "SGD", "weight_decay": "AdamW", "verbose": "progress=True or progress=False",
    "n_epochs": "write epochs=", "max_iter": "write epochs=", "nb_epoch": "write epochs=",
    "criterion": "write loss=", "solver": "write optimizer=", "x": "write X=",
    "batchsize": "write batch_size=", "validation_fraction": "write validation_split=",
    "valdation_split": "write validation_split=", "eval_set": "write validation_data=",
    "scheduler": "write schedule=", "random_state": "seed=", "device": "leave it out",
    "patience": "early_stopping=", "zzz": "it takes X, y, loss, optimizer",
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_unknown_argument_says_what_to_write(name):
    net = Sequential([Dense(1)])
    for call in (net.fit, net.epochs):
        with pytest.raises(TypeError, match=rf"argument '{name}': .*{ARGUMENTS[name]}"):
            call(X, VALUES, **{name: 1})


def test_the_signature_of_fit_names_its_arguments():
    for method in (Sequential.fit, Sequential.epochs):
        names = list(inspect.signature(method).parameters)
        assert names[:4] == ["self", "X", "y", "loss"]
        assert "options" not in names
