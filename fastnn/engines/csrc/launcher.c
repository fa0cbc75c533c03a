/* The launcher: a pool of threads of our own, and no OpenMP.

   Why of our own. An OpenMP runtime is shared with whoever else uses it in the process: GNU's and
   LLVM's (of Numba, scikit-learn and PyTorch) do not mix, a forked child of a process that has used
   GNU's hangs, and its workers may spin for long after a region. This pool knows nothing of theirs,
   needs no library beyond libc's threads, and does three things only:

   - A job is a leaf, a context and a number of parts. Part p runs on thread p threads / parts, a
     fixed share, so that a part finds its rows in the cache of the core that wrote them.
   - A worker waits for its next job by watching a counter for SPIN_NANOSECONDS, then it sleeps.
     Calls within a run of minibatches follow each other so closely that it seldom does; between
     runs nobody spins.
   - A forked child has the memory of the pool but none of its threads: there the pool is made anew
     with the first job. Two threads of Python that launch at once are both right: the second finds
     the pool busy and runs its parts in a loop.

   Workers block all signals, so that Ctrl-C reaches Python's main thread. */

#define _GNU_SOURCE
#include "launcher.h"

#include "denormals.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

enum { SPIN_NANOSECONDS = 50000, PAUSES_PER_LOOK = 16 };

static void pause_thread(void)
{
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* A counter that only grows, and that one thread can wait for. */
struct gate {
    _Alignas(64) atomic_int_least64_t count;
    atomic_int sleeper; /* 1 while the waiting thread sleeps or is about to */
    pthread_mutex_t mutex;
    pthread_cond_t grown;
};

static void make_gate(struct gate *gate)
{
    atomic_init(&gate->count, 0);
    atomic_init(&gate->sleeper, 0);
    pthread_mutex_init(&gate->mutex, NULL);
    pthread_cond_init(&gate->grown, NULL);
}

/* Count one more. What was written before is seen by the thread that waits for it.

   Either this thread sees the sleeper, or the sleeper sees the new count: both write first and
   then read, in an order that all threads agree on. */
static void pass(struct gate *gate)
{
    atomic_fetch_add(&gate->count, 1);
    if (atomic_load(&gate->sleeper)) {
        pthread_mutex_lock(&gate->mutex);
        pthread_cond_signal(&gate->grown);
        pthread_mutex_unlock(&gate->mutex);
    }
}

/* Return when the count has reached `count`. */
static void wait_for(struct gate *gate, int64_t count)
{
    for (int64_t end = 0;;) {
        for (int i = 0; i < PAUSES_PER_LOOK; i++) {
            if (atomic_load_explicit(&gate->count, memory_order_acquire) >= count) return;
            pause_thread();
        }
        const int64_t now = nanoseconds();
        if (end == 0) end = now + SPIN_NANOSECONDS;
        if (now >= end) break;
    }
    pthread_mutex_lock(&gate->mutex);
    atomic_store(&gate->sleeper, 1);
    while (atomic_load(&gate->count) < count) pthread_cond_wait(&gate->grown, &gate->mutex);
    atomic_store(&gate->sleeper, 0);
    pthread_mutex_unlock(&gate->mutex);
}

static struct {
    pthread_mutex_t busy; /* held by the thread whose job it is */
    int workers;          /* threads that were started; number 0 is the caller */
    struct gate go[MOST_PARTS], done;
    int64_t finished; /* jobs of workers that were waited for */
    leaf_function *leaf;
    struct context *ctx;
    int64_t parts;
    int threads;
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local int threads_to_use = 1;

int fastnn_use_threads(int threads)
{
    const int before = threads_to_use;
    threads_to_use = threads < 1 ? 1 : threads > MOST_PARTS ? MOST_PARTS : threads;
    return before;
}

/* The parts of the present job that belong to a thread. */
static void run_share(int thread)
{
    const int64_t parts = pool.parts;
    const uint64_t before = flush_denormals();
    for (int64_t part = thread * parts / pool.threads; part < (thread + 1) * parts / pool.threads;
         part++)
        run_part(pool.leaf, pool.ctx, part, parts, thread);
    restore_denormals(before);
}

static void *work(void *number)
{
    const int thread = (int)(intptr_t)number;
    for (int64_t job = 1;; job++) {
        wait_for(&pool.go[thread], job);
        run_share(thread);
        pass(&pool.done);
    }
    return NULL;
}

/* In a forked child: no worker has come along, and locks may be held by threads that have not. */
static void forget_workers(void)
{
    pool.workers = 0;
    pthread_mutex_init(&pool.busy, NULL);
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, forget_workers); }

/* Start workers until there are `wanted` threads with the caller; how many there are. */
static int start_workers(int wanted)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    if (pool.workers + 1 >= wanted) return wanted;
    if (pool.workers == 0) {
        make_gate(&pool.done);
        pool.finished = 0;
    }
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.workers + 1 < wanted) {
        const int number = pool.workers + 1;
        pthread_t thread;
        make_gate(&pool.go[number]);
        if (pthread_create(&thread, NULL, work, (void *)(intptr_t)number) != 0) break;
        pthread_detach(thread);
        pool.workers = number;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool.workers + 1;
}

int64_t fastnn_launch(leaf_function *leaf, struct context *ctx, int64_t parts)
{
    const int wanted = parts < threads_to_use ? (int)parts : threads_to_use;
    if (wanted < 2 || pthread_mutex_trylock(&pool.busy) != 0)
        return run_parts_in_a_loop(leaf, ctx, parts);
    pool.threads = start_workers(wanted);
    pool.leaf = leaf;
    pool.ctx = ctx;
    pool.parts = parts;
    for (int thread = 1; thread < pool.threads; thread++) pass(&pool.go[thread]);
    run_share(0);
    pool.finished += pool.threads - 1;
    wait_for(&pool.done, pool.finished);
    pthread_mutex_unlock(&pool.busy);
    return sum_of_statuses(ctx, parts);
}
