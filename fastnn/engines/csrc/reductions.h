/* Sums, dot products and maxima of consecutive elements, over SUM_LANES virtual lanes.

   Lane l takes the elements l, l + SUM_LANES, ... in that order; then lanes l and l + 8 are
   joined, l and l + 4, and so on. The bits do not depend on the width of the processor's vectors.
   Sums are doubles for both types of network. */

enum {
    SUM_LANES = 16,
    WIDE_VECTORS = SUM_LANES / LANES_d, /* vectors of doubles that hold the lanes */
    REAL_VECTORS = SUM_LANES / LANES,   /* vectors of reals that hold them */
    FEW = 4,                            /* up to so many elements are summed in one chain */
    SUM_BLOCK = 128,                    /* doubles that sum_in_blocks adds in one chain */
};

/* How many of n elements fall into a vector of `lanes` lanes whose first one is number `first`. */
INLINE int64_t part_of(int64_t n, int64_t first, int64_t lanes)
{
    return n <= first ? 0 : n - first < lanes ? n - first : lanes;
}

/* The sum of all lanes: l and l + 8 first, then l and l + 4, and so on. */
INLINE double tree(vec_d *total)
{
    for (int half = WIDE_VECTORS / 2; half > 0; half /= 2)
        for (int v = 0; v < half; v++) total[v] = total[v] + total[v + half];
    return tree_of_d(total[0]);
}

/* Sets every vector total[v] of the lanes to WHOLE for LANES_d elements from `at` on, block by
   block; then to SOME for the last n, which may be none: a zero is added even then. */
#define SUM_OVER_LANES(count, WHOLE, SOME)                                                        \
    do {                                                                                          \
        int64_t i = 0;                                                                            \
        for (; i + SUM_LANES <= (count); i += SUM_LANES)                                          \
            for (int v = 0; v < WIDE_VECTORS; v++) {                                              \
                const int64_t at = i + v * LANES_d;                                               \
                total[v] = WHOLE;                                                                 \
            }                                                                                     \
        for (int v = 0; v < WIDE_VECTORS; v++) {                                                  \
            const int64_t n = part_of((count)-i, v * LANES_d, LANES_d);                           \
            const int64_t at = n ? i + v * LANES_d : 0;                                           \
            total[v] = SOME;                                                                      \
        }                                                                                         \
    } while (0)

/* The sum of x[i] for i < count. */
static inline double sum_of(const real *x, int64_t count)
{
    if (count <= FEW) {
        double total = 0.0;
        for (int64_t i = 0; i < count; i++) total += (double)x[i];
        return total;
    }
    vec_d total[WIDE_VECTORS] = {{0}};
    SUM_OVER_LANES(count, total[v] + widen(x + at), total[v] + widen_some(x + at, n));
    return tree(total);
}

/* sum_of for doubles, whatever the network's type. */
static inline double sum_of_doubles(const double *x, int64_t count)
{
    if (count <= FEW) {
        double total = 0.0;
        for (int64_t i = 0; i < count; i++) total += x[i];
        return total;
    }
    vec_d total[WIDE_VECTORS] = {{0}};
    SUM_OVER_LANES(count, total[v] + load_d(x + at), total[v] + load_some_d(x + at, n));
    return tree(total);
}

/* The sum of |x[i]| for i < count. */
static inline double size_of(const real *x, int64_t count)
{
    if (count <= FEW) {
        double total = 0.0;
        for (int64_t i = 0; i < count; i++) total += fabs((double)x[i]);
        return total;
    }
    vec_d total[WIDE_VECTORS] = {{0}};
    SUM_OVER_LANES(count, total[v] + abs_d(widen(x + at)),
                   total[v] + abs_d(widen_some(x + at, n)));
    return tree(total);
}

/* The sum of x[i] y[i] for i < count. */
static inline double dot_of(const real *x, const real *y, int64_t count)
{
    if (count <= FEW) {
        double total = 0.0;
        for (int64_t i = 0; i < count; i++) total = fma((double)x[i], (double)y[i], total);
        return total;
    }
    vec_d total[WIDE_VECTORS] = {{0}};
    SUM_OVER_LANES(count, fma_d(widen(x + at), widen(y + at), total[v]),
                   fma_d(widen_some(x + at, n), widen_some(y + at, n), total[v]));
    return tree(total);
}

/* The largest x[i] for i < count, by compare and select: NaN is skipped, except in x[0]. */
static inline real maximum_of(const real *x, int64_t count)
{
    if (count <= FEW) {
        real largest = x[0];
        for (int64_t i = 1; i < count; i++) largest = x[i] > largest ? x[i] : largest;
        return largest;
    }
    vec total[REAL_VECTORS];
    for (int v = 0; v < REAL_VECTORS; v++) total[v] = set((real)-INFINITY);
    int64_t i = 0;
    for (; i + SUM_LANES <= count; i += SUM_LANES)
        for (int v = 0; v < REAL_VECTORS; v++) total[v] = larger(load(x + i + v * LANES), total[v]);
    for (int v = 0; v < REAL_VECTORS; v++) {
        const int64_t n = part_of(count - i, v * LANES, LANES);
        if (n > 0)
            total[v] = larger(load_or(x + i + v * LANES, n, set((real)-INFINITY)), total[v]);
    }
    for (int half = REAL_VECTORS / 2; half > 0; half /= 2)
        for (int v = 0; v < half; v++) total[v] = larger(total[v + half], total[v]);
    return OF_REAL(highest_of)(total[0]);
}

/* The first i < count with x[i] >= value, or count. */
static inline int64_t first_at_least(const real *x, real value, int64_t count)
{
    enum { BITS = 64 };
    for (int64_t i = 0; i < count; i += BITS) {
        uint64_t found = 0;
        for (int64_t v = 0; v < smaller_of(BITS, count - i); v += LANES) {
            const int64_t n = smaller_of(LANES, count - i - v);
            const vec y = n == LANES ? load(x + i + v) : load_or(x + i + v, n, set(NAN));
            found |= true_lanes(at_most(set(value), y)) << v;
        }
        if (found) return i + __builtin_ctzll(found);
    }
    return count;
}

/* The sum of SUM_LANES consecutive elements in their own type, by the same tree. */
INLINE real sum_of_lanes(const real *sums)
{
    vec total[REAL_VECTORS];
    for (int v = 0; v < REAL_VECTORS; v++) total[v] = load(sums + v * LANES);
    for (int half = REAL_VECTORS / 2; half > 0; half /= 2)
        for (int v = 0; v < half; v++) total[v] = total[v] + total[v + half];
    return OF_REAL(tree_of)(total[0]);
}

/* start + the sum of n doubles: in blocks of SUM_BLOCK, and the blocks in order. */
static inline double sum_in_blocks(double start, const double *values, int64_t n)
{
    double total = start;
    for (int64_t i = 0; i < n; i += SUM_BLOCK) {
        const int64_t end = smaller_of(i + SUM_BLOCK, n);
        double block = 0.0;
        for (int64_t k = i; k < end; k++) block += values[k];
        total += block;
    }
    return total;
}

/* NOT_FINITE if a sum of losses is infinite or not a number. */
INLINE int64_t status_of_loss(double loss)
{
    return loss - loss == 0.0 ? STATUS_OK : STATUS_NOT_FINITE;
}
