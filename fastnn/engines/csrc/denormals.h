/* Denormals: kernels treat them as zeros. */

#ifndef FASTNN_DENORMALS_H
#define FASTNN_DENORMALS_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

/* Make this thread flush denormals to zero; returns the mode to restore. */
static inline uint64_t flush_denormals(void)
{
#if defined(__x86_64__)
    const uint64_t before = _mm_getcsr();
    _mm_setcsr((unsigned)before | 0x8040); /* FTZ for results, DAZ for operands */
    return before;
#elif defined(__aarch64__)
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | (1u << 24)));
    return before;
#else
    return 0;
#endif
}

/* Make this thread keep denormals, as other code expects; returns the mode to restore. */
static inline uint64_t keep_denormals(void)
{
#if defined(__x86_64__)
    const uint64_t before = _mm_getcsr();
    _mm_setcsr((unsigned)before & ~0x8040u);
    return before;
#elif defined(__aarch64__)
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before & ~((uint64_t)1 << 24)));
    return before;
#else
    return 0;
#endif
}

/* Restore the mode that flush_denormals or keep_denormals returned. */
static inline void restore_denormals(uint64_t before)
{
#if defined(__x86_64__)
    _mm_setcsr((unsigned)before);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
#else
    (void)before;
#endif
}

#endif
