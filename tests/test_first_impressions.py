"""What a new user sees first: lines of progress, notebooks, pictures, and help()."""

import doctest
import inspect
import os
import pickle
import pydoc
import re
import shutil
import sys

import numpy as np
import pytest
import terminal
from conftest import table

import fastnn
from fastnn import Dense, Sequential, activations, initializers, losses, plots, progress
from fastnn.engines import compilation

needs_pty = pytest.mark.skipif(os.name != "posix", reason="pseudo terminals")


def fitted(epochs=3, **arguments):
    net = Sequential([Dense(4, "relu"), Dense(3)], seed=0)
    X, y = table()
    return net, net.fit(X, y, epochs=epochs, progress=False, **arguments)


# -- lines of progress ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.14e-5, "2.1e-05"), (0.00012, "0.00012"), (-3.3e-7, "-3.3e-07"), (0.0, "0.0000"),
     (0.001, "0.0010"), (0.5, "0.5000"), (9999.0, "9999.0000"), (12345.0, "1.23e+04"),
     (float("nan"), "nan"), (float("inf"), "inf")],
)  # fmt: skip
def test_values_are_short(value, text):
    assert progress._value(value) == text


FIRST_COMMAND = """
import sys
sys.argv = ["fastnn", "train", "digits", "--epochs", "30", *sys.argv[1:]]
from fastnn.cli import main
main()
"""


@needs_pty
@pytest.mark.parametrize("engine", ["auto", "numba"])
def test_the_first_command_in_80_columns(tmp_path, monkeypatch, engine):
    """Cold where numba is named: what is said of compiling has lines of its own."""
    pytest.importorskip("click")
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    if engine not in ("auto", *fastnn.engines.available()):
        pytest.skip("no such engine here")
    monkeypatch.chdir(tmp_path)
    environment = {"FASTNN_ENGINE": engine}
    if "c" in fastnn.engines.available() and engine == "auto":
        environment["FASTNN_CACHE_DIR"] = str(tmp_path / "cold")
    text, status = terminal.run(FIRST_COMMAND, 80, **environment)
    assert status == 0, text
    lines, states = terminal.screen(text, 80)
    for line in [*lines, *states]:
        assert ("epoch" in line) + ("compil" in line) <= 1, line
        assert ("epoch" in line) + ("accuracy  " in line) <= 1, line
        assert "?" not in line
    (bar,) = [line for line in lines if line.startswith("epoch")]
    assert re.match(r"epoch 30/30: 100%\|█+\| \[\d\d:\d\d, [\d.]+[kM]?row/s, loss=", bar)
    first = next(state for state in states if state.startswith("epoch 1/"))
    assert not re.search("row/s|<", first), first


FITS = """
import numpy as np, fastnn
X, y = np.zeros((40, 3), np.float32), np.arange(40) % 3
def fit(activation, optimizer):
    net = fastnn.Sequential([fastnn.Dense(4, activation), fastnn.Dense(3)], seed=0)
    net.fit(X, y, epochs=2, optimizer=optimizer, progress=True, loss="cross_entropy")
    print("fitted", flush=True)
fit("relu", "sgd")
fit("relu", "sgd")
fit("tanh", "sgd")
fit("tanh", fastnn.SGD(0.1, momentum=0.5))
"""


@needs_pty
def test_only_what_is_new_is_compiled_and_said(tmp_path):
    if "numba" not in fastnn.engines.available():
        pytest.skip("compiles nothing")
    pytest.importorskip("tqdm")
    from fastnn.engines.jit import cache

    environment = {"FASTNN_ENGINE": "numba"}
    terminal.run(FITS, 80, **environment)  # so that the cache of the tests has them all
    place = tmp_path / cache.key()
    shutil.copytree(cache.directory(), place)
    for name in ("relu", "tanh", "momentum"):
        (place / f"{name}-float32.kernel").unlink()
    text, status = terminal.run(FITS, 80, FASTNN_CACHE_DIR=str(tmp_path), **environment)
    assert status == 0, text
    lines, states = terminal.screen(text, 80)
    said = "\n".join(line for line in lines if "compil" in line or line == "fitted")
    said = re.sub(r"in \d+\.\d s", "in 0.0 s", said)
    first, *rest = said.split("fastnn: compiled ", 1)
    assert first.startswith("fastnn: compiling kernels for this machine, once (kept in ")
    assert rest == [
        "relu in 0.0 s\nfitted\nfitted\nfastnn: compiled tanh in 0.0 s\nfitted\n"
        "fastnn: compiled momentum in 0.0 s\nfitted"
    ]
    assert not any("epoch" in line and "compil" in line for line in [*lines, *states])


def test_a_message_keeps_off_a_bar_that_is_shown(capsys):
    pytest.importorskip("tqdm")
    with fastnn.progress.ProgressBar(True, total=10, n_epochs=1) as bar:
        bar.begin()
        bar.advance(5)
        compilation.say("a message")
    shown = capsys.readouterr().err
    assert "\ra message\n" in shown.replace(" ", "\r", 0) or re.search(r"\r *\ra message\n", shown)


def test_messages_without_tqdm_or_stderr(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    compilation.say("a message")
    assert capsys.readouterr().err == "a message\n"
    monkeypatch.setattr(sys, "stderr", None)
    compilation.say("nobody hears it")


def test_what_is_reported(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with compilation.reported(), compilation.reported():
        with compilation.of("relu"):
            pass
        with compilation.of("adam"):
            pass
    with compilation.reported():
        for name in "abcd":
            with compilation.of(name):
                pass
    with compilation.reported():
        pass
    assert capsys.readouterr().err.splitlines() == [
        "fastnn: compiled relu, adam in 0.0 s", "fastnn: compiled 4 kernels in 0.0 s"
    ]  # fmt: skip


# -- notebooks and pictures -----------------------------------------------------------------------


def cells(html):
    assert not re.search(r"<(?!/?(table|caption|tr|th|td)>)", html), html
    return re.findall(r"<t[hd]>(.*?)</t[hd]>", html)


def test_a_history_in_a_notebook():
    _, history = fitted(epochs=30, validation_split=0.2)
    shown = history._repr_html_()
    assert "30 epochs, loss cross_entropy" in shown
    assert cells(shown)[:3] == ["epoch", "loss", "accuracy"]
    assert f"{history['val_loss'][-1]:.4g}" in cells(shown)
    assert len(shown.splitlines()) < 20
    assert "1 epoch," in fitted(epochs=1)[1]._repr_html_()


def test_a_network_and_its_plan_in_a_notebook():
    net, _ = fitted()
    assert cells(net._repr_html_())[3:6] == ["0", "Dense(4, 'relu')", "32"]
    assert "dense + relu" in cells(net.plan._repr_html_())
    new = Sequential([Dense(4), Dense(2)])
    assert "Dense(4)" in cells(new._repr_html_())


def test_html_is_escaped():
    _, history = fitted()
    history.loss_name = "<script>&"
    history["<b>"] = history["loss"]
    shown = history._repr_html_()
    assert "&lt;script&gt;&amp;" in shown
    assert "&lt;b&gt;" in cells(shown)


def test_a_figure_shows_itself_in_a_notebook():
    pytest.importorskip("matplotlib")
    figure = fitted()[1].plot()
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert pickle.loads(pickle.dumps(figure))._repr_png_() == figure._repr_png_()
    assert not hasattr(figure, "show") or figure.canvas.manager is None  # no window


@pytest.mark.parametrize("epochs", [1, 3])
def test_every_epoch_is_visible(epochs):
    pytest.importorskip("matplotlib")
    axes = fitted(epochs=epochs, validation_split=0.2)[1].plot().axes[0]
    assert [line.get_marker() for line in axes.lines] == ["o" if epochs == 1 else "None"] * 2
    ticks = axes.get_xticks()
    assert (ticks == np.round(ticks)).all()


@pytest.mark.parametrize(
    ("path", "name"),
    [("curve.png", "curve.png"), ("curve.SVG", "curve.SVG"), ("curve", "curve.png")],
)
def test_paths_of_pictures(tmp_path, path, name):
    pytest.importorskip("matplotlib")
    assert plots.check_path(tmp_path / path) == tmp_path / name
    fitted(epochs=1)[1].plot(tmp_path / path)
    assert (tmp_path / name).is_file()


@pytest.mark.parametrize(
    ("path", "message"),
    [("curve.xyz", "'.xyz'.*take one of .*png"), ("curve.", "ending ''"), ("", "is a folder"),
     ("there/curve.png", "no folder.*create it")],
)  # fmt: skip
def test_bad_paths_of_pictures(tmp_path, monkeypatch, path, message):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        plots.check_path(path)
    with pytest.raises(ValueError, match=message):
        fitted(epochs=1)[1].plot(path)
    with pytest.raises(TypeError, match="must be a string or a path"):
        plots.check_path(3)


def test_a_picture_may_be_written_to_an_open_file(tmp_path):
    pytest.importorskip("matplotlib")
    with open(tmp_path / "curve.png", "wb") as file:
        fitted(epochs=1)[1].plot(file)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


# -- help -----------------------------------------------------------------------------------------

NAMED = [
    (module, name)
    for module in (activations, losses, initializers)
    for name in module._BY_NAME
]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "name"), NAMED, ids=lambda value: getattr(value, "__name__", value)
)
def test_help_of_a_named_object_documents_it(module, name):
    one = module._BY_NAME[name]
    shown = pydoc.render_doc(one, renderer=pydoc.plaintext)
    assert name in shown
    assert "Examples" in shown
    assert "Methods defined here" not in shown
    assert name in module.__doc__
    assert inspect.getdoc(type(one)) != inspect.getdoc(one)
    runner = doctest.DocTestRunner()
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(one), {}, name, None, None)
    assert test.examples
    runner.run(test)
    assert runner.failures == 0
    assert max(map(len, shown.splitlines())) <= 104


def test_an_object_of_ones_own_has_the_help_of_its_class():
    made = activations.LeakyReLU(0.3)
    assert inspect.getdoc(made) == inspect.getdoc(activations.LeakyReLU)
    assert "slope" in pydoc.render_doc(made, renderer=pydoc.plaintext)
    assert pickle.loads(pickle.dumps(activations.relu)) == activations.relu
    assert "max(0, z)" in pickle.loads(pickle.dumps(activations.relu)).__doc__


MACHINERY = {
    Dense: ["lower", "config", "is_activation"], fastnn.BatchNorm: ["lower"],
    Sequential: ["lower", "adopt", "set_fitted", "build"], fastnn.Adam: ["hyper", "rates", "reset"],
    fastnn.schedules.Cosine: ["leaf_at", "resolved"], losses.LossFunction: ["spread"],
    fastnn.EMA: ["shares", "check_length"], fastnn.history.History: ["restore", "append"],
    activations.ActivationFunction: ["config"], initializers.Normal: ["config"],
}  # fmt: skip


@pytest.mark.parametrize("kind", MACHINERY, ids=lambda kind: kind.__name__)
def test_machinery_is_not_in_help(kind):
    shown = pydoc.render_doc(kind, renderer=pydoc.plaintext)
    for name in MACHINERY[kind]:
        assert hasattr(kind, name)
        assert not re.search(rf"^ \|  {name}\b", shown, re.MULTILINE), name
    assert "Examples" in shown or kind in (losses.LossFunction,)


def test_public_methods_are_in_help():
    shown = pydoc.render_doc(Sequential, renderer=pydoc.plaintext)
    for name in ("fit", "predict", "evaluate", "plan", "save", "trace", "set_targets", "step"):
        assert re.search(rf"^ \|  {name}\b", shown, re.MULTILINE), name


def test_no_docstring_cites_notes_that_nobody_knows():
    import pathlib

    for file in pathlib.Path(fastnn.__file__).parent.rglob("*.py"):
        assert not re.search("the notes|study notes", file.read_text()), file
