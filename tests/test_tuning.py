"""How many threads a program runs in: the tuner, with a simulated clock."""

import random

import numpy as np
import pytest

from fastnn.engines import tuning
from fastnn.engines.tuning import Tuner


class Clock:
    """A program whose batches take as long as a function of (threads, seconds since the start)."""

    def __init__(self, limit, seconds, guess=1):
        self.tuner = Tuner(limit, guess)
        self.seconds = seconds
        self.now = 0.0
        self.runs = []

    def run_until(self, end):
        """Run until then, in calls of 100 ms as fits make them."""
        while self.now < end:
            until = min(end, self.now + 0.1)
            while self.now < until:
                each = self.seconds(self.tuner.threads, self.now)
                n, count = self.tuner.next(max(1, int((until - self.now) / each)))
                assert count >= 1
                took = count * self.seconds(n, self.now)
                self.tuner.record(n, count, took)
                self.runs.append((self.now, n, count, took))
                self.now += took

    def share(self, n, since=0.0):
        """The share of the time that runs in n threads took."""
        total = sum(took for began, _, _, took in self.runs if began >= since)
        return sum(t for began, m, _, t in self.runs if m == n and began >= since) / total

    def lost(self, least):
        """The share of the time beyond the least seconds per batch."""
        batches = sum(count for _, _, count, _ in self.runs)
        return 1.0 - batches * least / self.now


BATCH = [5e-6, 1e-4, 3e-3]


@pytest.mark.parametrize("each", BATCH)
@pytest.mark.parametrize("guess", [1, 2])
@pytest.mark.parametrize("two", [0.55, 0.9, 1.1, 1.7, 10.0])
def test_the_faster_of_one_and_two_threads_is_found(each, guess, two):
    clock = Clock(2, lambda n, now: each * (two if n == 2 else 1.0), guess)
    clock.run_until(3.0)
    best = 2 if two < 1 else 1
    assert clock.tuner.threads == best
    # Until the first comparison, batches in the guessed number: what one more may take must be
    # within FIRST_LOST.
    first = each * (two if guess == 2 else 1.0)
    since = max(0.5, first / tuning.FIRST_LOST + 2 * first)
    assert clock.share(best, since=since) > 0.97


@pytest.mark.parametrize("each", BATCH)
@pytest.mark.parametrize("guess", [1, 8])
@pytest.mark.parametrize("best", [1, 2, 4, 8])
def test_the_fastest_of_many_numbers_is_found(each, guess, best):
    seconds = {n: each * (1 + 0.4 * abs(np.log2(n / best))) for n in (1, 2, 4, 8)}
    clock = Clock(8, lambda n, now: seconds[n], guess)
    clock.run_until(5.0)
    assert clock.tuner.threads == best
    assert clock.share(best, since=1.5) > 0.95


@pytest.mark.parametrize("each", BATCH[:2])
def test_a_guess_that_is_far_too_high_is_left_without_turning_back(each):
    clock = Clock(64, lambda n, now: each * (1 if n == 1 else 4 + n / 8), guess=64)
    clock.run_until(2.0)
    assert clock.tuner.threads == 1
    numbers = [n for _, n, *_ in clock.runs]
    until = numbers[: numbers.index(1)]
    assert all(later <= 2 * min(until[: at + 1]) for at, later in enumerate(until))


@pytest.mark.parametrize("limit", [2, 3, 8])
@pytest.mark.parametrize("each", BATCH)
@pytest.mark.parametrize("slower", [1.05, 1.3, 2.0, 20.0])
def test_little_is_lost_where_more_threads_are_slower(each, slower, limit):
    clock = Clock(limit, lambda n, now: each * (slower if n > 1 else 1.0))
    clock.run_until(30.0)
    assert clock.tuner.threads == 1
    assert clock.lost(each) < 0.02


@pytest.mark.parametrize("each", BATCH)
@pytest.mark.parametrize("factor", [1.5, 4.0, 30.0])
def test_threads_that_become_slower_are_given_up_within_a_tenth_of_a_second(each, factor):
    """Another process takes a core: `factor` times the time of one thread."""
    both = {True: 0.6, False: factor}
    clock = Clock(2, lambda n, now: each * (both[now < 5.03] if n == 2 else 1.0))
    clock.run_until(5.0)
    assert clock.tuner.threads == 2
    clock.run_until(8.0)
    assert clock.tuner.threads == 1
    slow = [run for run in clock.runs if run[0] < 6.0 and run[0] + run[3] > 5.03 and run[1] == 2]
    slowest = max(took for *_, took in slow)  # a run cannot be interrupted
    given_up = next(began for began, n, *_ in clock.runs if began > 5.03 and n == 1)
    assert given_up - 5.03 < 0.1 + 2 * slowest
    assert sum(took for *_, took in slow) < 0.1 + 4 * slowest


@pytest.mark.parametrize("each", BATCH)
def test_threads_that_become_fast_again_are_used_again(each):
    clock = Clock(2, lambda n, now: each * ((4.0 if 2 < now < 20 else 0.6) if n == 2 else 1.0))
    clock.run_until(1.0)
    assert clock.tuner.threads == 2
    clock.run_until(20.0)
    assert clock.tuner.threads == 1
    clock.run_until(20.0 + 3 * tuning.LATEST)
    assert clock.tuner.threads == 2


def test_a_short_run_stays_near_the_guess():
    """A fit of 10 ms compares at most once."""
    clock = Clock(2, lambda n, now: 1e-4 * (3.0 if n == 2 else 1.0))
    clock.run_until(0.01)
    assert clock.share(1) > 0.75


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 8, 256])
def test_a_tuner_asks_for_at_most_its_limit_and_what_is_left(limit):
    rng = random.Random(limit)
    tuner = Tuner(limit, rng.randint(1, 300))
    for _ in range(3000):
        left = rng.choice([1, 2, 10, 10**6])
        n, count = tuner.next(left)
        assert 1 <= n <= limit
        assert 1 <= count <= left
        tuner.record(n, count, count * rng.uniform(0, 0.01))


def test_a_pause_of_the_process_does_not_end_comparisons():
    """Ctrl-Z in the middle of a trial: the time of that run says nothing."""
    each = 1e-4
    faster = 5.0
    clock = Clock(2, lambda n, now: each * ((1.5 if now < faster else 0.5) if n == 2 else 1.0))
    clock.run_until(1.0)
    while clock.tuner.next(1000)[0] != 2:  # the first run of a trial in two threads
        clock.tuner.record(1, 10, 10 * each)
    clock.tuner.record(2, 2, 600.0)
    clock.run_until(faster + 3 * tuning.LATEST)
    assert clock.tuner.threads == 2


def test_a_coarse_clock_may_show_no_time_at_all():
    tuner = Tuner(2)
    for _ in range(100):
        threads, count = tuner.next(1000)
        tuner.record(threads, count, 0.0)
    assert tuner.next(1000)[1] >= 1


def test_a_run_in_fewer_threads_ends_the_trial_undecided():
    clock = Clock(2, lambda n, now: 1e-4)
    clock.run_until(0.5)
    for _ in range(10000):
        threads, count = clock.tuner.next(1000)
        if threads == 2:
            clock.tuner.give_up(count, 0.01)
            break
        clock.tuner.record(1, count, count * 1e-4)
    assert threads == 2
    assert clock.tuner.next(1000)[0] == clock.tuner.threads == 1


def test_a_chosen_number_that_cannot_be_had_is_left():
    clock = Clock(4, lambda n, now: 1e-4 / n)
    clock.run_until(2.0)
    assert clock.tuner.threads == 4
    threads, count = clock.tuner.next(1000)
    while threads != 4 or count < 100:  # not one of a trial
        clock.tuner.record(threads, count, count * 1e-4 / threads)
        threads, count = clock.tuner.next(1000)
    clock.tuner.give_up(count, count * 1e-4)
    assert clock.tuner.threads == 1
    clock.run_until(4.0)
    assert clock.tuner.threads == 4
