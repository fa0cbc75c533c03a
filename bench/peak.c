/* The peak of the processor: fused multiply-adds per second, and bytes copied per second.

   peak THREADS SECONDS   prints GFLOP/s for one and for all threads in both types, and GB/s.

   Each thread keeps CHAINS independent chains of vector multiply-adds in registers: enough to
   fill the pipelines (latency 4, two to four units), and few enough to need no memory. */

#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define CHAINS 16
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define CHAINS 12
#else
#define VECTOR_BYTES 16
#define CHAINS 16
#endif

#define COPY_BYTES ((size_t)64 << 20)

typedef float floats __attribute__((vector_size(VECTOR_BYTES)));
typedef double doubles __attribute__((vector_size(VECTOR_BYTES)));

typedef struct {
    double seconds; /* how long to run */
    double work;    /* out: operations, or bytes read and written */
    double took;    /* out: seconds of that work */
    void *from, *to;
} Job;

static atomic_int awaited; /* threads that have not reached the start */
static volatile double factor = 0.999999, addend = 1e-7, sink;

static void start_together(void) {
    atomic_fetch_sub(&awaited, 1);
    while (atomic_load(&awaited) > 0) {
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* One function per type: the chains, then a sum of them, so that the compiler keeps them. */
#define FMA_FUNCTION(NAME, VECTOR, SCALAR)                                                   \
    static void *NAME(void *argument) {                                                      \
        Job *job = argument;                                                                 \
        VECTOR chain[CHAINS], a = (VECTOR){0} + (SCALAR)factor, b = (VECTOR){0} + (SCALAR)addend; \
        for (int i = 0; i < CHAINS; i++) chain[i] = (VECTOR){0} + (SCALAR)i;                 \
        start_together();                                                                   \
        double began = now(), rounds = 0;                                                    \
        do {                                                                                 \
            for (int round = 0; round < 100000; round++)                                     \
                _Pragma("GCC unroll 16") for (int i = 0; i < CHAINS; i++)                    \
                    chain[i] = chain[i] * a + b;                                             \
            rounds += 100000;                                                                \
            job->took = now() - began;                                                       \
        } while (job->took < job->seconds);                                                  \
        job->work = rounds * CHAINS * (VECTOR_BYTES / sizeof(SCALAR)) * 2;                   \
        for (int i = 0; i < CHAINS; i++) sink += chain[i][0];                                \
        return NULL;                                                                         \
    }

FMA_FUNCTION(fma_float32, floats, float)
FMA_FUNCTION(fma_float64, doubles, double)

static void *copy(void *argument) {
    Job *job = argument;
    start_together();
    double began = now();
    job->work = 0;
    do {
        memcpy(job->to, job->from, COPY_BYTES);
        sink += ((volatile char *)job->to)[4096];
        job->work += 2.0 * COPY_BYTES;
        job->took = now() - began;
    } while (job->took < job->seconds);
    return NULL;
}

/* Run the function in several threads at once; returns their work per second, in billions. */
static double once(void *(*function)(void *), int threads, double seconds) {
    pthread_t *ids = malloc(threads * sizeof *ids);
    Job *jobs = calloc(threads, sizeof *jobs);
    double sum = 0;
    atomic_store(&awaited, threads);
    for (int i = 0; i < threads; i++) {
        jobs[i].seconds = seconds;
        if (function == copy) {
            jobs[i].from = malloc(COPY_BYTES);
            jobs[i].to = malloc(COPY_BYTES);
            if (!jobs[i].from || !jobs[i].to) exit(2);
            memset(jobs[i].from, 1, COPY_BYTES);
            memset(jobs[i].to, 2, COPY_BYTES);
        }
        if (pthread_create(&ids[i], NULL, function, &jobs[i])) exit(3);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        sum += jobs[i].work / jobs[i].took;
        free(jobs[i].from);
        free(jobs[i].to);
    }
    free(ids);
    free(jobs);
    return sum * 1e-9;
}

/* The best of five, since other programs can only slow a run down. */
static double rate(void *(*function)(void *), int threads, double seconds) {
    double best = 0;
    for (int i = 0; i < 5; i++) {
        double found = once(function, threads, seconds / 5);
        if (found > best) best = found;
    }
    return best;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    double seconds = argc > 2 ? atof(argv[2]) : 0.5;
    if (threads < 1 || seconds <= 0) {
        fprintf(stderr, "usage: peak THREADS SECONDS\n");
        return 1;
    }
    rate(fma_float32, threads, 0.1); /* let the clock rate settle */
    printf("float32_one %.2f\n", rate(fma_float32, 1, seconds));
    printf("float32_all %.2f\n", rate(fma_float32, threads, seconds));
    printf("float64_one %.2f\n", rate(fma_float64, 1, seconds));
    printf("float64_all %.2f\n", rate(fma_float64, threads, seconds));
    printf("copy_all %.2f\n", rate(copy, threads, seconds));
    return 0;
}
