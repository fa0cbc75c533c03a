"""Custom: a loss that the user writes, as a NumPy function or as a Numba function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .checks import is_finite
from .errors import ShapeError
from .losses import LossFunction
from .tables import Loss, Status

#: Most characters of a name.
_MOST = 100


class Custom(LossFunction):
    """A function of your own: the mean over rows of what it returns.

    A function of arrays runs on every engine. It is called once for each minibatch as
    ``function(y, a)``, where y and a (m, n_outputs) are the targets and the outputs of the network
    after its last activation, in the network's dtype. Both are read-only and valid during the call
    only. It returns the loss of each row, (m,), and the derivative of each row's loss with respect
    to the row's outputs, (m, n_outputs).

    A function that Numba compiles (``@numba.njit``) is faster in the numba and c engines, where
    several threads share the rows. It is called for each row as ``function(y, a, da)`` with vectors
    (n_outputs,), adds the derivative to da, which begins with zeros, and returns the row's loss. It
    must change nothing but da.

    Sample weights and the factor 1/m are applied afterwards.

    The targets are numbers, unless y is text or True and False, or a single column for several
    outputs: then they are labels, which the function sees as 0 and 1 (one output: its sign
    decides) or as one-hot rows (the largest output decides). `predict` returns the outputs for
    numbers, and labels for labels.

    A model file holds the name of the function only: a network that was loaded predicts, but needs
    ``loss=Custom(function)`` again to evaluate or fit.

    Parameters
    ----------
    function : callable
    name : str, optional
        For messages, the history and files; by default the function's own.

    Attributes
    ----------
    function : callable or None
        None after loading from a file.

    Raises
    ------
    TypeError
        If it is not a function, or takes other arguments.
    ValueError
        If the name is empty, too long or not printable.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import SGD, Dense, Sequential
    >>> from fastnn.losses import Custom
    >>> def log_cosh(y, a):
    ...     e = a - y
    ...     return np.log(np.cosh(e)).sum(axis=1), np.tanh(e)
    >>> Custom(log_cosh)([1.0], [1.0])
    0.0
    >>> net = Sequential([Dense(1)])
    >>> _ = net.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0], loss=Custom(log_cosh),
    ...             optimizer=SGD(0.3), epochs=300, batch_size=None, progress=False)
    >>> net.predict([[10.0]]).round(2)
    array([21.], dtype=float32)
    """

    function: Callable | None
    #: Whether a Python function is called for a whole batch, and not a compiled one for its rows.
    is_python: bool

    def __init__(self, function, name=None):
        is_python = not _is_of_numba(function)
        _check_function(function, 2 if is_python else 3)
        self._set(function, is_python, _name_of(function) if name is None else _check_name(name))

    def _set(self, function, is_python: bool, name: str) -> None:
        super().__init__(Loss.custom)
        values = {"function": function, "is_python": is_python, "_name": name}
        for key, value in values.items():
            object.__setattr__(self, key, value)  # the base class is frozen

    @classmethod
    def without_function(cls, name: str) -> Custom:
        """The loss of a network that was loaded: the name alone.

        Raises
        ------
        ValueError
            If it is no name.

        Examples
        --------
        >>> from fastnn.losses import Custom
        >>> Custom.without_function("log_cosh").function is None
        True
        """
        loss = cls.__new__(cls)
        loss._set(None, True, _check_name(name))
        return loss

    def check_function(self) -> None:
        """Refuse to compute without the function.

        Raises
        ------
        ValueError
            If the loss comes from a file.

        Examples
        --------
        >>> from fastnn.losses import Custom
        >>> Custom.without_function("log_cosh").check_function()
        Traceback (most recent call last):
        ValueError: the network was trained with the loss function log_cosh, which a file cannot \
hold: give loss=Custom(log_cosh) again
        """
        if self.function is None:
            raise ValueError(
                f"the network was trained with the loss function {self.name}, which a file cannot "
                f"hold: give loss=Custom({self.name}) again"
            )

    @property
    def name(self) -> str:
        return self._name  # type: ignore[attr-defined]

    def config(self) -> dict:
        """The name and arguments, as written to files."""
        return {"name": self.code.name, "function": self.name}

    def __eq__(self, other) -> bool:
        if not isinstance(other, Custom):
            return NotImplemented
        return self.function is other.function and self.name == other.name

    def __hash__(self) -> int:
        return hash((id(self.function), self.name))

    def __reduce__(self):
        return _restore, (self.function, self.name)

    def __repr__(self) -> str:
        return f"Custom({self.name})"

    # -- computing ----------------------------------------------------------------------------

    def _rows(self, y, a) -> np.ndarray:
        return self.rows(y, a)[0]

    def _derivative(self, y, a) -> np.ndarray:
        return self.rows(y, a)[1]

    def rows(self, y: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The loss of each row and its derivative, by a call from Python.

        Parameters
        ----------
        y, a : ndarray, shape (m, n)

        Returns
        -------
        losses : ndarray of float64, shape (m,)
        derivative : ndarray, shape (m, n), of the dtype of a

        Raises
        ------
        ValueError
            If the function returns anything else, or NaN or infinity for finite y and a.
        """
        self.check_function()
        assert self.function is not None
        with np.errstate(all="ignore"):
            if not self.is_python:
                return self._checked(self._row_by_row(y, a), y, a)
            y, a = _read_only(y), _read_only(a)
            return self._checked(self.function(y, a), y, a)

    def compiled(self, dtype):
        """The machine code of a Numba function: an object with its `address`.

        See csrc/custom_loss.h for the function that has this address.

        Raises
        ------
        TypeError
            If Numba cannot compile it for rows of this dtype.
        """
        self.check_function()
        try:
            return _compile(self.function, np.dtype(dtype).name)
        except Exception as error:  # Numba raises its own types and Python's
            raise TypeError(
                f"Numba cannot compile the loss function {self.name}(y, a, da) for vectors of "
                f"{np.dtype(dtype).name}, so that it returns a number: {error}"
            ) from error

    def _row_by_row(self, y: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The losses and derivatives of a Numba function, called from Python."""
        assert self.function is not None
        y, a = np.array(y, a.dtype, order="C"), np.array(a, order="C")
        losses, derivative = np.empty(len(a)), np.zeros_like(a)
        for i in range(len(a)):
            loss = self.function(y[i], a[i], derivative[i])
            try:
                losses[i] = loss
            except (TypeError, ValueError):
                raise TypeError(
                    f"the loss function {self.name} must return a number for a row, not {loss!r}"
                ) from None
        return losses, derivative

    def _checked(self, found, y, a) -> tuple[np.ndarray, np.ndarray]:
        """What the function returned as arrays."""
        if not isinstance(found, tuple | list) or len(found) != 2:
            shown = f"{len(found)} values" if isinstance(found, tuple | list) else type(found)
            raise ValueError(
                f"the loss function {self.name} must return two arrays, the loss of each row and "
                f"the derivative by the outputs, not {shown}"
            )
        losses = self._array(found[0], "losses", a.shape[:1], np.float64)
        derivative = self._array(found[1], "a derivative", a.shape, a.dtype)
        if not (is_finite(losses) and is_finite(derivative)) and is_finite(y) and is_finite(a):
            bad = ~np.isfinite(losses) | ~np.isfinite(derivative).all(axis=1)
            row = int(bad.argmax())
            raise ValueError(
                f"the loss function {self.name} returned the loss {losses[row]} and the derivative "
                f"{derivative[row]} for row {row} of a batch, whose targets {y[row]} and outputs "
                f"{a[row]} are finite"
            )
        return losses, derivative

    def _array(self, value, what: str, shape: tuple[int, ...], dtype) -> np.ndarray:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ValueError(
                f"the loss function {self.name} returned {what} that are no array: {error}"
            ) from None
        if array.dtype.kind not in "iuf":
            raise ValueError(
                f"the loss function {self.name} returned {what} of {array.dtype}, not of numbers"
            )
        if array.shape != shape:
            raise ShapeError(
                f"the loss function {self.name} returned {what} of shape {array.shape} instead of "
                f"{shape}: a batch of {shape[0]} rows has " + _EXPECTED[len(shape)]
            )
        return array.astype(dtype, copy=False)


_EXPECTED = {1: "one loss for each", 2: "a derivative for each output of each"}


def _restore(function, name: str) -> Custom:
    return Custom.without_function(name) if function is None else Custom(function, name)


def _is_of_numba(function) -> bool:
    """Whether a function is one of ``numba.njit``; Numba is imported only for what is its own."""
    if not type(function).__module__.startswith("numba."):
        return False
    from numba.core.dispatcher import Dispatcher

    return isinstance(function, Dispatcher)


def _check_function(function, n_arguments: int) -> None:
    """Refuse what cannot be called with so many arguments."""
    if not callable(function) or isinstance(function, LossFunction | type):
        raise TypeError(f"Custom takes a function(y, a), or one of Numba, not {function!r}")
    try:
        signature = inspect.signature(getattr(function, "py_func", function))
    except (TypeError, ValueError):  # a function of C may have none
        return
    try:
        signature.bind(*[None] * n_arguments)
    except TypeError:
        kind = "of arrays takes (y, a)" if n_arguments == 2 else "of Numba takes (y, a, da)"
        raise TypeError(
            f"a loss function {kind}, but {_name_of(function)} takes {signature}"
        ) from None


def _name_of(function) -> str:
    name = str(getattr(function, "__name__", type(function).__name__))
    return "".join(c for c in name if c.isprintable())[:_MOST] or "custom"


def _check_name(name) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a loss must be text, not {name!r}")
    if not 1 <= len(name) <= _MOST or not name.isprintable():
        raise ValueError(
            f"the name of a loss must have 1 to {_MOST} printable characters, not {name[:_MOST]!r}"
        )
    return name


def _read_only(array: np.ndarray) -> np.ndarray:
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


@functools.lru_cache(maxsize=32)
def _compile(function, dtype: str) -> Any:
    """A C function of several rows, csrc/custom_loss.h, which calls the user's for each."""
    import numba
    from numba import carray, types

    ok = int(Status.OK)

    def losses_of_rows(y, a, da, losses, rows, n):
        shape = rows, n
        ys, outputs, derivatives = carray(y, shape), carray(a, shape), carray(da, shape)
        found = carray(losses, (rows,))
        for i in range(rows):
            for j in range(n):
                derivatives[i, j] = 0
        i = 0
        try:
            while i < rows:
                found[i] = function(ys[i], outputs[i], derivatives[i])
                i += 1
        except Exception:
            found[i] = np.nan  # the engine then calls it from Python, which raises the exception
        return ok

    pointer, words = types.CPointer(getattr(types, dtype)), [types.int64] * 2
    signature = types.int64(*[pointer] * 3, types.CPointer(types.float64), *words)
    return numba.cfunc(signature)(losses_of_rows)
