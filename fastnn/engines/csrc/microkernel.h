/* The micro-kernels of the matrix product, and that of dot products.

   A tile of the result, MR x NR or less, stays in registers. NR follows the level's vectors; the
   bits of a result do not depend on it. */

enum {
    NR = NR_VECTORS * LANES, /* columns of the widest tile */
    MOST_ROWS = 8,           /* rows of the tallest tile */
    ROW_VECTORS = VECTOR_BYTES > 32 ? 4 : 8, /* the widest tile of a single row */
    DOTS = VECTOR_REGISTERS / 2 / REAL_VECTORS,
    DOT_ROWS = DOTS < 1 ? 1 : DOTS > 8 ? 8 : DOTS, /* rows whose dot products run side by side */
};

/* A product C (m, n) = first + A (m, k) B (k, n). */
struct gemm {
    real *c;
    int64_t c_row; /* elements from one row of c to the next */
    const real *first;
    int64_t first_row; /* the same for first; 0 repeats one row */
    const real *a;
    int64_t a_row, a_col; /* elements from a[i, p] to a[i+1, p], and to a[i, p+1] */
    const real *b;
    int64_t b_row;
    int64_t m, n, k;
    int64_t adds; /* 1: the result is added to c */
    real *pack;   /* the packing buffers: for B, then for A */
};

/* These hide the origin of a value from the compiler. It would otherwise keep one register for
   every row of a, more than there are, and load each vector of b again for every row of a. */
#define HIDE(value) __asm__("" : "+r"(value))
#if defined(__x86_64__)
#define HIDE_VECTOR(value) __asm__("" : "+v"(value))
#elif defined(__aarch64__)
#define HIDE_VECTOR(value) __asm__("" : "+w"(value))
#else
#define HIDE_VECTOR(value)
#endif

/* Half a vector holds few columns at less cost: many processors with vectors of 64 bytes multiply
   two of 32 at a time. */
#define TILE(name) name
#include "tile.h"
#undef TILE
#ifdef HALF_VECTORS
#define TILE(name) half_##name
#include "tile.h"
#undef TILE
#endif

/* Dot products of some rows with one vector: continues, for r < rows and lanes l < SUM_LANES,

       sums[r*SUM_LANES + l] = fma(a[r*a_row + p], w[p], sums[r*SUM_LANES + l])

   over p = l, l + SUM_LANES, ... < k, in that order. Reads a and w, writes sums. */
INLINE void dots(const int rows, real *sums, const real *a, int64_t a_row, const real *w, int64_t k)
{
    vec t[DOT_ROWS][REAL_VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < REAL_VECTORS; v++) t[r][v] = load(sums + r * SUM_LANES + v * LANES);
    int64_t p = 0;
    for (; p + SUM_LANES <= k; p += SUM_LANES)
#pragma GCC unroll 8
        for (int v = 0; v < REAL_VECTORS; v++) {
            const vec factor = load(w + p + v * LANES);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                t[r][v] = fused(load(a + r * a_row + p + v * LANES), factor, t[r][v]);
        }
    if (p < k)
#pragma GCC unroll 8
        for (int v = 0; v < REAL_VECTORS; v++) {
            /* Missing lanes read zeros, those of a vector without any element too. */
            const int64_t n = part_of(k - p, v * LANES, LANES);
            const int64_t at = n ? p + v * LANES : p;
            const vec factor = load_some(w + at, n);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                t[r][v] = fused(load_some(a + r * a_row + at, n), factor, t[r][v]);
        }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < REAL_VECTORS; v++) store(sums + r * SUM_LANES + v * LANES, t[r][v]);
}
