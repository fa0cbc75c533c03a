/* The launcher: our own pool of threads, without OpenMP.

   An OpenMP runtime is shared with everything else in the process that uses one: GNU's and LLVM's
   (of Numba, scikit-learn and PyTorch) do not mix, a forked child hangs if its parent used GNU's,
   and workers may spin long after a region. This pool needs nothing beyond libc's threads and does
   three things:

   - A job is a function that all threads call at once, thread t with (context, t, threads): the
     share of a whole run. So workers are woken once a run, not once a call.
   - A worker waits for its next job by polling a counter for SPIN_NANOSECONDS, then it sleeps.
     Runs follow each other closely within a fit; after one nobody spins.
   - A forked child has the memory of the pool but none of its threads: its first job starts the
     pool anew. If two Python threads launch at once, the second finds the pool busy and runs
     alone.

   Workers block all signals, so that Ctrl-C reaches Python's main thread. */

#define _GNU_SOURCE
#include "launcher.h"

#include "denormals.h"
#include "team.h"

#include <pthread.h>
#include <signal.h>

enum { SPIN_NANOSECONDS = 100000 };

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

/* Count one more. The waiting thread sees everything written before.

   Either this thread sees the sleeper, or the sleeper sees the new count: both write first and then
   read, sequentially consistent. */
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
    pthread_mutex_t busy; /* held by the thread that launched the job */
    int workers;          /* threads started; thread 0 is the caller */
    struct gate go[MOST_PARTS], done;
    int64_t finished; /* jobs of all workers, up to the current one */
    kernel_function *function;
    struct context *ctx;
    int threads;
    int64_t statuses[MOST_PARTS];
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER};

/* Run a thread's share of the current job. */
static void run_share(int thread)
{
    const uint64_t before = flush_denormals();
    pool.statuses[thread] = pool.function(pool.ctx, thread, pool.threads);
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

/* In a forked child: there are no workers, and threads that are gone may hold locks. */
static void forget_workers(void)
{
    pool.workers = 0;
    pthread_mutex_init(&pool.busy, NULL);
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, forget_workers); }

/* Start workers until there are `wanted` threads with the caller; returns how many there are. */
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

int64_t fastnn_launch(kernel_function *function, struct context *ctx, int64_t threads)
{
    const int wanted = threads < MOST_PARTS ? (int)threads : MOST_PARTS;
    if (wanted < 2 || pthread_mutex_trylock(&pool.busy) != 0) return function(ctx, 0, 1);
    pool.threads = start_workers(wanted);
    pool.function = function;
    pool.ctx = ctx;
    for (int thread = 1; thread < pool.threads; thread++) pass(&pool.go[thread]);
    run_share(0);
    pool.finished += pool.threads - 1;
    wait_for(&pool.done, pool.finished);
    int64_t worst = STATUS_OK;
    for (int thread = 0; thread < pool.threads; thread++)
        if (pool.statuses[thread] > worst) worst = pool.statuses[thread];
    pthread_mutex_unlock(&pool.busy);
    return worst;
}
