"""Fits whose batches are changed by a function of the user's."""

import threading
import warnings

import numpy as np
import pytest
import scipy.sparse
from augmentation_cases import W, X, assert_same, fitted, identity, network, noise, rich, y

import fastnn
from fastnn import ahead, augmented
from fastnn.augmentation import Images, Mixup, Noise, Shift

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

OPTIONS = {
    "plain": {},
    "in order": {"shuffle": False},
    "orders": {"shuffle": lambda epoch, n: np.roll(np.arange(n), epoch)},
    "rows": {"rows": np.arange(0, 150, 2)},
    "weights": {"sample_weight": W, "class_weight": "balanced"},
    "split": {"validation_split": 0.2, "metrics": ["accuracy"]},
    "accumulate": {"accumulate": 3},
    "one step": {"batch_size": None},
    "single rows": {"batch_size": 1, "steps": 70},
    "steps": {"epochs": None, "steps": 13},
    "freeze": {"freeze": [0]},
    "ema": {"ema": 0.9},
    "swa": {"swa": 1},
    "schedule": {"schedule": fastnn.schedules.Cosine()},
    "stopping": {"early_stopping": 1, "validation_data": (X[:50], y[:50])},
    "sum": {"loss": "sse"},
    "rates": {"optimizer": fastnn.SGD(fastnn.schedules.StepDecay(0.1, every=1, factor=0.5))},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("make", [network, rich])
def test_the_identity_gives_the_bits_of_no_augmentation(engine, make, name):
    options = OPTIONS[name]
    assert_same(fitted(make(), **options), fitted(make(), identity, **options))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.float16, np.float64, "sparse", "mapped"])
def test_the_batch_is_that_which_the_engine_reads(engine, dtype, kind, tmp_path):
    rows = np.abs(X * 20)
    if kind == "sparse":
        rows = scipy.sparse.csr_array(rows * (rows > 15))
    elif kind == "mapped":
        file = np.memmap(tmp_path / "rows", np.float32, "w+", shape=rows.shape)
        file[:] = rows
        rows = file
    else:
        rows = rows.astype(kind)
    before = rows.copy()
    nets = [network(dtype=dtype, input_scale=1 / 51) for _ in range(2)]
    seen = set()

    def spoil(batch, rng):
        seen.add((type(batch), batch.dtype, batch.flags.c_contiguous, batch.flags.writeable))
        kept = batch.copy()
        batch[:] = np.nan
        return kept

    for shuffle in (False, True):
        for net, augment in zip(nets, (None, spoil), strict=True):
            fitted(net, augment, (rows, y), shuffle=shuffle)
        assert_same(*nets)
    assert seen == {(np.ndarray, np.dtype(dtype), True, True)}
    assert (before != rows).sum() == 0


def test_the_numbers_are_those_of_seed_epoch_and_batch(engine):
    drawn = []

    def draw(batch, rng):
        drawn.append(rng.random())
        return batch

    net = fitted(network(), draw, epochs=2)
    assert len(set(drawn)) == len(drawn) == 20
    first, drawn[:] = drawn.copy(), []
    again = network()
    for _ in range(2):
        again.partial_fit(X, y, batch_size=16, augment=draw)
    assert drawn == first
    assert np.array_equal(net.flat_params, again.flat_params)
    drawn.clear()
    fitted(network(seed=4), draw, epochs=2)
    assert not set(drawn) & set(first)
    bits = np.random.Philox(key=[4, 4], counter=[0, 0, 1, 0])
    assert drawn[1] == np.random.Generator(bits).random()


def test_validation_rows_are_never_augmented():
    seen = []

    def look(batch, rng):
        seen.append(batch.copy())
        return batch

    net = fitted(network(), look, validation_split=0.2, shuffle=False, epochs=1)
    assert sum(map(len, seen)) == 120
    assert net.history.n_rows == 120


def test_batches_are_seen_after_the_preprocessing_layers():
    seen = []

    def look(batch, rng):
        seen.append(batch.copy())
        return batch

    net = network(fastnn.Standardize(), fastnn.Dense(3))
    fitted(net, look, shuffle=False, epochs=1)
    net.fit([(X, y)], epochs=1, augment=look, progress=False)
    expected = (X - X.mean(axis=0)) / X.std(axis=0)
    for rows in (np.concatenate(seen[:-1]), seen[-1]):
        np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_several_are_applied_in_order(compiled):
    both = fitted(network(), [noise, lambda b, rng: b * np.float32(2)])
    assert_same(both, fitted(network(), lambda b, rng: noise(b, rng) * np.float32(2)))
    assert_same(fitted(network(), []), fitted(network()))


@pytest.fixture(params=["alone", "ahead"])
def way(request, monkeypatch):
    """Every chunk is made in the thread of the fit, or ahead in another one."""
    is_ahead = request.param == "ahead"
    monkeypatch.setattr(ahead.Choice, "next", lambda self, n: setattr(self, "is_ahead", is_ahead))
    return request.param


EFFECTS = Images((3, 4), shift=1, rotate=9, scale=0.1, flip=True, crop=1, elastic=(5, 1), cutout=1,
                 noise=0.1)  # fmt: skip


def test_rows_are_changed_for_several_batches_at_once(engine, way, monkeypatch):
    """With the bits of one batch after another, which functions around them see."""
    steps = [EFFECTS, Noise(0.1), Shift((2, 6), 1)]
    functions = [lambda batch, rng, step=step: step(batch, rng) for step in steps]
    one_by_one = fitted(rich(), functions)
    monkeypatch.setattr(augmented.Augmenter, "_augment", None)
    sizes = []
    apply = Images.apply
    monkeypatch.setattr(
        Images, "apply", lambda self, X, drawn: (sizes.append(len(X)), apply(self, X, drawn))
    )
    monkeypatch.setattr(ahead.Chunks, "_grow", lambda self: setattr(self, "_size", 3))
    assert_same(fitted(rich(), steps), one_by_one)
    assert set(sizes) == {48, 6}


def test_a_subclass_with_a_call_of_its_own_is_called_for_each_batch():
    class Halved(Noise):
        def __call__(self, batch, rng):
            assert len(batch) in (16, 6)
            return super().__call__(batch, rng) / 2

    half = fitted(network(), lambda b, rng: Noise(0.1)(b, rng) / 2)
    assert_same(fitted(network(), Halved(0.1)), half)


def test_a_batch_that_is_not_finite_is_found_among_several(way):
    with pytest.raises(ValueError, match=r"Noise\(std=3e\+38\), in batch 0 of epoch 0"):
        fitted(network(), [Noise(0.1), Noise(3e38)])


def test_a_subclass_that_fails_is_named_with_its_batch(way):
    class Failing(Noise):
        def draw(self, shape, dtype, rng):
            if shape[0] == 6:
                raise RuntimeError("the last batch of the epoch")
            return super().draw(shape, dtype, rng)

    net = network()
    with pytest.raises(RuntimeError, match="the last batch") as caught:
        fitted(net, Failing(0.1))
    assert "in batch 9 of epoch 0" in caught.value.__notes__[0]
    before = fitted(network(), Noise(0.1), epochs=None, steps=9)
    assert np.array_equal(net.flat_params, before.flat_params)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_batches_of_an_iterable_are_augmented(engine, name):
    parts = [(X[i : i + 16], y[i : i + 16]) for i in range(0, 150, 16)]
    kept = X.copy()
    net = network()
    net.fit(parts, epochs=3, augment=noise, optimizer=name, progress=False)
    assert_same(net, fitted(network(), noise, shuffle=False, optimizer=name))
    assert np.array_equal(X, kept)


def test_bits_depend_neither_on_threads_nor_on_chunks(engine, way, n_threads, monkeypatch):
    expected = fitted(rich(), noise)
    for threads in (1, 2, 3):
        n_threads(threads)
        for batches in (1, 3, 64):
            monkeypatch.setattr(ahead, "_CHUNK_BATCHES", batches)
            assert_same(fitted(rich(), noise), expected)


def test_a_thread_ahead_works_and_has_our_engine(way):
    seen = set()

    def look(batch, rng):
        seen.add((threading.current_thread().name, fastnn.engines.choice()[0]))
        return batch

    with fastnn.use_engine("numpy"):
        fitted(network(), look)
    is_other = way == "ahead"
    (thread, engine), = seen  # fmt: skip
    assert engine == "numpy"
    assert thread.startswith("fastnn-augment") == is_other


def after_so_many(n, action):
    """An augmentation that does something to batch n of a fit of 10 batches an epoch."""
    calls = []

    def augment(batch, rng):
        calls.append(None)
        return action(batch) if len(calls) == n + 1 else noise(batch, rng)

    return augment


def raises(batch):
    raise KeyError("of the user")


def reshaped(array):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # since NumPy 2.5
        array.shape = (-1, 1, array.shape[1])
    return array


BAD = {
    "None": (TypeError, lambda b: None, "returned None .*let it return the batch"),
    "a list": (TypeError, lambda b: b.tolist(), "type list"),
    "a shape": (fastnn.errors.ShapeError, lambda b: b[:, 1:], r"\(16, 11\)"),
    "a shape in place": (fastnn.errors.ShapeError, reshaped, r"\(16, 1, 12\)"),
    "a dtype": (TypeError, lambda b: b.astype(np.float64), "float64"),
    "NaN": (ValueError, lambda b: b * np.nan, "NaN"),
    "an error": (KeyError, raises, "of the user"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_fails_says_where_and_keeps_the_last_complete_step(engine, way, name):
    kind, action, message = BAD[name]
    net = network()
    with pytest.raises(kind, match=message) as caught:
        fitted(net, after_so_many(13, action))
    text = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert "batch 3 of epoch 1 (both from 0)" in text
    other = fitted(network(), noise, epochs=None, steps=13)
    assert np.array_equal(net.flat_params, other.flat_params)
    assert net.training_state.step == 13


@pytest.mark.parametrize("name", BAD)
def test_a_first_batch_that_fails_leaves_the_network_as_it_was(way, name):
    net = network()
    before = dict(net.__dict__)
    with pytest.raises(BAD[name][0]):
        fitted(net, after_so_many(0, BAD[name][1]))
    assert {k: v for k, v in net.__dict__.items() if k in before and k[0] != "_"} == {
        k: v for k, v in before.items() if k[0] != "_"
    }
    assert net.history is None


def test_ctrl_c_in_the_users_code(way, tmp_path):
    import signal

    def interrupt(batch):
        signal.raise_signal(signal.SIGINT)
        for _ in range(1000):
            threading.Event().wait(0.001)
        return batch

    net, path = network(), tmp_path / "fit"
    with pytest.raises(KeyboardInterrupt):
        fitted(net, after_so_many(13, interrupt), checkpoint=path)
    assert net.training_state.step <= 13
    resumed = fitted(network(), after_so_many(99, interrupt), checkpoint=path, resume=True)
    assert_same(resumed, fitted(network(), noise))


@pytest.mark.parametrize("every", [1, "0.000001s"])
def test_a_fit_goes_on_from_its_checkpoint(compiled, way, every, tmp_path):
    expected = fitted(rich(), noise)
    options = {"checkpoint": tmp_path / "fit", "checkpoint_every": every}
    with pytest.raises(KeyError):
        fitted(rich(), after_so_many(17, raises), **options)
    net = fitted(rich(), noise, **options, resume=False)
    assert_same(net, expected)

    class Stop(fastnn.Callback):
        def on_steps(self, training):
            if training.step == 17:
                raise KeyboardInterrupt

    path = tmp_path / "other"
    with pytest.raises(KeyboardInterrupt):
        fitted(rich(), noise, checkpoint=path, checkpoint_every=every, callbacks=Stop())
    resumed = rich()
    fitted(resumed, noise, checkpoint=path, checkpoint_every=every, resume=True)
    assert np.array_equal(resumed.flat_params, expected.flat_params)
    with pytest.raises(fastnn.errors.CheckpointError, match="augment"):
        fitted(rich(), identity, checkpoint=path, resume=True, epochs=4)


def test_the_form_of_what_one_was_given_is_its_own():
    class Locking(Mixup):
        def augment_pairs(self, X, y, rng):
            mixed = super().augment_pairs(X, y, rng)
            X.flags.writeable = False
            reshaped(y)
            return mixed

    both = fitted(network(), [Locking(), Mixup(), noise])
    assert_same(both, fitted(network(), [Mixup(), Mixup(), noise]))


@pytest.mark.parametrize("given", [5, "noise", [noise, None], Mixup])
def test_what_is_no_augmentation_is_refused(given):
    net = network()
    with pytest.raises(TypeError, match="augment must be"):
        fitted(net, given)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="augment"):
        fitted(network(), noise, optimizer="lbfgs", batch_size=None)
    with pytest.raises(fastnn.errors.ShapeError, match="784"):
        fitted(network(), fastnn.augmentation.Images((28, 28)))
    with pytest.raises(ValueError, match="hinge"):
        fitted(network(fastnn.Dense(1)), Mixup(), (X, y > 1), loss="hinge")


def test_codes_of_an_embedding_must_stay_codes():
    net = fastnn.Sequential([fastnn.Embedding({0: (3, 2)}), fastnn.Dense(3)])
    rows = np.column_stack([y, X])
    with pytest.raises(ValueError, match=r"batch 0 of epoch 0 .*column 0"):
        net.fit(rows, y, augment=lambda b, rng: b + np.float32(0.5), progress=False)


def test_many_networks(engine):
    specs = [{"seed": seed, "augment": noise} for seed in range(3)]
    nets = fastnn.train_many(
        specs, X, y, layers=[fastnn.Dense(8, "tanh"), fastnn.Dense(3)], epochs=3, batch_size=16,
        progress=False,
    )  # fmt: skip
    for seed, net in enumerate(nets):
        assert_same(net, fitted(network(seed=seed), noise))
