"""Many independent networks, trained on the same rows side by side."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import reprlib
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from . import callbacks, engines, interrupts, preparation
from . import halving as halvings
from .callbacks import Callback
from .crew import Crew
from .epochs import Epochs
from .errors import TrainManyError, TrainManyInterrupt
from .halving import Halving, Rung
from .model import Sequential
from .names import unknown
from .network import Network
from .preparation import Checked
from .progress import ProgressBar
from .settings import Settings
from .sharing import Shared
from .training import Training

_OF_NETWORKS = tuple(inspect.signature(Network.__init__).parameters)[1:]
_OF_FITS = ("y", *(field.name for field in dataclasses.fields(Settings)))


@interrupts.deferred
def train_many(
    specs, X, y, *, callback=None, halving=None, progress="auto", **common
) -> list[Sequential]:
    """Train independent networks on the same rows, on all cores at once.

    Each network is trained in one thread while there are at least as many networks as threads
    (:func:`fastnn.set_num_threads`); the last ones may use what is free. Every network equals the
    one that :class:`fastnn.Sequential` and its `fit` give with the same arguments, bit for bit.
    X is checked once and not copied.

    Parameters
    ----------
    specs : iterable of dict
        The arguments of each network: those of :class:`fastnn.Sequential` (``layers``, ``seed``,
        ``dtype``, ...) and those of its `fit` (``optimizer``, ``epochs``, ``batch_size``,
        ``rows``, ...). ``rows`` trains on some rows of X; ``y`` takes the place of the common one.
    X : array_like or sparse matrix, shape (m, n_inputs)
    y : array_like, shape (m,) or (m, n_outputs)
    callback : callable, optional
        ``callback(index, training)`` is called after each epoch of each network, with its number
        in `specs` and the running :class:`fastnn.training.Training`: ``training.values``,
        ``training.stop(reason)`` and so on. It is called in the threads of the networks, but never
        twice at the same time.
    halving : Halving, optional
        Ends all but the best networks early: see :class:`fastnn.Halving`.
    progress : bool or "auto"
        "auto" shows one bar over all networks on a terminal.
    **common
        Arguments for all networks whose spec does not have them.

    Returns
    -------
    list of Sequential
        The networks in the order of `specs`, each with its ``history``.

    Raises
    ------
    TypeError, ValueError
        If an argument of a network is unknown or invalid; the message names the spec, and nothing
        has been trained.
    TrainManyError
        If networks fail, as where a loss becomes infinite. The others are trained: ``networks`` of
        the error holds all, ``failed`` what was raised.
    TrainManyInterrupt
        After Ctrl-C, a KeyboardInterrupt: ``networks`` of it holds what has been trained.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn import Adam, Dense
    >>> X, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0]
    >>> specs = [{"seed": seed, "optimizer": Adam(lr)} for seed in (0, 1) for lr in (0.01, 0.1)]
    >>> nets = fastnn.train_many(specs, X, y, layers=[Dense(8, "tanh"), Dense(1)], epochs=150,
    ...                          progress=False)
    >>> [net.seed for net in nets]
    [0, 0, 1, 1]
    >>> nets[3].predict(X)
    array([0, 1, 1, 0])
    """
    rule = halvings.get(halving)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of (index, training), not {callback!r}")
    if progress not in (True, False, "auto"):
        raise ValueError(f"progress must be True, False or 'auto', not {progress!r}")
    if isinstance(specs, Mapping | str) or not isinstance(specs, Iterable):
        raise TypeError(f"specs must be a list of dicts, not {reprlib.repr(specs)}")
    # Each network reads them anew.
    common = {k: tuple(v) if isinstance(v, Iterator) else v for k, v in common.items()}
    _check_common(common)
    shared = Shared(X, y)
    lock = threading.Lock()
    jobs = [_Job.of(i, spec, common, shared, callback, lock) for i, spec in enumerate(specs)]
    _check_checkpoints(jobs)
    race = _Race(rule, jobs)
    del shared
    if progress is not False:
        names = sorted({j.checked.targets.loss.name for j in jobs if j.settings.loss == "auto"})
        if names:
            preparation.tell(f"fastnn: loss='auto' is {', '.join(names)} for these targets")
    _train(race, progress)
    failed = {job.index: job.error for job in jobs if job.error is not None}
    networks = [job.net for job in jobs]
    if failed:
        shown = "; ".join(
            f"specs[{i}], {_shown(jobs[i].spec)}: {type(e).__name__}: {e}"
            for i, e in failed.items()
        )
        message = f"{len(failed)} of {len(jobs)} networks failed, the others are trained: {shown}"
        raise TrainManyError(message, list(failed.values()), networks, failed)
    return networks


def _train(race: _Race, progress) -> None:
    """Run all jobs, selection by selection."""
    jobs = race.jobs
    bar = _Bar(progress, race)
    crew = Crew(engines.get_num_threads(), bar.look)
    try:
        with bar:
            for rung in [*race.rungs, None]:
                until = math.inf if rung is None else rung.epochs
                running = sorted((j for j in jobs if j.is_unfinished), key=lambda j: -j.cost)
                crew.run([functools.partial(job.train, until) for job in running])
                if rung is not None:
                    race.select(rung)
    except KeyboardInterrupt:
        for job in jobs:
            job.end()
        done = sum(job.has_ended for job in jobs)
        failed = {job.index: job.error for job in jobs if job.error is not None}
        interrupts.take()  # one that came while the threads ended
        raise TrainManyInterrupt(
            f"{done} of {len(jobs)} networks are trained; all are in `networks` of this exception",
            [job.net for job in jobs], failed,
        ) from None  # fmt: skip
    except BaseException:
        for job in jobs:
            job.end()
        raise


class _Job:
    """One network: its arguments, its fit, and what became of it.

    Attributes
    ----------
    cost : float
        A measure of the time that it takes.
    n_epochs : int or None
        Epochs of its fit, if they are known.
    has_ended : bool
        Whether its fit has come to an end of its own.
    error : Exception or None
        What ended it.
    """

    def __init__(self, index: int, spec: dict, net: Sequential, settings: Settings, checked):
        self.index, self.spec, self.net, self.settings = index, spec, net, settings
        self.checked: Checked = checked
        self.training: Training | None = None
        self.has_ended = False
        self.error: Exception | None = None
        self._epochs: Epochs | None = None
        self._rows = 0
        self._values: Mapping[str, float] = {}
        data = checked.targets.data
        self._n_batches, self._n_rows, self._size = data.n_batches, data.n_rows, data.batch_size
        self.n_epochs, self.n_steps = settings.length(self._n_batches)
        steps = math.inf if self.n_steps is None else self.n_steps
        self.cost = float(steps * data.batch_size * checked.plan.n_params)

    @classmethod
    def of(cls, index: int, spec, common: dict, shared: Shared, callback, lock) -> _Job:
        """The job for a spec, checked as far as that needs no arrays.

        Raises
        ------
        TypeError, ValueError
            If it is not right; the message begins with its number.
        """
        try:
            if not isinstance(spec, Mapping):
                raise TypeError(f"a spec must be a dict of arguments, not {reprlib.repr(spec)}")
            of_network, of_fit = _separated({**common, **spec})
            y = of_fit.pop("y", shared.y)
            if callback is not None:
                each = _AfterEpoch(index, callback, lock)
                of_fit["callbacks"] = (*callbacks.get(of_fit.get("callbacks", ())), each)
            if y is None:
                raise TypeError("y is missing: give it for all networks, or in each spec")
            net = Sequential(**of_network)
            settings = Settings(**of_fit, progress=False)
            return cls(index, dict(spec), net, settings, shared.check(net, y, settings))
        except Exception as error:
            if error.args and isinstance(error.args[0], str):
                error.args = (f"specs[{index}]: {error.args[0]}", *error.args[1:])
            else:
                error.add_note(f"in specs[{index}]")
            raise

    @property
    def has_begun(self) -> bool:
        """Whether its kernels have been compiled, or it has ended already."""
        return self.training is not None or not self.is_unfinished

    @property
    def is_unfinished(self) -> bool:
        """Whether there is more to train."""
        return not self.has_ended and self.error is None

    @np.errstate(all="ignore")
    def train(self, until: float) -> None:
        """Train up to this number of epochs, or to the end."""
        net = self.net
        try:
            if self._epochs is None:
                self.training = preparation.ready(self.checked)
                self._epochs = Epochs(self.training)
                net._epochs = weakref.ref(self._epochs)
            assert self.training is not None
            history, advance = self.training.history, self._epochs.advance
            self.training.unwatched_until = until
            while history.n_epochs < until:
                advance()
        except StopIteration:
            self._finish()
        except Exception as error:
            error.add_note(f"in train_many, specs[{self.index}]: {_shown(self.spec)}")
            self.error = error
            self._finish()

    def stop(self, reason: str) -> None:
        """End a fit that waits between two epochs."""
        if self.is_unfinished and self.training is not None:
            self.training.stop(reason)
            self.train(math.inf)

    def end(self) -> None:
        """Leave the network with what it has."""
        if self._epochs is not None and self.training is not None:
            self.training.stop("train_many was interrupted")
            self._epochs.close()
        self.net._prepared = None

    def _finish(self) -> None:
        self._rows, self._values = self.rows_done, self.values
        self.has_ended = self.error is None
        self.net._prepared = None  # its workspace; a further fit makes another one
        self._epochs = self.training = None

    @property
    def values(self) -> Mapping[str, float]:
        """Those of its last epoch."""
        return self._values if self.training is None else self.training.values

    @property
    def rows_done(self) -> int:
        """Rows that it has trained on, each epoch anew."""
        training = self.training  # which its thread may take away
        return self._rows if training is None else self._rows_of(training.step)

    def rows_until(self, epochs: float) -> float:
        """Rows after so many epochs or at the end; infinite if only time ends it."""
        steps = epochs * self._n_batches
        if self.n_steps is not None:
            steps = min(steps, self.n_steps)
        return steps if math.isinf(steps) else self._rows_of(int(steps))

    def _rows_of(self, steps: int) -> int:
        epochs, rest = divmod(steps, self._n_batches)
        return epochs * self._n_rows + min(rest * self._size, self._n_rows)


class _AfterEpoch(Callback):
    """The user's function of all networks, as a callback of one."""

    def __init__(self, index: int, function: Callable[[int, Training], Any], lock):
        self.index, self.function, self.lock = index, function, lock

    def on_epoch_end(self, training: Training) -> None:
        with self.lock:
            self.function(self.index, training)


class _Race:
    """The jobs, and the selections among them.

    Attributes
    ----------
    rungs : list of Rung
    ended : set of int
        The networks that a selection has ended.
    """

    def __init__(self, rule: Halving | None, jobs: list[_Job]):
        self.rule, self.jobs = rule, jobs
        self.ended: set[int] = set()
        self._rows, self._counted = 0, list(jobs)
        self.rungs: list[Rung] = []
        if rule is None or not jobs:
            return
        lengths = [self._length(rule, job) for job in jobs]
        self.rungs = rule.rungs(len(jobs), max(lengths))
        mode = rule.mode
        if mode == "auto":
            mode = jobs[0].checked.directions[rule.metric]
        self._larger = mode == "max"

    @staticmethod
    def _length(rule: Halving, job: _Job) -> int:
        names, where = job.checked.directions, f"specs[{job.index}]: "
        if job.settings.optimizer.full_batch:
            raise ValueError(f"{where}LBFGS cannot wait between its iterations, as halving needs")
        if job.settings.seconds is not None or job.n_epochs is None:
            raise ValueError(
                f"{where}halving compares networks after the same epochs: give epochs or steps "
                "instead of seconds"
            )
        if rule.metric not in names:
            hint = "" if job.checked.validation else "; give validation_data or validation_split"
            raise ValueError(
                f"{where}halving follows {rule.metric!r}, but the values of an epoch are "
                f"{', '.join(map(repr, names))}{hint}"
            )
        return job.n_epochs

    def select(self, rung: Rung) -> None:
        """End all networks but the best ones; those that failed are out of it."""
        assert self.rule is not None
        name = self.rule.metric
        values = {
            job.index: job.values.get(name, math.nan)  # it may have been stopped before its first
            for job in self.jobs
            if job.index not in self.ended and job.error is None
        }
        ranked = self.rule.ranked(values, self._larger)
        for place, index in enumerate(ranked[rung.keep :], rung.keep + 1):
            self.ended.add(index)
            self.jobs[index].stop(
                f"halving: number {place} of {len(ranked)} by {name} after {rung.epochs} epochs, "
                f"{rung.keep} go on"
            )

    def best(self) -> dict[str, float]:
        """The least loss of a network that has ended, of validation if there is one."""
        found: dict[str, float] = {}
        for job in self.jobs:
            name = "val_loss" if "val_loss" in job.values else "loss"
            if job.has_ended and job.values:
                found[f"best {name}"] = min(job.values[name], found.get(f"best {name}", math.inf))
        return found

    def rows_done(self) -> int:
        """Rows that all networks together have trained on."""
        still = []
        for job in self._counted:
            if job.training is None and not job.is_unfinished:
                self._rows += job.rows_done
            else:
                still.append(job)
        self._counted = still
        return self._rows + sum(job.rows_done for job in still)

    def rows_expected(self) -> int | None:
        """Rows that all networks together will have trained on; None if that is not known."""
        jobs = [job for job in self.jobs if job.is_unfinished and job.index not in self.ended]
        lengths = [job.rows_until(math.inf) for job in jobs]
        if any(math.isinf(length) for length in lengths):
            return None
        total: float = sum(job.rows_done for job in self.jobs)
        total -= sum(job.rows_done for job in jobs)
        # Whoever is ended, it is the same sum if all are alike; else the longest may go on.
        order = sorted(range(len(jobs)), key=lambda i: -lengths[i])
        for place, i in enumerate(order):
            at = next((r.epochs for r in self.rungs if place >= r.keep), math.inf)
            total += max(jobs[i].rows_done, jobs[i].rows_until(at))
        return int(total)


class _Bar:
    """One progress bar over all networks, which the caller's thread draws."""

    def __init__(self, show, race: _Race):
        self._race, self._shows = race, show is not False
        self._begun, self._done, self._ended = False, 0, 0
        self._total = race.rows_expected() if self._shows else None
        self._bar = ProgressBar(
            show, total=self._total, n_epochs=len(race.jobs), counted="network"
        )  # fmt: skip

    def __enter__(self) -> _Bar:
        self._bar.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._bar.__exit__(*error)

    def look(self) -> None:
        """Show how far the networks are."""
        if not self._shows:
            return
        jobs, done = self._race.jobs, self._race.rows_done()
        if not self._begun:
            if not any(job.has_begun for job in jobs):
                return
            self._bar.begin(done)
            self._begun, self._done = True, done
        if done > self._done:
            self._bar.advance(done - self._done)
            self._done = done
        ended = sum(not job.is_unfinished for job in jobs)
        if ended > self._ended:
            self._ended = ended
            total = self._race.rows_expected()
            if total is not None and total != self._total:
                self._total = total
                self._bar.expect(total)
            self._bar.finish_epoch(ended, self._race.best())


def _check_common(common: Mapping) -> None:
    given = common.get("callbacks", ())
    if isinstance(given, Callback) or not isinstance(given, Iterable):
        given = (given,)
    if any(isinstance(one, Callback) for one in given):
        raise TypeError(
            "callbacks for all networks must be functions: an object of Callback belongs to one "
            "fit, so put one into each spec"
        )
    if common.get("checkpoint") is not None:
        raise ValueError("each network needs a checkpoint of its own: put it into the specs")


def _check_checkpoints(jobs: list[_Job]) -> None:
    first: dict[Any, int] = {}
    for job in jobs:
        path = job.settings.checkpoint
        if path is not None and first.setdefault(path, job.index) != job.index:
            raise ValueError(
                f"specs[{job.index}]: checkpoint is {str(path)!r}, as in specs[{first[path]}]: "
                "give each network a file of its own"
            )


def _separated(arguments: Mapping) -> tuple[dict, dict]:
    """The arguments of the network, and those of its fit."""
    of_network, of_fit = {}, {}
    for name, value in arguments.items():
        if name == "progress":
            raise TypeError("there is one progress bar for all networks: give it to train_many")
        if name == "X":
            raise TypeError("all networks have the same X: use rows for a part of it")
        if name in _OF_NETWORKS:
            of_network[name] = value
        elif name in _OF_FITS:
            of_fit[name] = value
        else:
            known = [*_OF_NETWORKS, *(n for n in _OF_FITS if n != "progress")]
            raise TypeError(str(unknown("argument", name, known)))
    if "layers" not in of_network:
        raise TypeError("a network needs layers: put them into its spec, or give them for all")
    return of_network, of_fit


_repr = reprlib.Repr()
_repr.maxdict, _repr.maxlist, _repr.maxother, _repr.maxstring = 12, 6, 80, 60


def _shown(spec: Mapping) -> str:
    """A spec in one line, without the contents of arrays."""
    parts = []
    for name, value in spec.items():
        if isinstance(value, np.ndarray):
            shown = f"<{value.dtype} of shape {value.shape}>"
        else:
            shown = " ".join(_repr.repr(value).split())
        parts.append(f"{name!r}: {shown}")
    return "{" + ", ".join(parts) + "}"
