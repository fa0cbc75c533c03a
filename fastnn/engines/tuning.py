"""How many threads a program runs in, chosen by measuring it while it runs.

Machines differ, and another process can take a core away at any moment, so no constant says from
which size on a second thread helps. Instead the same program runs some batches in another number of
threads now and then, and the faster one is kept. This is safe because the number of threads changes
no bit of the result.
"""

from __future__ import annotations

import math

#: Seconds of a short run that measures one number of threads; of the run before it in which cores
#: that slept become fast; and of the run in more threads that must confirm it: longer than the
#: turns in which an operating system lets processes take a core.
TRIAL, WARM_UP, PROOF = 0.001, 0.003, 0.012
#: Longest run of several threads, in seconds, so that what has become slow is noticed soon.
SLICE = 0.02
#: Seconds between comparisons: at first, after a change, and at most; each is twice the last one.
SOONEST, SOON, LATEST = 0.05, 0.2, 4.0
#: Largest share of the time that may be lost by trying what turns out to be slower; the same before
#: anything has been tried; and how many seconds may be lost in any case.
MOST_LOST, FIRST_LOST, MAY_BE_LOST = 0.01, 0.05, 0.02
#: More threads must be this much faster to be chosen; fewer need not be slower than this.
GAIN = 0.97
#: Runs of so many seconds one after another that take this much longer than expected call for a
#: comparison with fewer threads, at first so many seconds after the last one, then twice as many
#: each time it was in vain.
SLOW, SLOWER, PATIENCE = 0.03, 1.2, 0.05
#: A difference this large ends a comparison early; one of a few batches, if twice as large.
CLEAR = 1.5
#: Weight in the average time of a batch of a run of SLICE.
NEWEST = 0.5


class Tuner:
    """The number of threads of one program, for batches of one size.

    Parameters
    ----------
    limit : int
        Most threads.
    guess : int
        The number to begin with.

    Attributes
    ----------
    threads : int
        The number that is best so far.
    """

    def __init__(self, limit: int, guess: int = 1):
        self.threads = max(1, min(guess, limit))
        powers = [1 << i for i in range(limit.bit_length()) if 1 << i < limit]
        self._candidates = [*powers, limit]
        if self.threads not in self._candidates:
            self.threads = max(n for n in self._candidates if n <= self.threads)
        self._expected = math.nan  # least seconds per batch in `threads`, and their average
        self._average, self._averaged = math.nan, 0  # ... over so many runs
        self._ran = self._lost = 0.0  # seconds of all runs, and those lost by trying
        self._interval, self._next, self._last = SOONEST, 2 * TRIAL, -math.inf
        self._trial: _Trial | None = None
        self._upwards = True
        self._slow, self._patience = 0.0, PATIENCE  # seconds of slow runs one after another

    def next(self, batches: int) -> tuple[int, int]:
        """(threads, batches) of the next run; `batches` are left."""
        if self._trial is None and self._may_compare():
            other = self._other()
            if other is not None:
                average = self._average if self._averaged > 1 else math.nan
                self._trial = _Trial(self.threads, other, self._expected, average)
        if self._trial is not None:
            threads, wanted = self._trial.next()
            return threads, min(wanted, batches)
        if math.isnan(self._expected):
            return self.threads, 1
        if self.threads == 1 and len(self._candidates) == 1:
            return 1, batches
        seconds = SLICE if self.threads > 1 else max(SLICE, self._next - self._ran)
        return self.threads, min(batches, max(1, int(seconds / self._expected)))

    def record(self, threads: int, batches: int, seconds: float) -> None:
        """Note how long a run of :meth:`next` took."""
        took = seconds = max(seconds, 1e-9)
        if not math.isnan(self._expected):  # a process that was stopped takes any time
            seconds = min(seconds, 10 * (batches * self._expected + TRIAL))
        self._ran += seconds
        each = seconds / batches
        trial = self._trial
        if trial is not None:
            if threads != trial.best:
                self._lost += max(0.0, seconds - batches * trial.expected)
            trial.record(threads, batches, each)
            if trial.is_over:
                self._decide(trial)
        elif threads == self.threads:
            slow = each > SLOWER * self._expected and threads > 1
            self._slow = self._slow + took if slow else 0.0
            if seconds >= SLICE / 4:  # shorter ones may only have started the threads
                share = NEWEST * min(1.0, seconds / SLICE) if self._averaged else 1.0
                before = self._average if self._averaged else 0.0
                self._average = share * each + (1.0 - share) * before
                self._averaged += 1
            if not each >= self._expected:
                self._expected = each

    def give_up(self, batches: int, seconds: float) -> None:
        """Note that a run had only one thread: others have the cores now."""
        self._ran += seconds
        if self._trial is None:
            self.threads, self._averaged = 1, 0
            self._expected = max(seconds, 1e-9) / batches
        self._trial, self._slow = None, 0.0
        self._next = self._ran + SOON

    @property
    def _is_slow(self) -> bool:
        return self._slow >= SLOW and self._ran >= self._last + self._patience

    def _may_compare(self) -> bool:
        if self._is_slow:
            return True
        if math.isnan(self._expected) or self._ran < self._next:
            return False
        risk = max(TRIAL, self._expected)  # of one run that takes twice as long
        share = MOST_LOST if self._lost else FIRST_LOST
        return self._lost + risk <= max(MAY_BE_LOST, share * self._ran)

    def _other(self) -> int | None:
        """The candidate next to the best one, above and below in turns; below if it is slow."""
        at = self._candidates.index(self.threads)
        if self._is_slow:
            return self._candidates[at - 1]
        neighbours = [self._candidates[i] for i in (at - 1, at + 1) if 0 <= i < self._count]
        if not neighbours:
            return None
        upwards, self._upwards = self._upwards, not self._upwards
        return neighbours[upwards % len(neighbours)]

    @property
    def _count(self) -> int:
        return len(self._candidates)

    def _decide(self, trial: _Trial) -> None:
        best, other = trial.seconds
        was_slow = self._slow >= SLOW
        self._trial, self._last, self._slow = None, self._ran, 0.0
        if trial.is_won:
            self.threads, self._expected, self._averaged = trial.other, other, 0
            self._interval = SOON
            soon = TRIAL  # perhaps the next candidate in this direction is better still
            self._upwards = trial.other > trial.best
            self._patience = PATIENCE
        else:
            self._expected = best
            soon = self._interval
            self._interval = min(2 * self._interval, LATEST)
            self._patience = min(2 * self._patience, LATEST) if was_slow else PATIENCE
        self._next = self._ran + (soon if self._count > 2 else self._interval)


class _Trial:
    """Runs in the best and in another number of threads, in turns.

    Parameters
    ----------
    best, other : int
        The numbers of threads.
    expected, average : float
        The least and the average seconds per batch in `best`.
    """

    def __init__(self, best: int, other: int, expected: float, average: float):
        self.best, self.other, self.expected = best, other, expected
        self._average = average
        self._times: dict[int, list[float]] = {best: [], other: []}
        batches = max(1, int(TRIAL / expected))
        # Before the first measured run in another number, threads may have to be started, cores
        # become fast and data move; not if a batch takes so long that this does not count.
        warm = [(other, 2), (other, int(WARM_UP / expected))] if expected < WARM_UP else []
        self._warm_ups = len(warm)
        self._plan = [(best, batches), *warm, (other, batches)]
        self._plan += [(best, batches), (other, batches)]
        self._proof = 0.0
        self.is_over = self.is_won = False

    def next(self) -> tuple[int, int]:
        """(threads, batches) of the next run."""
        return self._plan[0]

    def record(self, threads: int, batches: int, each: float) -> None:
        """Note the seconds per batch of the run that :meth:`next` named."""
        self._plan.pop(0)
        if threads == self.other and self._warm_ups:
            self._warm_ups -= 1
            if self._warm_ups or each <= 2 * CLEAR * self.expected:
                return
        self._times[threads].append(each)
        best, other = self.seconds
        clear = other > CLEAR * best or best > CLEAR * other
        if self._plan and not (clear and threads == self.other):
            return
        self.is_won = self._wins(best, other)
        if self.is_won and self.other > self.best and not self._proof:
            # Beside another process, short runs may all fall into turns without it.
            self._proof = PROOF
            self._times[self.other].clear()
            self._plan = [(self.other, max(1, int(PROOF / other)))]
        else:
            self.is_over = True

    def _wins(self, best: float, other: float) -> bool:
        if self.other > self.best:
            return other < GAIN * best
        # What several threads take on average counts, not their best moment.
        return other < max(best, self._average)

    @property
    def seconds(self) -> tuple[float, float]:
        """The least seconds per batch of the best and of the other number."""
        best, other = (min(self._times[n], default=math.inf) for n in (self.best, self.other))
        return min(best, self.expected) if math.isinf(best) else best, other
