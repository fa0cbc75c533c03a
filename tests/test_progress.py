"""The progress bar: what it says, in which terminal, and when."""

import re
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import terminal
from conftest import table
from tqdm.utils import disp_len

import fastnn
from fastnn import Dense, Sequential, progress
from fastnn.engines import compilation
from fastnn.progress import ProgressBar

needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo terminals")


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still, but for ``clock.now += seconds``."""
    found = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: found.now))
    return found


def line(bar, columns=None):
    """What a bar says now."""
    return bar._line(columns).format(bar="")


def seconds_left(bar):
    minutes, seconds = re.search(r"<(\d+):(\d\d)", line(bar)).groups()
    return 60 * int(minutes) + int(seconds)


def train(bar, clock, epochs, slices=10, rows=100, seconds=0.1, validation=0.0, first=0):
    for epoch in range(first, first + epochs):
        bar.begin_epoch()
        for _ in range(slices):
            clock.now += seconds
            bar.advance(rows)
        clock.now += validation
        bar.finish_epoch(epoch + 1, {"loss": 1 / (epoch + 1), "val_loss": 0.5, "seconds": 1.0})


# -- rate and time left ---------------------------------------------------------------------------


def test_rate_and_time_left_are_right_from_the_first_steps_on(clock):
    with ProgressBar(True, total=100_000, n_epochs=100) as bar:
        clock.now += 500  # compiling
        bar.begin()
        assert line(bar) == "epoch 1/100:   0%|| [00:00]"
        bar.begin_epoch()
        for i in range(10):
            clock.now += 0.1
            bar.advance(100)
            assert "1.00krow/s" in line(bar)
            assert abs(seconds_left(bar) - (100 - (i + 1) / 10)) <= 1
        bar.finish_epoch(1, {"loss": 0.5})
        assert line(bar) == "epoch 1/100:   1%|| [00:01<01:39, 1.00krow/s, loss=0.5000]"


def test_a_resumed_fit_does_not_count_the_rows_of_the_first(clock):
    with ProgressBar(True, total=100_000, n_epochs=100) as bar:
        bar.begin(done_rows=50_000, epoch=50)
        assert line(bar).startswith("epoch 51/100:  50%|| [00:00]")
        train(bar, clock, 1, first=50)
        assert line(bar).startswith("epoch 51/100:  51%|| [00:01<00:49, 1.00krow/s, loss=")


def test_the_time_left_has_the_time_between_epochs_and_the_rate_does_not(clock):
    """The first epoch cannot know what its validation takes; all later ones do."""
    with ProgressBar(True, total=100_000, n_epochs=100) as bar:
        bar.begin()
        train(bar, clock, 3, validation=1.0)
        assert seconds_left(bar) == 97 * 2
        assert "1.00krow/s" in line(bar)
        clock.now += 3  # the body of a loop over net.epochs
        train(bar, clock, 1, validation=1.0, first=3)
        assert seconds_left(bar) == 96 * 2 + 96 * 3 // 4
        assert "1.00krow/s" in line(bar)


def test_the_rate_follows_the_machine(clock):
    with ProgressBar(True, total=10_000_000, n_epochs=10_000) as bar:
        bar.begin()
        train(bar, clock, 100)
        train(bar, clock, 30, seconds=0.2, first=100)
        rate = float(re.search(r"([\d.]+)row/s", line(bar))[1])
        assert 500 <= rate < 550


def test_a_budget_of_seconds(clock):
    with ProgressBar(True, seconds=20.0) as bar:
        bar.begin()
        assert line(bar) == "epoch 1:   0%|| [00:00<00:20]"
        train(bar, clock, 5)
        assert line(bar).startswith("epoch 5:  25%|| [00:05<00:15, 1.00krow/s, loss=0.2000")
        clock.now += 30
        bar.finish_epoch(6, {})
        assert line(bar).startswith("epoch 6: 100%|| [00:35<00:00")


def test_of_epochs_and_seconds_the_one_that_ends_first_is_shown(clock):
    for budget, done, left in ((40.0, "50%", "00:10"), (12.0, "83%", "00:02")):
        with ProgressBar(True, total=20_000, n_epochs=20, seconds=budget) as bar:
            bar.begin()
            train(bar, clock, 10)
            assert line(bar).startswith(f"epoch 10/20:  {done}|| [00:10<{left}, 1.00krow/s")


def test_a_resumed_budget_continues(clock):
    with ProgressBar(True, seconds=20.0) as bar:
        bar.begin(epoch=3, done_seconds=5.0)
        assert line(bar) == "epoch 4:  25%|| [00:05<00:15]"


def test_the_rows_of_an_iterable_are_known_after_an_epoch(clock):
    with ProgressBar(True, total=None, n_epochs=5) as bar:
        bar.begin()
        bar.begin_epoch()
        clock.now += 1.0
        bar.advance(1000)
        assert line(bar) == "epoch 1/5: 1.00krow [00:01, 1.00krow/s]"
        bar.finish_epoch(1, {"loss": 2.0})
        assert line(bar) == "epoch 1/5:  20%|| [00:01<00:04, 1.00krow/s, loss=2.0000]"
    with ProgressBar(True, total=None, n_epochs=5) as bar:
        bar.begin(epoch=2)
        train(bar, clock, 1, first=2)
        assert line(bar).startswith("epoch 3/5:  60%|| [00:01<00:02")


def test_nothing_is_known_of_an_endless_fit(clock):
    with ProgressBar(True) as bar:
        bar.begin()
        train(bar, clock, 2)
        assert line(bar).startswith("epoch 2: 2.00krow [00:02, 1.00krow/s, loss=0.5000")


def test_many_short_epochs_are_not_all_drawn(clock, capsys):
    with ProgressBar(True, total=1000 * 32, n_epochs=1000) as bar:
        bar.begin()
        train(bar, clock, 1000, slices=1, rows=32, seconds=1e-3)
    assert capsys.readouterr().err.count("\r") <= 13
    assert bar._rows == 32_000


# -- the line -------------------------------------------------------------------------------------

VALUES = {
    "loss": 0.6931471, "accuracy": 0.5, "val_loss": 0.7, "val_{odd}": 12345.678, "val_f1": 0.25,
    "val_損失": float("nan"), **{f"val_metric_{i}": 1e-9 for i in range(20)}, "lr": 1e-5,
}  # fmt: skip


@pytest.mark.parametrize("arguments", [{"total": 9000, "n_epochs": 9}, {"seconds": 9.0}, {}])
def test_the_line_fits_every_terminal(clock, arguments):
    with ProgressBar(True, **arguments) as bar:
        for state in range(3):
            for columns in range(1, 200):
                text = bar._line(columns)
                assert disp_len(text.format(bar="")) + 10 * ("{bar}" in text) <= columns
            if state == 0:
                bar.begin()
            elif state == 1:
                train(bar, clock, 1)
                bar.finish_epoch(1, VALUES)


def test_a_narrow_line_has_the_most_important(clock):
    with ProgressBar(True, total=9000, n_epochs=9) as bar:
        bar.begin()
        train(bar, clock, 2)
        bar.finish_epoch(2, VALUES)
        assert line(bar, 40) == "2/9 22% 00:07 left loss=0.6931 1.00k/s"
        assert line(bar, 50) == "epoch 2/9 22% 00:07 left loss=0.6931 1.00k/s"
        assert line(bar, 20) == "2/9 22% 00:07 left"
        assert line(bar, 75) == "epoch 2/9:  22%|| [00:02<00:07, 1.00krow/s, loss=0.6931]"
        assert "val_{odd}=1.23e+04, val_f1=0.2500, val_損失=nan, val_metric_0=1e-09" in line(
            bar, 200
        )


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0.5, "0.50"), (9.996, "10.0"), (99.96, "100"), (999.4, "999"), (999.6, "1.00k"),
     (25_949, "25.9k"), (3e9, "3.00G"), (1e30, "1000000000000E"), (None, "")],
)  # fmt: skip
def test_numbers_are_short(number, shown):
    assert progress._short(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "00:00"), (59.6, "01:00"), (3599.7, "1:00:00"), (90_061, "25:01:01")],
)
def test_times_are_rounded(seconds, shown):
    assert progress._time(seconds) == shown


def test_the_label_begins_the_line_and_may_change(clock):
    with ProgressBar(True, label="fold 1", total=900, n_epochs=9) as bar:
        bar.begin()
        bar.label = "fold 2"
        assert line(bar).startswith("fold 2 epoch 1/9:")


def test_a_bar_is_not_100_percent_before_its_end(clock):
    with ProgressBar(True, total=1000, n_epochs=1) as bar:
        bar.begin()
        bar.advance(999)
        assert "99%" in line(bar)


# -- when it is shown -----------------------------------------------------------------------------


def test_tqdm_is_needed_only_for_a_bar_that_is_demanded(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    ProgressBar(False)
    monkeypatch.setattr(progress, "_on_terminal", lambda: True)
    assert ProgressBar("auto")._make is None
    with pytest.raises(ImportError, match=r"needs tqdm: pip install 'fastnn-cpu\[cli\]'"):
        ProgressBar(True)


def test_a_process_without_stderr(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert ProgressBar("auto")._make is None
    with pytest.raises(ValueError, match="stderr"):
        ProgressBar(True)


@pytest.mark.parametrize("kernel", [True, False])
def test_auto_shows_it_in_a_notebook(monkeypatch, kernel):
    shell = SimpleNamespace(config={"IPKernelApp": {}} if kernel else {})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert progress._in_notebook() is kernel
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not progress._in_notebook()


def test_without_a_bar_nothing_is_written_and_nothing_is_heard(capsys):
    before = compilation._listeners
    with ProgressBar("auto", total=100, n_epochs=1) as bar, bar.preparing():
        assert compilation._listeners == before
        bar.begin()
        bar.begin_epoch()
        bar.advance(100)
        bar.finish_epoch(1, {"loss": 1.0})
    bar.close()
    assert capsys.readouterr().err == ""


@needs_pty
def test_tqdm_may_be_turned_off():
    text, status = slow_fit(80, TQDM_DISABLE="1")
    assert status == 0, text
    assert "epoch" not in text


def test_threads_share_a_bar():
    with ProgressBar(True, total=80_000, n_epochs=1) as bar:
        bar.begin()

        def work():
            for _ in range(10_000):
                bar.advance(1)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bar._rows == 80_000


# -- kernels that are compiled --------------------------------------------------------------------


class Listener:
    """Notes the kernels that it is told of."""

    def __init__(self):
        self.heard = []

    def hear(self, kernel):
        self.heard.append(kernel)


def test_listeners_hear_only_of_what_is_compiled(monkeypatch):
    pytest.importorskip("numba")
    from fastnn.engines.jit import cache, kernels

    name, dtype = "denormals", np.float32
    name = min(kernels.names(), key=len) if name not in kernels.names() else name
    listener = Listener()
    compilation.listen(listener.hear)
    (cache.directory() / f"{name}-float32.kernel").unlink(missing_ok=True)
    for found in ([name], [name]):  # compiled, and then loaded
        monkeypatch.setattr(kernels, "_addresses", {})
        kernels.address(name, dtype)
        assert listener.heard == found
    compilation.forget(listener.hear)
    compilation.announce("other")
    assert listener.heard == [name]


def test_a_listener_that_is_gone_is_forgotten():
    listener = Listener()
    compilation.listen(listener.hear)
    count = len(compilation._listeners)
    del listener
    compilation.announce("any")
    other = Listener()
    compilation.listen(other.hear)
    compilation.forget(other.hear)
    assert len(compilation._listeners) == count - 1


def test_all_bars_that_wait_say_that_kernels_are_compiled(clock):
    """One thread compiles; the others wait for the same lock."""
    with ProgressBar(True, total=10, n_epochs=1) as one, ProgressBar(True, seconds=5) as other:
        for _ in range(2):
            thread = threading.Thread(target=compilation.announce, args=("relu",))
            thread.start()
            thread.join()
        for bar in (one, other):
            assert line(bar) == "compiling kernels: 2 so far (relu)"
        one.begin()
        clock.now += 1
        compilation.announce("gelu")
        assert line(one).startswith("epoch 1/1:   0%")
        assert line(other) == "compiling kernels: 3 so far (gelu)"


def test_epochs_that_never_begin_leave_no_line(capsys):
    X, y = table()
    before = len(compilation._listeners)
    epochs = Sequential([Dense(3)]).epochs(X, y, progress=True)
    assert len(compilation._listeners) == before
    assert "epoch" not in capsys.readouterr().err
    next(epochs)
    epochs.close()
    assert "epoch 1/10" in capsys.readouterr().err


# -- in a terminal --------------------------------------------------------------------------------

SLOW_FIT = """
import time, numpy as np, fastnn
from fastnn.engines import compilation
from fastnn import Dense, Sequential
fastnn.set_engine({engine!r})
X = np.random.default_rng(0).normal(size=(400, 5))
y = (X[:, 0] > 0).astype(int)
class Slow(fastnn.Callback):
    def on_steps(self, training):
        time.sleep(0.012)
    def on_epoch_end(self, training):
        {at_end}
net = Sequential([Dense(8, "relu"), Dense(2)])
net.fit(X, y, epochs=4, validation_data=(X, y), batch_size=50, callbacks=[Slow()])
print("after")
"""


def slow_fit(columns, at_end="pass", engine=None, **environment):
    if engine is None:  # the one that starts soonest
        engine = "c" if "c" in fastnn.engines.available() else "numpy"
    return terminal.run(SLOW_FIT.format(engine=engine, at_end=at_end), columns, **environment)


@needs_pty
@pytest.mark.parametrize("columns", [40, 120])
def test_a_fit_in_a_terminal(columns):
    text, status = slow_fit(columns)
    assert status == 0, text
    lines, states = terminal.screen(text, columns)
    shown = "\n".join(lines).strip().rpartition("targets\n")[2].splitlines()
    assert len(shown) == 2, text
    if columns == 40:
        assert re.fullmatch(r"(epoch )?4/4 100% 00:0\d loss=0\.\d{4} [\d.]+k?/s", shown[-2]), text
    else:
        assert re.fullmatch(
            r"epoch 4/4: 100%\|█+\| \[00:0\d, [\d.]+k?row/s, loss=0\.\d{4}, accuracy=0\.\d{4}, "
            r"val_loss=0\.\d{4}, val_accuracy=0\.\d{4}\]", shown[-2]
        ), text  # fmt: skip
    assert shown[-1] == "after"
    estimates = [state for state in states if "left" in state or "<" in state]
    assert estimates
    assert not any("compiling" in state for state in estimates)
    assert all(len(state) <= columns for state in states)


@needs_pty
@pytest.mark.parametrize("at_end", ["1 / 0", "training.net.fit(X, y)"])
def test_nothing_is_left_of_a_fit_that_raises(at_end):
    text, status = slow_fit(80, at_end)
    assert status == 1
    lines, states = terminal.screen(text, 80)
    assert any("epoch 1/4" in state for state in states)
    assert not any("epoch 1/4" in line for line in lines)
    assert any(line == "Traceback (most recent call last):" for line in lines)


@needs_pty
def test_after_ctrl_c_the_line_says_how_far_the_fit_came():
    text, status = slow_fit(80, "import signal; signal.raise_signal(signal.SIGINT)")
    assert status != 0
    lines, _ = terminal.screen(text, 80)
    (found,) = [line for line in lines if "epoch" in line and "%" in line]
    assert re.match(r"epoch [12]/4:  25%\|", found)


@needs_pty
@pytest.mark.skipif("c" not in fastnn.engines.available(), reason="there is no C engine")
def test_the_c_engine_never_compiles():
    text, status = slow_fit(100, engine="c")
    assert status == 0
    assert "compiling" not in text


def test_a_loop_that_is_left_leaves_a_whole_line(capsys):
    X, y = table()
    for epoch in Sequential([Dense(3)]).epochs(X, y, progress=True):
        if epoch.training.epoch == 3:
            break
    assert re.search(r"epoch 3/10:  30%\|█+ *\| \[00:00, .*\]\n$", capsys.readouterr().err)


@needs_pty
def test_prints_of_a_callback_keep_their_lines():
    text, _ = slow_fit(80, "print('\\nepoch', training.epoch, 'is done')")
    lines, _ = terminal.screen(text, 80)
    assert [line for line in lines if "done" in line] == [f"epoch {i} is done" for i in range(1, 5)]


@needs_pty
def test_a_fit_with_a_cold_cache_says_that_it_compiles(tmp_path):
    pytest.importorskip("numba")
    program = (
        "import numpy as np; from fastnn.engines import jit;"
        "from fastnn.progress import ProgressBar\n"
        "with ProgressBar('auto', total=10, n_epochs=1) as bar:\n"
        "    with bar.preparing(): jit.address('shuffle', np.float32)\n"
        "    print('prepared')\n"
        "    bar.begin()\n"
        "    bar.advance(10)\n"
        "    bar.finish_epoch(1, {'loss': 1.0})\n"
    )
    text, status = terminal.run(program, 100, FASTNN_CACHE_DIR=str(tmp_path))
    assert status == 0, text
    lines, states = terminal.screen(text, 100)
    assert "compiling kernels: 1 so far (shuffle)" in states
    assert "prepared" in lines
    assert re.match(r"epoch 1/1: 100%\|█+\| \[00:00, ", lines[-2])
    text, _ = terminal.run(program, 100, FASTNN_CACHE_DIR=str(tmp_path))
    assert "compiling" not in text
