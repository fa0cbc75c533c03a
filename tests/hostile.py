"""Damages of files that somebody hostile may have written, and what a refusal must be like."""

import copy
import sys
import tracemalloc

import pytest

try:
    import resource
except ImportError:  # Windows
    resource = None

MOST_MEMORY = 50 << 20

NORMAL = {"initializer": "Normal", "std": 0.3}


def peak_memory():
    """The most memory that the process has had, in bytes: Rust's allocations included."""
    if resource is None:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


def refusal(path, error, read):
    """The message of reading a file, which raises that error and takes little memory."""
    before = peak_memory()
    tracemalloc.start()
    try:
        with pytest.raises(error) as caught:
            read()
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
    assert peak_memory() - before < MOST_MEMORY
    message = str(caught.value)
    assert caught.type is error
    assert repr(str(path)) in message
    assert len(message) < 800 + len(str(path))
    assert message.isprintable()
    for internal in ("NoneType", "object is not", "has no attribute", "unhashable"):
        assert internal not in message
    return message


def put(*place, to):
    """A change that sets one value of the description."""

    def change(tensors, about):
        for key in place[:-1]:
            about = about[key]
        about[place[-1]] = to

    return change


def drop(*place):
    """A change that leaves one value of the description out."""

    def change(tensors, about):
        for key in place[:-1]:
            about = about[key]
        del about[place[-1]]

    return change


def tensor(name, to):
    """A change of one tensor."""
    return lambda tensors, about: tensors.update({name: to(tensors[name])})


def with_element(value):
    """The tensor with its last element changed."""

    def change(array):
        array = array.copy()
        array.flat[-1] = value
        return array

    return change


HOSTILE = [
    None, True, False, 0, 1, 2, 3, -1, 5.0, 0.5, -0.0, 1e308, 5e-324, 2**31 - 1, 2**31, 2**63,
    -(2**63), "", "a", "Dense", "relu", "mse", "labels", "float64", "|O", ">U3", "<U9999",
    "x" * 200, "\ud800", [], [0], [[]], ["a", "b", "c"], [1, 2, 3], {}, {"name": "elu"},
    {"layer": "Dense"}, NORMAL,
]  # fmt: skip


def places(value):
    """Every container of a description with each of its keys."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def damage(about, draw):
    """Change a description at one place."""
    container, key = draw.choice(list(places(about)))
    other, where = draw.choice(list(places(about)))
    match draw.choice(["set", "set", "set", "drop", "copy", "rename", "repeat"]):
        case "set":
            container[key] = copy.deepcopy(draw.choice(HOSTILE))
        case "drop":
            del container[key]
        case "copy":
            container[key] = copy.deepcopy(other[where])
        case "rename" if isinstance(container, dict):
            container[str(where)] = container.pop(key)
        case _ if isinstance(container, list):
            container.insert(draw.randrange(len(container) + 1), copy.deepcopy(container[key]))
