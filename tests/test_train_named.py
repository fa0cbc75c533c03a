"""``fastnn train NAME`` for data sets in a folder and for those of scikit-learn."""

import os
import subprocess
import sys

import numpy as np
import pytest
from test_idx import REAL, idx, mnist

import fastnn
from fastnn.data.named import OF_SKLEARN, REGRESSIONS, load_named

pytest.importorskip("click")

#: What a test score must exceed; of linnerud's five test rows nothing can be asked.
LEAST = {"iris": 0.9, "wine": 0.9, "breast_cancer": 0.95, "diabetes": 0.4, "linnerud": -5}


def run(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "fastnn", "train", *arguments], cwd=cwd, capture_output=True,
        text=True, timeout=240, env={**os.environ, "COLUMNS": "100"},
    )  # fmt: skip


@pytest.mark.parametrize("name", OF_SKLEARN)
def test_data_sets_of_sklearn(tmp_path, name):
    """The scores that it prints are those that the saved model has on rows that are not scaled."""
    pytest.importorskip("sklearn")
    done = run(name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    words = [line.split() for line in done.stdout.splitlines()]
    lines = {" ".join(line[:2]): line[2] for line in words if len(line) > 2}
    data = load_named(name)
    found = fastnn.load(tmp_path / f"{name}.safetensors").predict(data.X_test)
    if name in REGRESSIONS:
        error = np.square(found - data.y_test).mean(axis=0)
        score = (1 - error / data.y_test.var(axis=0)).mean()
        assert float(lines["test R^2"]) == pytest.approx(score, abs=6e-5)
    else:
        score = (found == data.y_test).mean()
        assert float(lines["test accuracy"]) == pytest.approx(score, abs=6e-5)
    assert score > LEAST[name]
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{name}.png", f"{name}.safetensors"]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("inside", [False, True])
def test_four_idx_files(tmp_path, name, inside):
    """In the folder itself, or in one of the data set's name in it."""
    folder = tmp_path / "data" / (name if inside else "")
    folder.mkdir(parents=True)
    mnist(folder, rows=(60, 40), ending=".gz")
    done = run(name, "--data", "data", "--hidden", "8", "--epochs", "2", "-o", "m", "--plot",
               "p.png", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "(60 rows)" in done.stdout
    assert "(40 rows)" in done.stdout
    data = load_named(name, tmp_path / "data")
    accuracy = (fastnn.load(tmp_path / "m").predict(data.X_test) == data.y_test).mean()
    assert f"test accuracy   {accuracy:.4f}" in done.stdout


def test_the_real_mnist(tmp_path):
    if not REAL.is_dir():
        pytest.skip("the folder of real data is absent")
    done = run("mnist", "--data", str(REAL), "--hidden", "128", "--epochs", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("test accuracy")]
    assert float(line.split()[2]) > 0.95


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mistakes_are_one_line(tmp_path, name):
    (tmp_path / "wrong").mkdir()
    mnist(tmp_path)
    damaged = tmp_path / "t10k-images-idx3-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (tmp_path / "alike").mkdir()
    mnist(tmp_path / "alike")
    for part, n in (("train", 6), ("t10k", 4)):
        labels = tmp_path / "alike" / f"{part}-labels-idx1-ubyte"
        labels.write_bytes(idx(np.full(n, 7, np.uint8)))
    for arguments, message in (
        ([], f"fastnn train {name} --data DIR"),
        (["--data", "nowhere"], "there is no folder 'nowhere'"),
        (["--data", "wrong"], "lacks train-images-idx3-ubyte.gz"),
        (["--data", "alike"], "all images in alike have the label 7: two classes are needed"),
        (["--data", "."], "'t10k-images-idx3-ubyte' is truncated"),
    ):
        done = run(name, *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("Error: ")
        assert message in line
    assert not list(tmp_path.glob("*.safetensors"))


def test_without_sklearn_it_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from fastnn.cli import main; main(['train', 'iris'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Error: iris is part of scikit-learn: pip install 'fastnn-cpu[sklearn]'"
    ]


def test_names(tmp_path):
    with pytest.raises(ValueError, match="no data set 'irises': choose from digits, mnist"):
        load_named("irises")
    with pytest.raises(ValueError, match="needs the folder"):
        load_named("mnist")
    shown = run("--help").stdout
    for name in ("mnist", "fashion_mnist", *OF_SKLEARN, "digits"):
        assert f" {name} " in shown
