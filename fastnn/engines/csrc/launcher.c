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

   A sleeping worker is kept off the caller's core while it wakes up: a scheduler may put it there,
   although others are idle (Linux does in virtual machines whose idle cores are halted), and the
   two would take turns for milliseconds.

   Workers block all signals, so that Ctrl-C reaches Python's main thread. */

#define _GNU_SOURCE
#include "launcher.h"

#include "denormals.h"
#include "team.h"

#include <pthread.h>
#include <sched.h>
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

#ifdef __linux__
typedef cpu_set_t cores;

/* The cores that the caller may use. Returns whether there are others than the one it is on, which
   is left out of `others`. */
static int find_cores(cores *allowed, cores *others)
{
    const int here = sched_getcpu();
    if (here < 0 || sched_getaffinity(0, sizeof *allowed, allowed) != 0) return 0;
    *others = *allowed;
    CPU_CLR(here, others);
    return CPU_COUNT(others) > 0;
}

static void move_to_cores(pthread_t thread, const cores *to)
{
    pthread_setaffinity_np(thread, sizeof *to, to);
}
#else
typedef int cores;
static int find_cores(cores *allowed, cores *others) { return (void)allowed, (void)others, 0; }
static void move_to_cores(pthread_t thread, const cores *to) { (void)thread, (void)to; }
#endif

static struct {
    pthread_mutex_t busy; /* held by the thread that launched the job */
    int workers;          /* threads started; thread 0 is the caller */
    pthread_t threads_of[MOST_PARTS];
    int moved[MOST_PARTS]; /* 1: kept off the caller's core until it runs */
    cores allowed;
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
        if (pool.moved[thread]) move_to_cores(pthread_self(), &pool.allowed);
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
        pool.threads_of[number] = thread;
        pool.workers = number;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool.workers + 1;
}

/* Let the workers of a job begin; those that sleep or are new (there were only `known` before), on
   other cores than this thread's. */
static void wake_workers(int known)
{
    int asleep = 0;
    for (int thread = 1; thread < pool.threads; thread++)
        asleep += pool.moved[thread] = thread > known || atomic_load(&pool.go[thread].sleeper);
    cores others;
    if (asleep && !find_cores(&pool.allowed, &others)) asleep = 0;
    for (int thread = 1; thread < pool.threads; thread++) {
        pool.moved[thread] = asleep && pool.moved[thread];
        if (pool.moved[thread]) move_to_cores(pool.threads_of[thread], &others);
        pass(&pool.go[thread]);
    }
}

int64_t fastnn_launch(kernel_function *function, struct context *ctx, int64_t threads)
{
    const int wanted = threads < MOST_PARTS ? (int)threads : MOST_PARTS;
    if (wanted < 2 || pthread_mutex_trylock(&pool.busy) != 0) return function(ctx, 0, 1);
    const int known = pool.workers;
    pool.threads = start_workers(wanted);
    pool.function = function;
    pool.ctx = ctx;
    wake_workers(known);
    run_share(0);
    pool.finished += pool.threads - 1;
    wait_for(&pool.done, pool.finished);
    int64_t worst = STATUS_OK;
    for (int thread = 0; thread < pool.threads; thread++)
        if (pool.statuses[thread] > worst) worst = pool.statuses[thread];
    pthread_mutex_unlock(&pool.busy);
    return worst;
}
