"""Ctrl-C and other signals during a fit: each one arrives, and no handler of ours stays behind."""

import asyncio
import gc
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from fastnn import Dense, Sequential, interrupts

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="needs POSIX signals and timers"
)

#: Seconds within which a fit or a prediction answers.
ANSWER = 0.5

#: Epochs of a fit that takes seconds.
MANY = 50_000

#: Signals in each loop of short fits.
N = 100

#: Waits for a line with a delay in seconds and a signal, sends it to the parent, says when.
_SENDER = """
import os, sys, time
for line in sys.stdin:
    delay, number = line.split()
    end = time.monotonic() + float(delay)
    time.sleep(max(0.0, float(delay) - 0.001))
    while time.monotonic() < end:
        pass
    print(time.monotonic(), flush=True)
    os.kill(os.getppid(), int(number))
"""


class Alarm(Exception):
    """What the handlers of these tests raise."""


def ring(*_):
    raise Alarm


class Sender:
    """Another process, which sends this one signals."""

    def __init__(self, process):
        self._process = process

    def __call__(self, delay, signum=signal.SIGINT):
        """Have a signal sent after so many seconds."""
        self._process.stdin.write(f"{delay!r} {int(signum)}\n".encode())

    def seconds_since(self):
        """Seconds since the last signal, whose arrival has been noticed."""
        return time.monotonic() - float(self._process.stdout.readline())


@pytest.fixture(autouse=True)
def without_callbacks_of_the_collector():
    """Hypothesis has one in Python; what a signal's handler raises in it, Python discards.

    So it does in the finalizers of what earlier tests have left, such as their processes.
    """
    gc.collect()
    found = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = found


@pytest.fixture
def send():
    command = [sys.executable, "-S", "-E", "-c", _SENDER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        yield Sender(process)
        process.kill()  # a signal that a failed test did not wait for


@pytest.fixture(autouse=True)
def _handlers():
    """Every test begins with Python's handler of SIGINT, and must leave it in force."""
    saved = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)
    }
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    found = signal.getsignal(signal.SIGINT)
    for number, handler in saved.items():
        signal.signal(number, handler)
    assert found is signal.default_int_handler
    assert not interrupts._pending


def handler():
    return signal.getsignal(signal.SIGINT)


# -- the section alone ------------------------------------------------------------------------


@interrupts.deferred
def section(body=lambda: None):
    return body()


def interrupt():
    signal.raise_signal(signal.SIGINT)


def test_a_section_notes_and_raises_at_its_end():
    seen = []

    def body():
        assert not interrupts.came()
        interrupt()
        seen.append(interrupts.came())

    with pytest.raises(KeyboardInterrupt):
        section(body)
    assert seen == [True]
    assert section(lambda: 3) == 3


def test_check_raises_once():
    def body():
        interrupts.check()
        interrupt()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        interrupts.check()
        return "went on"

    assert section(body) == "went on"


def test_an_interrupt_outlives_another_exception():
    def body():
        interrupt()
        raise ValueError

    with pytest.raises(KeyboardInterrupt) as caught:
        section(body)
    assert isinstance(caught.value.__context__, ValueError)


def test_sections_may_be_nested():
    def outer():
        with pytest.raises(KeyboardInterrupt):
            section(interrupt)
        assert not interrupts.came()
        assert handler() is interrupts._note
        interrupt()
        with pytest.raises(KeyboardInterrupt):
            section(interrupts.check)
        interrupt()

    with pytest.raises(KeyboardInterrupt):
        section(outer)


def test_a_handler_of_the_user_stays_in_force():
    came = []
    signal.signal(signal.SIGINT, lambda *_: came.append(1))
    section(interrupt)
    assert came == [1]
    signal.signal(signal.SIGINT, ring)
    with pytest.raises(Alarm):
        section(interrupt)
    assert handler() is ring
    signal.signal(signal.SIGINT, signal.default_int_handler)
    section(lambda: signal.signal(signal.SIGINT, ring))
    assert handler() is ring
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_section_in_another_thread_changes_nothing():
    inside, leave, seen = threading.Event(), threading.Event(), []

    def body():
        seen.append(handler())
        inside.set()
        leave.wait(10)
        interrupts.check()
        seen.append("end")

    thread = threading.Thread(target=section, args=(body,))
    thread.start()
    inside.wait(10)
    with pytest.raises(KeyboardInterrupt):
        interrupt()

    def main():
        interrupt()
        leave.set()
        thread.join(10)
        assert interrupts.came()

    with pytest.raises(KeyboardInterrupt):
        section(main)
    assert seen == [signal.default_int_handler, "end"]


def test_our_handler_outside_of_a_section_is_pythons():
    signal.signal(signal.SIGINT, interrupts._note)
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert handler() is signal.default_int_handler
    signal.signal(signal.SIGINT, interrupts._note)
    section()
    assert handler() is signal.default_int_handler


@pytest.mark.parametrize("interrupted", [False, True])
def test_whichever_two_steps_fail_the_handler_is_restored(monkeypatch, interrupted):
    """A handler may raise before and after each call of a section; here it does so twice."""
    step, failing = 0, ()

    def may_fail():
        nonlocal step
        step += 1
        if step in failing:
            raise Alarm

    def around(function):
        def wrapped(*args):
            may_fail()
            result = function(*args)
            may_fail()
            return result

        return wrapped

    def body():
        may_fail()
        if interrupted:
            interrupt()
        may_fail()

    for name in ("signal", "getsignal", "_restore", "_handler_to_restore"):
        monkeypatch.setattr(interrupts, name, around(getattr(interrupts, name)))
    failed = 0
    steps = range(1, 30)
    for failing in [(first, second) for first in steps for second in steps if first <= second]:
        step, came = 0, None
        try:
            section(body)
        except (Alarm, KeyboardInterrupt) as raised:
            came = raised
        failed += isinstance(came, Alarm)
        assert handler() is signal.default_int_handler, failing
        assert not interrupts._pending, failing
        assert came is not None or (step < failing[0] and not interrupted), failing
    assert interrupted or failed > 200


def test_signals_that_come_together_leave_the_handler_restored():
    together = [signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2]
    for number in together:
        signal.signal(number, ring)

    def body():
        signal.pthread_sigmask(signal.SIG_BLOCK, together)
        for number in [*together, signal.SIGINT]:
            signal.raise_signal(number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, together)

    with pytest.raises(KeyboardInterrupt) as caught:
        section(body)
    chain, error = [], caught.value
    while error is not None:
        chain.append(type(error))
        error = error.__context__
    assert chain == [KeyboardInterrupt, Alarm, Alarm, Alarm]


@pytest.mark.parametrize("nested", [False, True])
def test_alarms_at_random_moments(nested):
    """Thousands of them around the beginning and the end of sections."""
    signal.signal(signal.SIGALRM, ring)
    body = section if nested else (lambda: None)
    delays = random.Random(0)
    for count in range(4000):
        delay = delays.uniform(1e-6, 60e-6)
        with pytest.raises(Alarm):
            _ring_after(delay, lambda: section(body))
        assert handler() is signal.default_int_handler, count


def _ring_after(delay, work):
    signal.setitimer(signal.ITIMER_REAL, delay)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        work()


def test_interrupts_at_random_moments(send):
    assert arrivals(send, section, 1000, signal.SIGINT, KeyboardInterrupt, 2e-4) == 1000


def arrivals(send, work, n, signum, error, longest):
    """How many of n signals end a loop of `work`; the first one that does not ends the count."""
    delays = random.Random(0)
    before = handler()
    for count in range(n):
        try:
            send(delays.uniform(0, longest), signum)
            end = time.monotonic() + 2
            while time.monotonic() < end:
                work()
        except error:
            send.seconds_since()
            assert handler() is before
        else:
            return count
    return n


# -- fits and predictions ---------------------------------------------------------------------

_X = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
_y = np.arange(64) % 5


def small():
    return Sequential([Dense(8, "tanh"), Dense(5)])


def fit(net, epochs=2):
    net.fit(_X, _y, epochs=epochs, progress=False)
    return net


@pytest.fixture(params=[False, True], ids=["same_net", "new_nets"])
def short_fit(request, engine):
    """A short fit that can be repeated, whose kernels are compiled."""
    net = fit(small())
    return (lambda: fit(small(), 1)) if request.param else (lambda: fit(net))


def test_every_ctrl_c_ends_a_loop_of_short_fits(short_fit, send):
    assert arrivals(send, short_fit, N, signal.SIGINT, KeyboardInterrupt, 3e-3) == N
    assert np.isfinite(short_fit().flat_params).all()


def test_every_alarm_ends_a_loop_of_short_fits(short_fit, send):
    signal.signal(signal.SIGALRM, ring)
    assert arrivals(send, short_fit, N, signal.SIGALRM, Alarm, 3e-3) == N
    assert np.isfinite(short_fit().flat_params).all()


def assert_stopped_between_steps(net, twin, step):
    """Of a net with one step in each epoch, which `step` takes; its twin is as it began."""
    epochs = len(net.history.get("loss", ()))
    assert all(len(values) == epochs for values in net.history.values())
    if epochs:
        step(twin, epochs)
    if not np.array_equal(net.flat_params, twin.flat_params):
        step(twin, 1)  # it was stopped after the step and before the end of the epoch
    np.testing.assert_array_equal(net.flat_params, twin.flat_params)


def test_ctrl_c_stops_between_two_steps(engine, send):
    def step(net, epochs):
        net.fit(_X, _y, epochs=epochs, batch_size=None, shuffle=False, progress=False)

    net, twin = small(), small()
    step(net, 1)
    step(twin, 1)
    send(0.05)
    with pytest.raises(KeyboardInterrupt):
        step(net, MANY)
    assert send.seconds_since() < ANSWER
    assert len(net.history["loss"]) > 1
    assert_stopped_between_steps(net, twin, step)
    step(net, 1)


def test_ctrl_c_under_asyncio_run(engine, send):
    net = fit(small(), 1)
    during, within = [], []

    async def main():
        during.append(handler())
        send(0.05)
        try:
            fit(net, MANY)
        except KeyboardInterrupt:
            within.append(send.seconds_since())
            during.append(handler())
            raise

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert within
    assert within[0] < ANSWER
    assert during[0] is during[1] is not signal.default_int_handler


def test_a_handler_of_the_user_decides_about_a_fit(engine, send):
    net, came = fit(small(), 1), []
    signal.signal(signal.SIGINT, lambda *_: came.append(1))
    send(0.0)
    while not came:
        fit(net)
    send.seconds_since()
    signal.signal(signal.SIGINT, ring)
    send(0.02)
    with pytest.raises(Alarm):
        fit(net, MANY)
    assert handler() is ring
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_fits_in_another_thread_leave_ctrl_c_to_the_main_thread(engine, send):
    net, handlers, fits, stop = fit(small(), 1), set(), [], threading.Event()

    def work():
        while not stop.is_set():
            fits.append(fit(net))
            handlers.add(handler())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        send(0.05)
        with pytest.raises(KeyboardInterrupt):
            stop.wait(5)
        before = len(fits)
        while thread.is_alive() and len(fits) < before + 3:
            time.sleep(0.001)
    finally:
        stop.set()
        thread.join()
    assert len(fits) >= before + 3
    assert handlers == {signal.default_int_handler}


def test_a_prediction_of_many_rows_answers(engine, send):
    X = np.zeros((1 << 16, 64), np.float32)
    net = Sequential([Dense(2048, "tanh"), Dense(2048, "tanh"), Dense(5)])
    net.fit(X[:32], np.arange(32) % 5, epochs=1, progress=False)
    net.predict(X[:2048])

    def predict():
        while True:
            net.predict(X)

    send(0.2)
    with pytest.raises(KeyboardInterrupt):
        predict()
    assert send.seconds_since() < ANSWER


def test_one_huge_batch_answers_and_keeps_the_last_step(compiled, send):
    n_rows = 70_000
    X, y = np.zeros((n_rows, 784), np.float32), np.arange(n_rows) % 10

    def wide():
        return Sequential([Dense(512, "tanh"), Dense(512, "tanh"), Dense(10)], n_inputs=784)

    def step(net, epochs, rows=n_rows):
        net.fit(
            X[:rows], y[:rows], epochs=epochs, batch_size=None, shuffle=False, progress=False
        )  # fmt: skip

    step(wide(), 1, rows=5000)  # compiles the kernels
    net = wide()
    send(0.4)
    with pytest.raises(KeyboardInterrupt):
        step(net, 1000)
    assert send.seconds_since() < ANSWER
    assert_stopped_between_steps(net, wide(), step)


def test_a_prediction_under_asyncio_run_answers(send):
    """asyncio's own handler only cancels the task, which a prediction would not notice."""
    net = Sequential([Dense(512, "relu"), Dense(512, "relu"), Dense(10)], n_inputs=784)
    X = np.zeros((60_000, 784), np.float32)
    net.logits(X[:2000])

    async def predict():
        send(0.2)
        while True:
            net.logits(X)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(predict())
    assert send.seconds_since() < ANSWER


def test_a_prediction_of_a_wide_network_answers_early(monkeypatch):
    """The first call of the engine takes few chunks where a chunk is much work."""
    from fastnn import run

    net = Sequential([Dense(4096, "relu"), Dense(4096, "relu"), Dense(10)], n_inputs=784)
    asked = []
    monkeypatch.setattr(run.Slices, "of", lambda self, n: asked.append(self.size) or iter(()))
    net.logits(np.zeros((4200, 784), np.float32))
    small = Sequential([Dense(16, "relu"), Dense(2)], n_inputs=14)
    small.logits(np.zeros((200_000, 14), np.float32))
    assert asked[0] == 1
    assert asked[1] > 1
