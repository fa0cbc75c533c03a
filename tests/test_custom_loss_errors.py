"""A user's loss that fails: exceptions, signals, wrong results, wrong functions."""

import gc
import signal
import traceback
import weakref

import numpy as np
import pytest
from conftest import DTYPES, only
from users_losses import (
    X,
    Y,
    fit,
    in_parts,
    needs_numba,
    network,
    numba,
    squares,
    squares_of_a_row,
)

from fastnn import SGD, Dense, Sequential, errors, losses
from fastnn.losses import Custom

# -- exceptions -----------------------------------------------------------------------------------


class Oops(Exception):
    """What the functions of these tests raise."""


def raising(error, calls):
    """A loss that raises an error in its call number `calls`, from 0, and a list of the calls."""
    made = []

    def fails(y, a):
        made.append(len(a))
        if len(made) == calls + 1:
            raise error
        return squares(y, a)

    return Custom(fails), made


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("error", [Oops("a reason"), KeyboardInterrupt(), SystemExit(3)])
def test_an_exception_arrives_with_its_traceback(pool, error, n_threads, monkeypatch):
    if n_threads > 1:
        in_parts(monkeypatch, 2, n_threads)
    check_exception(error)


def test_an_exception_arrives_from_the_reference():
    with only("numpy"):
        check_exception(Oops("a reason"))


def check_exception(error):
    loss, made = raising(error, 5)
    net, arguments = network(), {"shuffle": False, "batch_size": 6}
    with pytest.raises(type(error)) as caught:
        fit(loss, net, **arguments)
    assert caught.value is error
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-1] == "fails"
    assert "fit" in frames
    assert made == [6] * 6
    # The parameters are those of the last complete step, and training goes on from there.
    expected = fit(Custom(squares), y=Y[:30], epochs=1, **arguments)
    assert net.flat_params.tobytes() == expected.flat_params.tobytes()
    assert net.training_state.step == 5
    assert net.training_state.epoch == 0
    assert net.history == {}
    for after in (net, expected):
        fit(loss, after, **arguments)
    assert net.flat_params.tobytes() == expected.flat_params.tobytes()


def test_an_exception_in_the_first_step_leaves_nothing_of_the_fit(engine):
    net = Sequential([Dense(3)])
    with pytest.raises(Oops):
        fit(raising(Oops(), 0)[0], net)
    assert net.training_state is None
    with pytest.raises(errors.NotFittedError):
        net.predict(X)
    net = fit("mse", Sequential([Dense(3)]))
    before, state = net.flat_params.copy(), net.training_state
    with pytest.raises(Oops):
        fit(raising(Oops(), 0)[0], net)
    np.testing.assert_array_equal(net.flat_params, before)
    assert net.training_state is state
    assert net.history.loss_name == "mse"


def test_exceptions_of_other_calls(engine):
    net = fit(Custom(squares))
    with pytest.raises(Oops):
        net.evaluate(X, Y, loss=raising(Oops(), 0)[0])
    with pytest.raises(Oops):
        net.loss_and_grad(X, Y, raising(Oops(), 0)[0])
    loss, _ = raising(Oops(), 4)
    with pytest.raises(Oops):  # the training rows take four calls
        fit(loss, net, validation_data=(X, Y))
    assert net.training_state.epoch == 3
    assert net.evaluate(X, Y)["loss"] > 0


def test_nothing_is_kept_after_an_exception(engine):
    """The error holds the frames of the call, and so the rows."""

    def fails(y, a):
        raise Oops

    net = fit(Custom(squares))
    with pytest.raises(Oops) as caught:
        fit(Custom(fails), net)
    gone = weakref.ref(caught.value)
    del caught
    gc.collect()
    assert gone() is None


def test_ctrl_c_during_a_call_stops_the_fit_after_it(engine):
    made = []

    def interrupts(y, a):
        made.append(1)
        if len(made) == 6:
            signal.raise_signal(signal.SIGINT)
            made.append("went on")
        return squares(y, a)

    net = network()
    with pytest.raises(KeyboardInterrupt):
        fit(Custom(interrupts), net, epochs=10_000)
    assert "went on" in made
    assert len(made) < 10_000
    assert net.training_state.step >= 6


class Alarm(Exception):
    """What the handler of a signal raises."""


@pytest.fixture
def without_callbacks_of_the_collector():
    """Hypothesis has one in Python; what a signal's handler raises in it, Python discards."""
    found = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = found


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
def test_what_a_handler_raises_arrives(engine, without_callbacks_of_the_collector):
    """Python runs handlers where a function begins, also where a kernel has called it."""

    def ring(*_):
        raise Alarm

    fit(Custom(squares), batch_size=60)  # imports and loading discard what is raised in them
    gc.collect()
    before = signal.signal(signal.SIGALRM, ring)
    try:
        for n in range(20):
            net = network()
            signal.setitimer(signal.ITIMER_REAL, 0.005 + 0.0007 * n)
            with pytest.raises(Alarm):
                fit(Custom(squares), net, epochs=20_000, batch_size=60)
            if net.training_state is not None:
                assert np.isfinite(net.flat_params).all()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# -- wrong functions ------------------------------------------------------------------------------

OF_ROWS = {
    "nothing": ("two arrays, .* not <class 'NoneType'>", lambda y, a: None),
    "one array": ("two arrays, .* not <class 'numpy.ndarray'>", lambda y, a: squares(y, a)[1]),
    "three": ("two arrays, .* not 3 values", lambda y, a: (*squares(y, a), 0)),
    "a sum": (r"losses of shape \(\) instead of \(16,\): a batch of 16 rows has one loss for each",
              lambda y, a: (squares(y, a)[0].sum(), a)),
    "a column": (r"losses of shape \(16, 1\)", lambda y, a: (squares(y, a)[0][:, None], a)),
    "each output": (r"losses of shape \(16, 3\)", lambda y, a: (a, a)),
    "derivative of rows": (r"a derivative of shape \(16,\) instead of \(16, 3\): .* each output",
                           lambda y, a: (a[:, 0], a[:, 0])),
    "transposed": (r"a derivative of shape \(3, 16\)", lambda y, a: (a[:, 0], a.T)),
    "text": ("losses of <U1, not of numbers", lambda y, a: (np.full(16, "a"), a)),
    "complex": ("a derivative of complex64, not of numbers", lambda y, a: (a[:, 0], a * 1j)),
    "booleans": ("losses of bool", lambda y, a: (a[:, 0] > 0, a)),
    "ragged": ("losses that are no array", lambda y, a: ([1, [2]], a)),
    "NaN loss": ("the loss nan and the derivative .* for row 3 of a batch, whose targets .* finite",
                 lambda y, a: (np.where(np.arange(16) == 3, np.nan, a[:, 0]), a)),
    "infinite derivative": ("the derivative .*inf.* for row 0", lambda y, a: (a[:, 0], a + np.inf)),
    "too large": ("the derivative .*inf", lambda y, a: (a[:, 0], a.astype(float) + 1e300)),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_ROWS)
def test_wrong_results_have_errors(engine, name):
    message, function = OF_ROWS[name]
    net = network()
    before = net.flat_params.copy()
    with pytest.raises(ValueError, match=f"the loss function wrong (must|return).*{message}"):
        fit(Custom(function, "wrong"), net)
    np.testing.assert_array_equal(net.flat_params, before)


def test_a_network_that_diverges_is_not_the_functions_fault(engine):
    net = Sequential([Dense(9, "relu"), Dense(3)])
    with pytest.raises(errors.DivergedError, match="or the loss function squares gave it"):
        fit(Custom(squares), net, optimizer=SGD(1e30), epochs=20)


@needs_numba
@pytest.mark.parametrize("n_threads", [1, 2])
def test_nan_of_a_numba_function_is_an_error_of_its_own(engine, n_threads, monkeypatch):
    in_parts(monkeypatch, n_threads, n_threads)

    def bad(y, a, da):
        da[:] = a
        return np.nan if y[0] == 5 else 0.0

    targets = np.zeros((60, 3))
    targets[37, 0] = 5
    loss, message = Custom(numba.njit(bad)), "bad returned the loss nan .* for row"
    with pytest.raises(ValueError, match=message):
        fit(loss, y=targets, shuffle=False, batch_size=10)
    with pytest.raises(ValueError, match=message):
        network().loss_and_grad(X, targets, loss)


def test_another_function_has_targets_of_its_own(engine):
    net = Sequential([Dense(1)])
    fit(Custom(squares), net, y=np.where(np.arange(60) % 2, "a", "b"))
    fit(Custom(lambda y, a: squares(y, a)), net, y=np.arange(60) * 1.5)
    assert net.predict(X).dtype == "f4"


@needs_numba
@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_exception_of_a_numba_function_arrives(engine, n_threads, monkeypatch, capfd):
    in_parts(monkeypatch, n_threads, n_threads)

    def bad(y, a, da):
        da[:] = a - y
        if y[0] == 5:
            raise ZeroDivisionError("this target is 5")
        return 0.5 * ((a - y) ** 2).sum()

    targets = np.zeros((60, 3))
    targets[37, 0] = 5
    loss, net = Custom(numba.njit(bad)), network()
    with pytest.raises(ZeroDivisionError, match="this target is 5"):
        fit(loss, net, y=targets, shuffle=False, batch_size=10)
    assert net.training_state.step == 3
    expected = fit(loss, y=targets[:30], shuffle=False, batch_size=10, epochs=1)
    assert net.flat_params.tobytes() == expected.flat_params.tobytes()
    with pytest.raises(ZeroDivisionError, match="this target is 5"):
        net.evaluate(X, targets)
    assert "ignored" not in capfd.readouterr().err


@needs_numba
def test_wrong_numba_functions_have_errors(compiled):
    def no_number(y, a, da):
        da[:] = a

    for dtype in DTYPES:
        message = rf"Numba cannot compile the loss function no_number.* vectors of {dtype}"
        net = network(dtype)
        with pytest.raises(TypeError, match=message):
            fit(Custom(numba.njit(no_number)), net)
        assert net.history is None
    signature = "float64(float64[:], float64[:], float64[:])"
    loss = Custom(numba.njit(signature)(squares_of_a_row))
    fit(loss, network("float64"))
    with pytest.raises(TypeError, match="for vectors of float32"):
        fit(loss)


MAKE = {
    "a name": (TypeError, "Custom takes a function.* not 'mse'", lambda: Custom("mse")),
    "a loss": (TypeError, "Custom takes a function.* not mse", lambda: Custom(losses.mse)),
    "a class": (TypeError, "Custom takes a function", lambda: Custom(Oops)),
    "one argument": (TypeError, r"of arrays takes \(y, a\), but <lambda> takes \(y\)",
                     lambda: Custom(lambda y: y)),
    "three arguments": (TypeError, r"takes \(y, a\), but squares_of_a_row takes \(y, a, da\)",
                        lambda: Custom(squares_of_a_row)),
    "type of a name": (TypeError, "must be text, not 3", lambda: Custom(squares, 3)),
    "empty name": (ValueError, "1 to 100 printable", lambda: Custom(squares, "")),
    "long name": (ValueError, "1 to 100 printable", lambda: Custom(squares, "a" * 101)),
    "two lines": (ValueError, "1 to 100 printable", lambda: Custom(squares, "a\nb")),
    "bare function": (TypeError, r"write losses.Custom\(squares\)",
                      lambda: fit(squares)),
    "unknown name": (ValueError, "a loss of your own is an object", lambda: fit("custom")),
    "attribute": (AttributeError, "no attribute 'Costum'", lambda: losses.Costum),
}  # fmt: skip


@pytest.mark.parametrize("name", MAKE)
def test_mistakes_have_errors(name):
    error, message, call = MAKE[name]
    with only("numpy"), pytest.raises(error, match=message):
        call()


@needs_numba
def test_a_numba_function_of_arrays_has_an_error():
    with pytest.raises(TypeError, match=r"of Numba takes \(y, a, da\), but squares takes"):
        Custom(numba.njit(squares))
