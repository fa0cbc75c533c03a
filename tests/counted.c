/* Counts the calls of the memory allocator while a driver runs: preloaded by test_c_engine.py. */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static atomic_long calls;

void *malloc(size_t size)
{
    calls++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    calls++;
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    calls++;
    return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size)
{
    calls++;
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **place, size_t alignment, size_t size)
{
    *place = memalign(alignment, size);
    return *place ? 0 : 12;
}

typedef int64_t driver(void *, void *, int64_t, int64_t, int64_t);

/* The driver's result; `counted` grows by the calls that were made meanwhile, by any thread. */
int64_t count_during(driver *drive, long *counted, void *context, void *program, int64_t n,
                     int64_t first, int64_t last)
{
    const long before = calls;
    const int64_t status = drive(context, program, n, first, last);
    *counted += calls - before;
    return status;
}

/* A driver that allocates, to see that it is noticed. */
int64_t wasteful(void *context, void *program, int64_t n, int64_t first, int64_t last)
{
    (void)context, (void)program, (void)n, (void)first, (void)last;
    void *volatile some = malloc(16);
    return some == NULL;
}
