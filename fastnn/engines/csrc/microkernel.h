/* The micro-kernel of the matrix product, and that of dot products.

   An MR x NR tile of the result stays in registers. NR follows the level's vectors; the bits of a
   result do not depend on it. */

enum {
    NR = NR_VECTORS * LANES, /* columns of the widest tile */
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

/* The micro-kernel: for r < mr and all columns j of `vectors` vectors,

       t[r, j] = fma(a[r, p], b[p, j], t[r, j])

   for p = 0, 1, ... k-1 in that order, in registers. The chain starts with first[r, j]; its end is
   stored as c[r, j], or added to it if g->adds.

   masked      only the first g->n lanes of the last vector are read and written
   packs       the rows of b are also written to `other`, one after another
   prefetches  prefetches other + p*other_row for every p, and the tile of c at next_c unless that
               is c
   Reads a, b, first and, with adds, c; writes c, which may overlap first alone. */
INLINE void micro_kernel(const int mr, const int vectors, const bool masked, const bool packs,
                         const bool prefetches, const struct gemm *g, real *other,
                         int64_t other_row, const real *next_c)
{
    vec t[MR][NR_VECTORS];
    const real *first = g->first, *b = g->b;
    real *c = g->c;
#pragma GCC unroll 8
    for (int r = 0; r < mr; r++, first += g->first_row)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            const real *p = first + v * LANES;
            t[r][v] = masked && v == vectors - 1 ? load_some(p, g->n) : load(p);
        }
    if (prefetches && next_c != c)
        for (int r = 0; r < mr; r++)
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++)
                __builtin_prefetch(next_c + r * g->c_row + v * LANES, 0, 2);
    /* In bytes, so that an address needs no scale of its own: rows 0 to 3, and 4 to 7. */
    int64_t once = g->a_row * (int64_t)sizeof(real), twice = 2 * once, thrice = 3 * once;
    const int64_t next_a = g->a_col * (int64_t)sizeof(real);
    const char *low = (const char *)g->a, *high = low + 4 * once;
    HIDE(once);
    HIDE(twice);
    HIDE(thrice);
    for (int64_t left = g->k; left > 0; left--) {
        vec row[NR_VECTORS];
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            const real *p = b + v * LANES;
            row[v] = masked && v == vectors - 1 ? load_some(p, g->n) : load(p);
            if (mr > 1) HIDE_VECTOR(row[v]);
            if (packs) store(other + v * LANES, row[v]);
        }
        if (prefetches) __builtin_prefetch(other, 0, 2);
#pragma GCC unroll 8
        for (int r = 0; r < mr; r++) {
            const char *p = r < 4 ? low : high;
            p += r % 4 == 0 ? 0 : r % 4 == 1 ? once : r % 4 == 2 ? twice : thrice;
            const vec factor = set(*(const real *)p);
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) t[r][v] = fused(factor, row[v], t[r][v]);
        }
        low += next_a;
        high += next_a;
        b += g->b_row;
        other += packs ? vectors * LANES : other_row;
    }
#pragma GCC unroll 8
    for (int r = 0; r < mr; r++, c += g->c_row)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            const int64_t n = masked && v == vectors - 1 ? g->n : LANES;
            if (g->adds) t[r][v] = take(c + v * LANES, n) + t[r][v];
            put(c + v * LANES, t[r][v], n);
        }
}

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
