/* The threads of a run: how they come together, and how they meet.

   Every thread walks the whole program and does its parts of each call. Where a call reads what
   another thread wrote, they meet: none goes on before all have arrived. */

#ifndef FASTNN_TEAM_H
#define FASTNN_TEAM_H

#include "fastnn.h"

#include <sched.h>
#include <stdatomic.h>
#include <time.h>

/* Each field has a cache line of its own, and the next one for the prefetcher that fetches pairs. */
struct team {
    _Alignas(TEAM_STEP * 8) atomic_int_least64_t joined; /* threads that have come */
    _Alignas(TEAM_STEP * 8) atomic_int_least64_t formed; /* TEAM_WAITS, _RUNS or _IS_ONE */
    _Alignas(TEAM_STEP * 8) atomic_int_least64_t arrived; /* arrivals at all meetings so far */
    _Alignas(TEAM_STEP * 8) atomic_int_least64_t released; /* 2 * meetings that are over, + 1 at
                                                              the last one if a status was not OK */
    _Alignas(TEAM_STEP * 8) atomic_int_least64_t failed;   /* 1: a thread had such a status */
    _Alignas(TEAM_STEP * 8) int64_t worst;                 /* not used here */
    /* What the first thread leaves for the driver. It must not write to the shared context, which a
       thread that comes too late may still be copying. */
    _Alignas(TEAM_STEP * 8) int64_t threads;
    int64_t start, step;
    const double *hyper;
    double *result;
};

_Static_assert(sizeof(struct team) <= TEAM_WORDS * 8, "the workspace has room for it");

enum { TEAM_WAITS, TEAM_RUNS, TEAM_IS_ONE };

enum {
    JOIN_NANOSECONDS = 1000000, /* the first to come waits so long for the others, then runs alone */
    PAUSES_PER_LOOK = 16,
    LOOKS_BEFORE_YIELD = 64, /* then the core goes to any other thread that waits for one */
};

static inline void pause_thread(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Wait a little; with `looks`, the number of times before, ever more patiently. */
static inline void wait_a_little(int64_t looks)
{
    if (looks < LOOKS_BEFORE_YIELD)
        for (int i = 0; i < PAUSES_PER_LOOK; i++) pause_thread();
    else
        sched_yield();
}

/* Forget the last run. */
static inline void reset_team(struct team *team)
{
    atomic_store_explicit(&team->joined, 0, memory_order_relaxed);
    atomic_store_explicit(&team->formed, TEAM_WAITS, memory_order_relaxed);
    atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&team->released, 0, memory_order_relaxed);
    atomic_store_explicit(&team->failed, 0, memory_order_relaxed);
}

/* Come to a run of so many threads; returns how many will run it, or 0 if it runs without this one.

   All run, or the first to come alone: threads that never come (a busy core, a pool that runs them
   one after another) must not be waited for at a meeting. */
static inline int64_t join_team(struct team *team, int64_t threads)
{
    if (atomic_fetch_add(&team->joined, 1) > 0) {
        int64_t formed;
        for (int64_t i = 0; (formed = atomic_load(&team->formed)) == TEAM_WAITS; i++)
            wait_a_little(i);
        return formed == TEAM_RUNS ? threads : 0;
    }
    const int64_t end = nanoseconds() + JOIN_NANOSECONDS;
    for (int64_t i = 0; atomic_load(&team->joined) < threads; i++) {
        if (i % 16 == 15 && nanoseconds() > end) {
            atomic_store(&team->formed, TEAM_IS_ONE);
            return 1;
        }
        wait_a_little(i);
    }
    atomic_store(&team->formed, TEAM_RUNS);
    return threads;
}

/* Wait until all threads have come to their meeting number *met + 1, which it counts; returns
   whether a status was not OK before it. Everybody gets the same answer. */
static inline int64_t meet(struct team *team, int64_t threads, int64_t *met)
{
    const int64_t meeting = ++*met;
    if (atomic_fetch_add(&team->arrived, 1) + 1 == meeting * threads) {
        const int64_t failed = atomic_load_explicit(&team->failed, memory_order_relaxed);
        atomic_store_explicit(&team->released, 2 * meeting + failed, memory_order_release);
        return failed;
    }
    int64_t released;
    for (int64_t i = 0;; i++) {
        released = atomic_load_explicit(&team->released, memory_order_acquire);
        if (released >= 2 * meeting) return released & 1;
        if (i < LOOKS_BEFORE_YIELD * PAUSES_PER_LOOK)
            pause_thread();
        else
            sched_yield();
    }
}

#endif
