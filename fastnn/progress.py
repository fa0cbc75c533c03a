"""The progress bar of a fit, with tqdm (extra ``cli``).

tqdm writes the line, on a terminal or in a notebook. What the line says is composed here, so that
it fits the terminal, and so that rate and time left are those of training alone.
"""

from __future__ import annotations

import math
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from .engines import compilation

#: Seconds between two updates of the line.
_INTERVAL = 0.1

#: Seconds after which a past rate counts 1/e.
_MEMORY = 20.0

#: Epochs over which the time between the steps of two epochs is averaged.
_GAPS = 5

#: Columns of the bar itself, at least; a line without room for them has none.
_BAR = 10

#: Values of an epoch that the line leaves out.
_HIDDEN = ("seconds",)


class ProgressBar:
    """A line on stderr that says how far a fit is, or nothing.

    It shows the epoch, the values of the last complete one, training rows per second and the time
    left. Its clock starts with :meth:`begin`. Before, the line only says that kernels are being
    compiled, if any are. Threads may share a bar.

    Parameters
    ----------
    show : bool or "auto"
        "auto" shows it on a terminal and in a notebook if tqdm is installed.
    total : int or None
        Rows of all epochs together; None if unknown.
    n_epochs : int or None
        Epochs; None if unknown.
    seconds : float or None
        A budget of time, which the bar counts too: what is nearer to its end is shown.
    label : str
        How the line begins; this attribute may be changed.
    counted : str
        What is called epoch here.

    Raises
    ------
    ImportError
        If `show` is True and tqdm is not installed.
    ValueError
        If `show` is True and the process has no stderr.

    Examples
    --------
    >>> with ProgressBar(False, total=200, n_epochs=2) as bar:
    ...     bar.begin()
    ...     for epoch in (1, 2):
    ...         bar.advance(100)
    ...         bar.finish_epoch(epoch, {"loss": 0.5})
    """

    def __init__(
        self, show, *, total: int | None = None, n_epochs: int | None = None,
        seconds: float | None = None, label: str = "", counted: str = "epoch",
    ):  # fmt: skip
        self.label, self._counted = label, counted
        self._total, self._n_epochs, self._seconds = total, n_epochs, seconds
        self._make = _maker(show)
        self._bar: Any = None
        self._lock = threading.RLock()
        self._listens = self._closed = self._begun = False
        self._n_compiled, self._kernel = 0, ""
        self._rows = self._first_rows = self._rows_of_epoch = 0
        self._epoch = self._first_epoch = 0
        self._values: Mapping[str, float] = {}
        self._began = self._shown = 0.0
        self._pace = _Pace()

    @property
    def is_shown(self) -> bool:
        """Whether there is a line."""
        return self._make is not None

    def __enter__(self) -> ProgressBar:
        self._listen()
        return self

    def __exit__(self, kind, *_) -> None:
        # After Ctrl-C the line says how far the fit came. An error erases it.
        self.close(keep=kind is None or not issubclass(kind, Exception))

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Say in this context that kernels are compiled; afterwards the line is empty."""
        self._listen()
        try:
            with compilation.reported():
                yield
        except BaseException:
            self.close(keep=False)
            raise
        with self._lock:
            self._stop_listening()
            if self._bar is not None and not self._begun:
                self._bar.clear()

    def begin(self, done_rows: int = 0, epoch: int = 0, done_seconds: float = 0.0) -> None:
        """Start the clock: the next thing is a step.

        Parameters
        ----------
        done_rows : int
            Rows of the total that are done already, as in a fit that is resumed.
        epoch : int
            Epochs that are complete.
        done_seconds : float
            Seconds of the budget that are used.
        """
        if self._make is None or self._closed:
            return
        with self._lock:
            self._stop_listening()
            self._begun = True
            self._rows = self._first_rows = done_rows
            self._epoch = self._first_epoch = epoch
            now = time.perf_counter()
            self._began = now - done_seconds
            self._pace = _Pace(now)
            self._draw()

    def advance(self, rows: int) -> None:
        """Count rows of training."""
        if self._bar is None:
            return
        with self._lock:
            now = time.perf_counter()
            self._rows += rows
            self._rows_of_epoch += rows
            self._pace.advance(now, rows)
            if now - self._shown >= _INTERVAL:
                self._draw()

    def expect(self, total: int) -> None:
        """Change the total, where less is trained than was planned."""
        with self._lock:
            self._total = total

    def begin_epoch(self) -> None:
        """Continue with training: what came since the last epoch was something else."""
        if self._bar is not None:
            with self._lock:
                self._pace.begin_epoch(time.perf_counter())

    def finish_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Show the values of an epoch; `epoch` is the number of complete ones."""
        if self._bar is None:
            return
        with self._lock:
            now = time.perf_counter()
            self._epoch, self._values, self._rows_of_epoch = epoch, values, 0
            self._pace.finish_epoch(now)
            if self._size is None and self._n_epochs is not None and epoch > self._first_epoch:
                self._learn_total(self._n_epochs)
            if now - self._shown >= _INTERVAL:
                self._draw()

    def close(self, keep: bool = True) -> None:
        """End the line; it is erased unless `keep`, or if no training has begun."""
        with self._lock:
            self._stop_listening()
            self._closed = True
            bar, self._bar = self._bar, None
            if bar is not None:
                bar.n, bar.total, bar.leave = self._position, self._size, keep and self._begun
                bar.close()

    def _compiles(self, kernel: str) -> None:
        with self._lock:
            if not (self._begun or self._closed):
                self._n_compiled, self._kernel = self._n_compiled + 1, kernel
                self._draw()

    def _listen(self) -> None:
        if self._make is not None and not self._listens:
            self._listens = True
            compilation.listen(self._compiles)

    def _stop_listening(self) -> None:
        if self._listens:
            self._listens = False
            compilation.forget(self._compiles)

    def _learn_total(self, n_epochs: int) -> None:
        """Infer the rows of all epochs from those of the complete ones."""
        per_epoch = (self._rows - self._first_rows) / (self._epoch - self._first_epoch)
        if not self._first_rows:
            self._rows += round(per_epoch * self._first_epoch)
        self._total = round(per_epoch * n_epochs)
        self._bar.reset(self._total)  # which a notebook's bar must be told
        self._shown = -math.inf

    def _draw(self) -> None:
        self._shown = time.perf_counter()
        if self._bar is None:
            assert self._make is not None
            self._bar = self._make(self._line, self._size, self._position)
            return  # which has drawn it
        self._bar.n, self._bar.total = self._position, self._size
        self._bar.refresh()

    @property
    def _size(self) -> float | None:
        """What the bar counts to: seconds or rows."""
        return self._total if self._seconds is None else self._seconds

    @property
    def _position(self) -> float:
        if self._seconds is None:
            return self._rows if self._total is None else min(self._rows, self._total)
        passed = self._elapsed if self._begun else 0.0
        if self._total:
            passed = max(passed, self._rows / self._total * self._seconds)
        return min(passed, self._seconds)

    @property
    def _elapsed(self) -> float:
        return time.perf_counter() - self._began

    @property
    def _left(self) -> float | None:
        """The seconds that the rest takes; None if unknown."""
        if self._closed:
            return None
        left = None
        if self._total is not None:
            epochs = 0 if self._n_epochs is None else self._n_epochs - self._epoch
            left = self._pace.seconds(max(0, self._total - self._rows), max(0, epochs))
        if self._seconds is not None:
            budget = max(0.0, self._seconds - self._elapsed)
            left = budget if left is None else min(left, budget)
        return left

    def _line(self, columns: int | None) -> str:
        """What to write, as tqdm's format."""
        label = self.label and f"{self.label} "
        if not self._begun:
            text = f"{label}compiling kernels: {self._n_compiled} so far ({self._kernel})"
            return _literal(_joined(text.split(" "), columns))
        running = self._rows_of_epoch > 0 or self._epoch == self._first_epoch
        epoch = f"{self._epoch + running}"
        if self._n_epochs is not None:
            epoch = f"{min(self._epoch + running, self._n_epochs)}/{self._n_epochs}"
        size = self._size
        done = f"{_short(self._rows)}row"
        if size is not None:
            done = f"{math.floor(100 * self._position / size) if size else 100}%"
        texts = _Texts(
            label, f"{self._counted} {epoch}", done, size is not None, _time(self._elapsed),
            _time(self._left), _short(self._pace.rate),
            [f"{n}={_value(v)}" for n, v in self._values.items() if n not in _HIDDEN],
        )  # fmt: skip
        return texts.wide(columns) or texts.narrow(columns)


class _Pace:
    """How long rows and epochs take: recent ones count more.

    Time between the last step of an epoch and the first of the next one, as for validation and
    callbacks, is kept apart: it comes once an epoch, and the rate is that of training.
    """

    def __init__(self, now: float = 0.0):
        self._last = now
        self._rows = self._seconds = self._gap = 0.0
        self._n_epochs = 0

    def advance(self, now: float, rows: int) -> None:
        passed = now - self._last
        weight = math.exp(-passed / _MEMORY)
        self._rows = weight * self._rows + rows
        self._seconds = weight * self._seconds + passed
        self._last = now

    def finish_epoch(self, now: float) -> None:
        self._n_epochs += 1
        self._gap += (now - self._last - self._gap) / min(self._n_epochs, _GAPS)
        self._last = now

    def begin_epoch(self, now: float) -> None:
        if self._n_epochs:
            self._gap += (now - self._last) / min(self._n_epochs, _GAPS)
        self._last = now

    @property
    def rate(self) -> float | None:
        """Rows per second of training; None before the first."""
        return self._rows / self._seconds if self._rows and self._seconds else None

    def seconds(self, rows: int, epochs: int) -> float | None:
        """What so many rows, which end so many epochs, will take; None if unknown."""
        rate = self.rate
        return None if rate is None else rows / rate + epochs * self._gap


class _Texts(NamedTuple):
    """The pieces of a line, and how they are put together."""

    label: str
    epoch: str
    done: str
    has_bar: bool
    elapsed: str
    left: str
    rate: str
    values: list[str]

    def wide(self, columns: int | None) -> str | None:
        """A line with a bar if the total is known; None if it does not fit."""
        start = f"{self.label}{self.epoch}: {self.done:>4}"
        inside = [f"{self.elapsed}<{self.left}" if self.left else self.elapsed]
        inside += [*([f"{self.rate}row/s"] if self.rate else []), *self.values[:1]]
        bar = 2 + _BAR if self.has_bar else 0
        room = math.inf if columns is None else columns - bar
        room -= _width(f"{start} [{', '.join(inside)}]")
        if room < 0:
            return None
        for value in self.values[1:]:
            room -= 2 + _width(value)
            if room < 0:
                break
            inside.append(value)
        end = _literal(f" [{', '.join(inside)}]")
        return f"{_literal(start)}{'|{bar}|' if self.has_bar else ''}{end}"

    def narrow(self, columns: int | None) -> str:
        """As much as fits, the most important first."""
        first = [self.done, f"{self.left} left" if self.left else self.elapsed, *self.values[:1]]
        if self.rate:
            first.append(f"{self.rate}/s")
        head = f"{self.label}{self.epoch}"
        if columns is not None and _width(" ".join([head, *first])) > columns:
            head = f"{self.label}{self.epoch.split()[-1]}"
        return _literal(_joined([head, *first, *self.values[1:]], columns))


def _joined(items: list[str], columns: int | None) -> str:
    """The first items with blanks between them, as many as fit; the first one is cut."""
    text = items[0]
    for item in items[1:]:
        longer = f"{text} {item}"
        if columns is not None and _width(longer) > columns:
            break
        text = longer
    return text if columns is None or _width(text) <= columns else text[: columns // 2]


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _width(text: str) -> int:
    """The columns that a text takes: two for a wide sign of East Asia."""
    return len(text) + sum(unicodedata.east_asian_width(sign) in "FW" for sign in text)


def _value(value: float) -> str:
    """A loss or metric; in general with four decimals, so that the line does not jump."""
    if 0 < abs(value) < 1e-3:
        return f"{value:.2g}"
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3g}"


def _short(number: float | None) -> str:
    """A number with three digits, such as 4.20k; nothing for None."""
    if number is None:
        return ""
    units = iter("kMGTPE")
    unit = ""
    while number >= 999.5 and unit != "E":
        number, unit = number / 1000, next(units)
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}{unit}"


def _time(seconds: float | None) -> str:
    """Minutes and seconds, or hours too; nothing for None."""
    if seconds is None:
        return ""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute:02d}:{second:02d}"


def _maker(show) -> Callable[[Callable[[int | None], str], float | None, float], Any] | None:
    """What makes a bar of tqdm from a function that composes its line, a total and a position."""
    if not isinstance(show, str):
        show = bool(show)
    if show is False or (show == "auto" and not (_on_terminal() or _in_notebook())):
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        if show == "auto":
            return None
        raise ImportError("a progress bar needs tqdm: pip install 'fastnn-cpu[cli]'") from None
    if sys.stderr is None:
        raise ValueError("a progress bar needs stderr, which this process does not have")

    class Bar(tqdm):
        """A bar whose line is composed elsewhere."""

        monitor_interval = 0  # tqdm's thread would have nothing to do

        def __init__(self, line, total, position):
            self.line = line
            super().__init__(total=total, initial=position, dynamic_ncols=True, file=sys.stderr)

        @property
        def format_dict(self):
            known = super().format_dict
            columns = known["ncols"]
            known["bar_format"] = self.line(columns if isinstance(columns, int) else None)
            return known

    return Bar


def _on_terminal() -> bool:
    """Whether stderr is a terminal; it is None in a process without a console."""
    return sys.stderr is not None and sys.stderr.isatty()


def _in_notebook() -> bool:
    """Whether this is a kernel of Jupyter, whose stderr is no terminal."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = None if get_ipython is None else get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
