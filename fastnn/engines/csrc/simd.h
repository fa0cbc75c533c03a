/* Vectors of the compiled level: one set of functions for singles (_s), one for doubles (_d), and
   the set of the network's type `real` without an ending.

   load, store        a whole vector, from any address
   load_some, store_some   the first n lanes, 0 <= n <= lanes; load_some sets the others to zero
   widen, widen_some  reals as a vector of doubles
   less, at_most, select   compare and select; a comparison with NaN is false
   true_lanes         one bit for each lane of a comparison, the lowest for the first
   half_              the same for half of the lanes, where HALF_VECTORS is defined
   larger, smaller    a > b ? a : b, and a < b ? a : b: b if either is NaN
   fma                one rounding; nothing else is fused (-ffp-contract=off)

   + - * / and the sign work on vectors as on numbers (an extension of gcc and clang). */

#include "fastnn.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* Code from here on is compiled for the level; system headers must come before. */
#if defined(LEVEL_AVX512)
#define LEVEL "avx512"
#ifdef __clang__
#pragma clang attribute push(                                                                     \
    __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,prefer-vector-width=512")
#endif
#elif defined(LEVEL_AVX2)
#define LEVEL "avx2"
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#elif defined(LEVEL_NEON)
#define LEVEL "neon"
#else
#define LEVEL "plain"
#endif

#if defined(LEVEL_AVX512)
#include "simd_avx512.h"
#elif defined(LEVEL_AVX2)
#include "simd_avx2.h"
#else
#include "simd_narrow.h"
#endif

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))

enum { LANES_s = VECTOR_BYTES / 4, LANES_d = VECTOR_BYTES / 8 };

typedef uint32_t bits_s __attribute__((vector_size(VECTOR_BYTES)));
typedef uint64_t bits_d __attribute__((vector_size(VECTOR_BYTES)));

static inline vec_d widen_d(const double *p) { return load_d(p); }
static inline vec_d widen_some_d(const double *p, int64_t n) { return load_some_d(p, n); }

#ifdef REAL_IS_DOUBLE
#define DTYPE "float64"
#define OF_REAL(name) name##_d
typedef double real;
#else
#define DTYPE "float32"
#define OF_REAL(name) name##_s
typedef float real;
#endif

enum { LANES = OF_REAL(LANES) };

typedef OF_REAL(vec) vec;
typedef OF_REAL(mask) mask;
typedef OF_REAL(bits) bits;

#define load OF_REAL(load)
#define store OF_REAL(store)
#define load_some OF_REAL(load_some)
#define store_some OF_REAL(store_some)
#define load_or OF_REAL(load_or)
#define widen OF_REAL(widen)
#define widen_some OF_REAL(widen_some)
#define set OF_REAL(set)
#define fused OF_REAL(fma)
#define root OF_REAL(sqrt)
#define magnitude OF_REAL(abs)
#define less OF_REAL(less)
#define at_most OF_REAL(at_most)
#define true_lanes OF_REAL(true_lanes)
#define choose OF_REAL(select)
#define larger OF_REAL(larger)
#define smaller OF_REAL(smaller)

/* Lists of lane numbers for shuffles: F(0, s), F(1, s), ... for as many lanes as a vector has. */
#define LANES_2(F, s) F(0, s), F(1, s)
#define LANES_4(F, s) LANES_2(F, s), F(2, s), F(3, s)
#define LANES_8(F, s) LANES_4(F, s), F(4, s), F(5, s), F(6, s), F(7, s)
#define LANES_16(F, s)                                                                            \
    LANES_8(F, s), F(8, s), F(9, s), F(10, s), F(11, s), F(12, s), F(13, s), F(14, s), F(15, s)
#if VECTOR_BYTES == 64
#define EACH_LANE_s LANES_16
#define EACH_LANE_d LANES_8
#elif VECTOR_BYTES == 32
#define EACH_LANE_s LANES_8
#define EACH_LANE_d LANES_4
#else
#define EACH_LANE_s LANES_4
#define EACH_LANE_d LANES_2
#endif
#define EACH_LANE OF_REAL(EACH_LANE)

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(type, a, b, ...) __builtin_shuffle(a, b, (type){__VA_ARGS__})
#endif

/* Joins lane l with lane l + half, for half = lanes/2, ..., 1; the result is in lane 0. */
#define ACROSS(lane, half) (lane) ^ (half)
#define SUM(a, b) a + b
#define MOST_s(a, b) larger_s(b, a)
#define MOST_d(a, b) larger_d(b, a)

#define STEP_s(join, half) v = join(v, SHUFFLE(bits_s, v, v, EACH_LANE_s(ACROSS, half)));
#define STEP_d(join, half) v = join(v, SHUFFLE(bits_d, v, v, EACH_LANE_d(ACROSS, half)));
#if VECTOR_BYTES == 64
#define TREE_s(join) STEP_s(join, 8) STEP_s(join, 4) STEP_s(join, 2) STEP_s(join, 1)
#define TREE_d(join) STEP_d(join, 4) STEP_d(join, 2) STEP_d(join, 1)
#elif VECTOR_BYTES == 32
#define TREE_s(join) STEP_s(join, 4) STEP_s(join, 2) STEP_s(join, 1)
#define TREE_d(join) STEP_d(join, 2) STEP_d(join, 1)
#else
#define TREE_s(join) STEP_s(join, 2) STEP_s(join, 1)
#define TREE_d(join) STEP_d(join, 1)
#endif

static inline float tree_of_s(vec_s v)
{
    TREE_s(SUM)
    return v[0];
}

static inline double tree_of_d(vec_d v)
{
    TREE_d(SUM)
    return v[0];
}

static inline float highest_of_s(vec_s v)
{
    TREE_s(MOST_s)
    return v[0];
}

static inline double highest_of_d(vec_d v)
{
    TREE_d(MOST_d)
    return v[0];
}

/* A vector, or its first n lanes where n is less. */
INLINE vec take(const real *p, int64_t n) { return n == LANES ? load(p) : load_some(p, n); }

INLINE void put(real *p, vec v, int64_t n)
{
    if (n == LANES)
        store(p, v);
    else
        store_some(p, v, n);
}

#ifdef HALF_VECTORS
enum { half_LANES = LANES / 2 };
typedef OF_REAL(half_vec) half_vec;
#define half_load OF_REAL(half_load)
#define half_store OF_REAL(half_store)
#define half_load_some OF_REAL(half_load_some)
#define half_store_some OF_REAL(half_store_some)
#define half_set OF_REAL(half_set)
#define half_fused OF_REAL(half_fma)
#endif

/* Unroll four vectors; not where every fma is a function call, which only makes more code. */
#ifdef LEVEL_PLAIN
#define SOME_AT_A_TIME
#else
#define SOME_AT_A_TIME _Pragma("GCC unroll 4")
#endif

/* Run the statements on `count` elements, n from i on at a time. An element has the same bits in
   any lane, so the last ones are a vector with unused lanes. */
#define FOR_VECTORS(i, n, count, ...)                                                             \
    do {                                                                                          \
        const int64_t count_ = (count);                                                           \
        int64_t i = 0;                                                                            \
        SOME_AT_A_TIME for (; i + LANES <= count_; i += LANES)                                    \
        {                                                                                         \
            enum { n = LANES };                                                                   \
            __VA_ARGS__                                                                           \
        }                                                                                         \
        if (i < count_) {                                                                         \
            const int64_t n = count_ - i;                                                         \
            __VA_ARGS__                                                                           \
        }                                                                                         \
    } while (0)
