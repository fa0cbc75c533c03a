"""Schedules in fits: the rates of every step, stopping and going on, errors, dropout, files."""

import pickle

import numpy as np
import pytest
from conftest import table

import fastnn
from fastnn import SGD, Adam, Dense, Dropout, Sequential, run, schedules
from fastnn.errors import DivergedError, NotFittedError
from fastnn.schedules import (
    Cosine,
    CosLog4,
    Cyclic,
    Exponential,
    FlatCosine,
    Linear,
    OneCycle,
    PerEpoch,
    Polynomial,
    ReduceOnPlateau,
    StepDecay,
    TimeDecay,
    Values,
    WarmRestarts,
    Warmup,
)
from fastnn.schedules import Sequence as InTurn

ROWS, BATCH = 50, 20
BATCHES = 3  # the last one has 10 rows
RNG = np.random.default_rng(5)
X = RNG.normal(size=(ROWS, 4))
Y = X @ np.array([1.0, -2, 0.5, 3]) + 1


def linear(seed=0):
    return Sequential([Dense(1)], seed=seed, dtype="float64", n_inputs=4)


def fit(net, epochs=4, schedule=None, optimizer=None, batch_size=BATCH, **arguments):
    return net.fit(
        X, Y, "mse", optimizer or SGD(0.1), epochs, batch_size, schedule=schedule, shuffle=False,
        progress=False, **arguments,
    )  # fmt: skip


def oracle(parameters, rates, momenta=None, decays=None):
    """Linear regression by minibatch descent: v = momentum v - lr (g + decay W), w = w + v."""
    w = parameters.copy()
    v = np.zeros_like(w)
    for k, rate in enumerate(rates):
        begin = k % BATCHES * BATCH
        rows = np.column_stack([X, np.ones(ROWS)])[begin : begin + BATCH]
        gradient = 2 * rows.T @ (rows @ w - Y[begin : begin + BATCH]) / len(rows)
        gradient[:4] += (decays[k] if decays is not None else 0) * w[:4]
        v = (momenta[k] if momenta is not None else 0) * v - rate * gradient
        w = w + v
    return w


#: name: (schedule of a fit of 4 epochs of 3 steps, its 12 factors)
FACTORS = {
    "cosine": (Cosine(), Cosine(steps=12).values(0, 12)),
    "polynomial": (Polynomial(power=2), (1 - np.arange(12) / 12) ** 2),
    "one cycle": (OneCycle(), OneCycle(steps=12).values(0, 12)),
    "coslog4": (CosLog4(), CosLog4(steps=12).values(0, 12)),
    "flat": (FlatCosine(), FlatCosine(steps=12).values(0, 12)),
    "list": ([1, 2] * 6, [1, 2] * 6),
    "array": (np.arange(12) / 12, np.arange(12) / 12),
    "function": (lambda k: 1 / (k + 1), 1 / np.arange(1, 13)),
    "notes": (PerEpoch(TimeDecay(decay=0.5)), np.repeat(1 / (1 + 0.5 * np.arange(4)), 3)),
    "notes compound": (PerEpoch(TimeDecay(decay=0.5, compound=True)),
                       np.repeat(1 / 1.5 ** np.arange(4), 3)),
    "step": (PerEpoch(StepDecay(factor=0.5, every=2)), [1] * 6 + [0.5] * 6),
    "warm-up": (Warmup(Cosine(), 4),
                [0.25, 0.4375, 0.625, 0.8125, *Cosine(steps=8).values(0, 8)]),
    "warm-up of epochs": (PerEpoch(Warmup(Linear(1, 0), 2)), np.repeat([0.5, 0.75, 1, 0.5], 3)),
    "epochs after a warm-up": (Warmup(PerEpoch(StepDecay(factor=0.5, every=1)), 4),
                               [0.25, 0.4375, 0.625, 0.8125, 1, 1, *[0.5] * 3, *[0.25] * 3]),
    "in turn": (InTurn([(Linear(0, 1), 4), (Cosine(1, 0.5), None)]),
                [0, 0.25, 0.5, 0.75, *Cosine(1, 0.5, 8).values(0, 8)]),
    "epochs in turn": (PerEpoch(InTurn([(Linear(0, 1), 2), (Cosine(), 2)])),
                       np.repeat([0, 0.5, 1, 0.5], 3)),
    "restarts": (WarmRestarts(T_0=5), WarmRestarts(T_0=5).values(0, 12)),
    "cyclic": (Cyclic(peak=2, up=2), Cyclic(peak=2, up=2).values(0, 12)),
    "exponential": (Exponential(rate=0.9), 0.9 ** np.arange(12)),
}  # fmt: skip


@pytest.mark.parametrize("name", FACTORS)
def test_a_fit_takes_its_rates(engine, name):
    schedule, factors = FACTORS[name]
    rates = 0.1 * np.asarray(factors)
    net = linear()
    expected = oracle(net.flat_params, rates)
    history = fit(net, schedule=schedule)
    np.testing.assert_allclose(net.flat_params, expected, rtol=1e-11)
    np.testing.assert_allclose(history["lr"], rates[2::3], rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("name", FACTORS)
def test_an_optimizer_takes_them_too(engine, name):
    """lr, momentum and weight_decay at once; fit's schedule multiplies the learning rate."""
    factors = np.asarray(FACTORS[name][1])
    schedule = schedules.get(FACTORS[name][0])
    net = linear()
    expected = oracle(net.flat_params, 0.1 * factors, 0.3 * factors, factors)
    optimizer = SGD(schedule, momentum=Scaled(schedule, 0.3), weight_decay=schedule)
    fit(net, schedule=lambda k: 0.1, optimizer=optimizer)
    np.testing.assert_allclose(net.flat_params, expected, rtol=1e-11)


class Scaled(schedules.Schedule):
    """A schedule of one's own, made of another."""

    def __init__(self, inner, factor):
        self.inner, self.factor = inner, factor

    def values(self, first_step, count):
        return self.factor * self.inner.values(first_step, count)

    @property
    def lasts_a_fit(self):
        return self.inner.lasts_a_fit

    def resolved(self, span):
        return Scaled(self.inner.resolved(span), self.factor)


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.5), Adam(0.01)])
def test_slices_do_not_change_a_bit(engine, optimizer, monkeypatch):
    found = set()
    for seconds in (1e-9, 10.0):
        monkeypatch.setattr(run, "SLICE_SECONDS", seconds)
        net = linear()
        history = fit(net, 9, Warmup(CosLog4(), 5), optimizer, batch_size=3)
        found.add((net.flat_params.tobytes(), tuple(history["lr"])))
    assert len(found) == 1


def test_batches_in_pieces_follow_it(engine, monkeypatch):
    X, y = table(1500)
    found = []
    for elements in (1 << 40, 1):
        monkeypatch.setattr(run, "PIECE_ELEMENTS", elements)
        net = Sequential([Dense(3)], seed=1, dtype="float64")
        history = net.fit(X, y, optimizer=SGD(0.1), batch_size=700, epochs=3, shuffle=False,
                          progress=False, schedule=Cosine())  # fmt: skip
        found.append((net.flat_params, history["lr"]))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-12)
    assert found[0][1] == found[1][1]


# -- stopping and going on --------------------------------------------------------------------

GOES_ON = {
    "cosine": Cosine(steps=12),
    "one cycle": OneCycle(steps=14),
    "epochs": PerEpoch(TimeDecay(decay=1)),
    "epochs of values": PerEpoch([1, 0.5, 0.2, 0.1]),
    "warm-up": Warmup(PerEpoch(Exponential(rate=0.5)), 4),
    "warm-up of epochs": PerEpoch(Warmup(Cosine(steps=2), 2)),
    "in turn": InTurn([(Cosine(), 5), (Linear(1, 0, 7), None)]),
    "plateau": ReduceOnPlateau(factor=0.5, patience=0, threshold=0.9),
    "plateau after a warm-up": Warmup(ReduceOnPlateau(factor=0.5, patience=0, threshold=0.9), 4),
    "plateau in turn": InTurn([(ReduceOnPlateau(factor=0.5, patience=0, threshold=0.9), 8),
                               (Linear(1, 0, 7), None)]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "where"), [
    *((name, "fit") for name in GOES_ON),
    *((name, "optimizer") for name in GOES_ON if "plateau" not in name),
])  # fmt: skip
def test_two_fits_are_one(engine, name, where):
    """With explicit steps, also through a pickle."""

    def train(net, epochs):
        given = GOES_ON[name]
        optimizer = Adam(given if where == "optimizer" else 0.1)
        return fit(net, epochs, given if where == "fit" else None, optimizer)["lr"]

    whole, parts, pickled = linear(), linear(), linear()
    rates = train(whole, 4)
    assert len(set(rates)) > 1
    assert train(parts, 1) + train(parts, 2) + train(parts, 1) == rates
    train(pickled, 2)
    pickled = pickle.loads(pickle.dumps(pickled))
    assert train(pickled, 2) == rates[2:]
    for net in (parts, pickled):
        np.testing.assert_array_equal(net.flat_params, whole.flat_params)


def test_what_lasts_a_fit_begins_with_each():
    net = linear()
    for schedule in (Cosine(), Warmup(Linear(), 2), PerEpoch(Cosine())):
        assert fit(net, 3, schedule)["lr"] == fit(net, 3, schedule)["lr"]
    optimizer = SGD(Linear(0.1), momentum=Linear(0.5))
    assert fit(net, 3, optimizer=optimizer)["lr"] == fit(net, 3, optimizer=optimizer)["lr"]
    assert net.training_state.step == 18


def test_a_new_schedule_begins_at_its_step_0():
    net = linear()
    decay = Exponential(rate=0.5)
    rates = 0.1 * 0.5 ** np.arange(12)
    assert fit(net, 1, decay)["lr"] == [rates[2]]
    assert fit(net, 1, Exponential(rate=0.5))["lr"] == [rates[5]]  # an equal one
    assert fit(net, 1, decay, Adam(0.1))["lr"] == [rates[8]]  # whatever the optimizer is
    assert fit(net, 1)["lr"] == [0.1]
    assert fit(net, 1, decay)["lr"] == [rates[2]]  # the last fit had none
    assert fit(net, 1, Exponential(rate=0.25))["lr"] == [0.1 / 16]
    assert net.training_state.progress.step == 15


def test_epochs_are_counted_whatever_their_length():
    net = linear()
    decay = PerEpoch(Exponential(rate=0.5))
    assert fit(net, 2, decay)["lr"] == [0.1, 0.05]
    assert fit(net, 2, decay, batch_size=2)["lr"] == [0.025, 0.0125]
    assert fit(net, 1, decay, batch_size=None)["lr"] == [0.00625]
    optimizer = SGD(decay)
    assert fit(net, 2, optimizer=optimizer)["lr"] == [1, 0.5]
    assert fit(net, 2, optimizer=optimizer, batch_size=2)["lr"] == [0.25, 0.125]
    fit(net, 1)
    assert fit(net, 1, optimizer=optimizer)["lr"] == [1]  # its state begins anew


def test_a_schedule_that_ended_is_refused_and_the_network_goes_on():
    net = linear()
    fit(net, 4, Cosine(steps=12))
    before = net.flat_params.copy()
    with pytest.raises(ValueError, match=r"has 12 steps, but .* takes 15, 12 of them before this"):
        fit(net, 1, Cosine(steps=12))
    np.testing.assert_array_equal(net.flat_params, before)
    assert len(net.history["lr"]) == 4
    fit(net, 1, Cosine(steps=15))


def test_an_error_before_the_first_step_forgets_no_schedule():
    """The schedule of a fit that did nothing does not count as the last one."""
    net = linear()
    decay = Exponential(rate=0.5)
    fit(net, 1, decay)
    for bad in ([1.0], lambda k: -1.0):
        with pytest.raises(ValueError, match=r"has 1 steps|at least 0"):
            fit(net, 1, bad)
    assert fit(net, 1, decay)["lr"] == [0.1 * 0.5**5]


# -- plateaus ---------------------------------------------------------------------------------


def test_a_plateau_of_the_validation(engine):
    """The rates follow the history by the rule, on all engines."""
    schedule = ReduceOnPlateau(factor=0.5, patience=1, metric="val_loss", threshold=0.3)
    net = linear()
    history = fit(net, 12, schedule, SGD(0.02), validation_data=(X[:9], Y[:9] + 5))
    state, expected = None, [0.02]
    for loss in history["val_loss"]:
        state = schedule.observe(state, {"val_loss": loss})
        expected.append(0.02 * state.value)
    assert history["lr"] == expected[:-1]
    assert len(set(expected)) > 2
    assert net.training_state.progress.plateau == state


def test_a_plateau_sees_the_epochs_that_it_governs():
    """4 steps of warm-up are 1 epoch and a third: it sees the epochs from the second one on."""
    net = linear()
    never = ReduceOnPlateau(factor=0.5, patience=0, threshold=1e9)
    assert fit(net, 5, Warmup(never, 4))["lr"][1:] == [0.1, 0.1, 0.05, 0.025]


def test_a_metric_that_no_epoch_has():
    for metric in ("val_loss", "accuracy", "los"):
        net = Sequential([Dense(1)], n_inputs=4)
        before = net.flat_params.copy()
        with pytest.raises(ValueError, match=rf"follows '{metric}', but .* are 'loss'"):
            fit(net, schedule=ReduceOnPlateau(metric=metric))
        np.testing.assert_array_equal(net.flat_params, before)
        assert net.history is None


# -- errors -----------------------------------------------------------------------------------

TOO_SHORT = {
    "cosine": (Cosine(0.5, steps=11), "steps=11.* has 11 steps, .* takes 12"),
    "values": (Values([0.5] * 11), "has 11 steps, .* takes 12"),
    "values of epochs": ([0.5] * 4, r"has 4 steps, .* takes 12.*put it in PerEpoch\(...\)"),
    "epochs": (PerEpoch([0.5] * 3), "has 9 steps, .* takes 12.* An epoch has 3 steps"),
    "warm-up": (Warmup(Cosine(0.5, steps=7), 4), "has 11 steps, .* takes 12"),
    "in turn": (InTurn([(Cosine(0.5), 11)]), "has 11 steps, .* takes 12"),
    "nothing left": (Warmup(Cosine(0.5), 12), r"no step of the fit is left for Cosine\(0.5\)"),
    "nothing left in turn": (
        InTurn([(Linear(0.5), 13), (OneCycle(0.5), None)]), "no step of the fit"),
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_SHORT)
@pytest.mark.parametrize("where", ["schedule", "lr", "momentum", "weight_decay", "dropout"])
def test_a_schedule_shorter_than_the_training(where, name):
    schedule, message = TOO_SHORT[name]
    layers, arguments = [Dense(1)], {}
    if where == "schedule":
        arguments["schedule"] = schedule
    elif where == "dropout":
        layers.insert(0, Dropout(schedule))
    else:
        arguments["optimizer"] = SGD(**{where: schedule})
    net = Sequential(layers)
    with pytest.raises(ValueError, match=message) as caught:
        fit(net, **arguments)
    if "nothing" not in name:
        begin = {"schedule": "the schedule", "dropout": "the rate of layer 0"}.get(where, where)
        assert str(caught.value).startswith(f"{begin}, ")
    with pytest.raises(NotFittedError):
        net.predict(X)
    if where != "dropout":
        fit(net)


BAD_RATES = {
    "NaN": (np.nan, "finite, not nan"), "infinite": (np.inf, "finite, not inf"),
    "negative": (-0.1, "at least 0, not -0.1"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_RATES)
@pytest.mark.parametrize("where", ["schedule", "lr", "momentum", "weight_decay"])
def test_a_rate_that_is_none_ends_the_fit_before_its_epoch(where, name):
    value, message = BAD_RATES[name]

    class Bad(schedules.Schedule):
        def values(self, first_step, count):
            return np.where(np.arange(first_step, first_step + count) == 7, value, 0.1)

    arguments = {"schedule": Bad()} if where == "schedule" else {"optimizer": SGD(**{where: Bad()})}
    net, same = linear(), linear()
    with pytest.raises(ValueError, match=rf"at step 7 must be {message}") as caught:
        fit(net, **arguments)
    assert where in str(caught.value)
    assert len(net.history["loss"]) == 2
    fit(same, 2, **arguments)
    np.testing.assert_array_equal(net.flat_params, same.flat_params)


def test_a_momentum_of_one():
    with pytest.raises(ValueError, match=r"momentum, from .*, at step 3 must be below 1, not 1.0"):
        fit(linear(), optimizer=SGD(0.1, momentum=[0.5, 0.5, 0.5] + [1] * 9))
    with pytest.raises(ValueError, match=r"beta1, from .*, at step 3 must be below 1, not 1.0"):
        fit(linear(), optimizer=Adam(0.1, beta1=[0.5, 0.5, 0.5] + [1] * 9))


def test_a_product_beyond_the_numbers():
    with pytest.raises(ValueError, match=r"at step 4 is infinite: .* times 1e\+200"):
        fit(linear(), optimizer=SGD(1e200), schedule=[1e-200] * 4 + [1e200] * 8)


def test_a_schedule_of_another_shape():
    class Wrong(schedules.Schedule):
        def values(self, first_step, count):
            return np.ones(count + 1)

    for arguments in ({"schedule": Wrong()}, {"schedule": Warmup(Wrong(), 2)},
                      {"optimizer": SGD(Wrong())}):  # fmt: skip
        with pytest.raises(ValueError, match=r"Wrong.* gives \(\d+,\) values for \d+ steps"):
            fit(linear(), **arguments)


@pytest.mark.parametrize("given", [0.5, "cosine", Cosine, True])
def test_what_is_no_schedule(given):
    with pytest.raises(TypeError, match=r"schedule must be|schedule is made with"):
        fit(linear(), schedule=given)


def test_a_rate_of_0_moves_nothing(engine):
    net = linear()
    before = net.flat_params.copy()
    assert fit(net, schedule=[0] * 12)["lr"] == [0] * 4
    np.testing.assert_array_equal(net.flat_params, before)


def test_a_divergence_shows_the_rate_of_its_step(engine):
    """The rate that the message names is that of the step; the schedule goes on from the epoch."""
    net = linear()
    schedule = PerEpoch([1, 1e200, 1, 1])
    with pytest.raises(DivergedError, match=r"the learning rate 1e\+199 is probably too large"):
        fit(net, schedule=schedule)
    assert net.history["lr"] == [0.1]
    with pytest.raises(DivergedError, match=r"the learning rate 1e\+199 is probably"):
        fit(net, 1, schedule)  # still the second epoch
    with pytest.raises(DivergedError, match=r"the learning rate 1e\+300 is probably"):
        fit(net, optimizer=SGD(Linear(1e300, 1e300)))


# -- dropout and files ------------------------------------------------------------------------

RATES = [
    Linear(0.5, 0.1, 4), Linear(0.5, 0.1), Polynomial(0.5, 0.1, 9, 2), TimeDecay(0.5, decay=0.1),
    TimeDecay(0.5, decay=0.1, compound=True), StepDecay(0.5, factor=0.9, every=3),
    Exponential(0.5, rate=0.9), Cosine(0.5, 0.1), Cosine(0.5, steps=40), FlatCosine(0.5),
    CosLog4(0.5), WarmRestarts(0.5, T_0=3, T_mult=2), Cyclic(0.1, peak=0.5, up=2, down=3),
    Cyclic(0.1, peak=0.5, up=2, mode="exp_range", gamma=0.9), OneCycle(0.5, strategy="linear"),
    Values(np.linspace(0, 0.9, 40)), PerEpoch([0.1, 0.2, 0.3, 0.4]),
    PerEpoch(Warmup(Cosine(0.5), 2)), Warmup(PerEpoch(StepDecay(0.5, factor=0.5, every=1)), 5),
    Warmup(Linear(0.5, 0.1), 3, start_factor=0),
    InTurn([(Linear(0.5, 0.1), 4), (InTurn([(Cosine(0.5), 2), (Linear(0.1, 0), 2)]), 3),
            (CosLog4(0.3), None)]),
]  # fmt: skip


def test_every_schedule_that_makes_sense_is_among_them():
    used = {leaf.config()["schedule"] for rate in RATES for leaf in (rate, *rate.parts)}
    assert used == schedules.base.WRITABLE.keys() - {"ReduceOnPlateau"}


@pytest.mark.parametrize("rate", RATES, ids=repr)
def test_a_dropout_by_every_schedule(rate, tmp_path):
    """It drops with the rate of each step, and comes back from a file."""
    net = Sequential([Dense(6, "tanh"), Dropout(rate), Dense(1)], dtype="float64", seed=1)
    fit(net)
    net.save(tmp_path / "m")
    back = fastnn.load(tmp_path / "m")
    assert back.layers[1].rate == rate
    assert repr(back) == repr(net)
    np.testing.assert_array_equal(back.flat_params, net.flat_params)
    resolved = rate.resolved(schedules.base.Span(0, 12, BATCHES, 0))
    plain = Dropout(Values(resolved.values(0, 12)))
    same = Sequential([Dense(6, "tanh"), plain, Dense(1)], dtype="float64", seed=1)
    fit(same)
    np.testing.assert_array_equal(same.flat_params, net.flat_params)


def test_a_rate_that_lasts_a_fit_has_none_without():
    net = Sequential([Dense(4), Dropout(Linear(0.5, 0)), Dense(1)], n_inputs=4)
    for call in (net.loss_and_grad, net.trace):
        with pytest.raises(ValueError, match=r"lasts as long as the fit .* give it its steps"):
            call(X, Y, "mse")
    fit(net)
    net.predict(X)


@pytest.mark.parametrize("rate", [Linear(0.5, 0), PerEpoch([0.1] * 9), Values([0.1] * 9)], ids=repr)
def test_a_trace_of_predictions_needs_no_rate(rate):
    net = Sequential([Dense(4), Dropout(rate), Dense(1)], n_inputs=4)
    np.testing.assert_allclose(net.trace(X, step=100)["2.z"], net.logits(X), rtol=1e-5)
