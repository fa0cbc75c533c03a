/* Sums of few elements, in runs: each virtual lane, or column, adds up to RUN elements in the
   network's type, and then the runs are added in order, as doubles.

   The lanes are those of reductions.h, and the same tree joins them. The last elements, of which
   not every lane has one, are a run of their own. */

enum {
    RUN = 8,               /* changing it changes results bitwise */
    SEGMENTS = 16,         /* most sums whose trees are computed side by side */
    CHUNK = 2 * SUM_LANES, /* columns that are summed over the rows together */
};

/* Run the statements on each vector v of the virtual lanes, n elements from `at` on, for `count`
   elements; after each run, which is RUN elements of each lane, or the last ones of some, JOIN. */
#define FOR_RUNS(v, at, n, count, JOIN, ...)                                                      \
    do {                                                                                          \
        const int64_t count_ = (count), whole_ = count_ - count_ % SUM_LANES;                     \
        int64_t i_ = 0;                                                                           \
        while (i_ < whole_) {                                                                     \
            const int64_t end_ = smaller_of(i_ + RUN * SUM_LANES, whole_);                        \
            for (; i_ < end_; i_ += SUM_LANES)                                                    \
                for (int v = 0; v < REAL_VECTORS; v++) {                                          \
                    const int64_t n = LANES, at = i_ + v * LANES;                                 \
                    __VA_ARGS__                                                                   \
                }                                                                                 \
            JOIN;                                                                                 \
        }                                                                                         \
        if (i_ < count_) {                                                                        \
            for (int v = 0; v < REAL_VECTORS; v++) {                                              \
                const int64_t n = part_of(count_ - i_, v * LANES, LANES);                         \
                const int64_t at = n ? i_ + v * LANES : 0;                                        \
                __VA_ARGS__                                                                       \
            }                                                                                     \
            JOIN;                                                                                 \
        }                                                                                         \
    } while (0)

/* A vector, or its first n lanes where n is less, and the rest of another one. */
INLINE vec take_or(const real *p, int64_t n, vec other)
{
    return n == LANES ? load(p) : load_or(p, n, other);
}

/* total += the lanes of a run, as doubles, which begins anew. */
INLINE void join_run(vec_d *total, vec *run)
{
    real lanes[SUM_LANES];
    for (int v = 0; v < REAL_VECTORS; v++) {
        store(lanes + v * LANES, run[v]);
        run[v] = set(0);
    }
    for (int v = 0; v < WIDE_VECTORS; v++) total[v] = total[v] + widen(lanes + v * LANES_d);
}

/* The tree over the lanes, as far as it joins whole vectors. */
INLINE vec_d upper_tree(vec_d *total)
{
    for (int half = WIDE_VECTORS / 2; half > 0; half /= 2)
        for (int v = 0; v < half; v++) total[v] = total[v] + total[v + half];
    return total[0];
}

/* Joins lane l with lane l + half in each 2 half lanes of two vectors. */
#define LOW_LANE(lane, half) (lane) / (half) * 2 * (half) + (lane) % (half)
#define HIGH_LANE(lane, half) LOW_LANE(lane, half) + (half)
#define JOIN_LANES(half, n)                                                                       \
    for (int i = 0; i < (n); i++)                                                                 \
        v[i] = SHUFFLE(bits_d, v[2 * i], v[2 * i + 1], EACH_LANE_d(LOW_LANE, half))               \
               + SHUFFLE(bits_d, v[2 * i], v[2 * i + 1], EACH_LANE_d(HIGH_LANE, half));

/* The rest of the tree for the first `count` segments of a block, side by side: sums[s] is that of
   segment s, and 0 for the others. */
INLINE void lower_trees(double *sums, vec_d *totals, int64_t count)
{
    for (int64_t s = count; s < SEGMENTS; s++) totals[s] = set_d(0);
    for (int s = 0; s < SEGMENTS; s += LANES_d) {
        vec_d v[LANES_d];
        for (int i = 0; i < LANES_d; i++) v[i] = totals[s + i];
#if VECTOR_BYTES == 64
        JOIN_LANES(4, 4)
        JOIN_LANES(2, 2)
#elif VECTOR_BYTES == 32
        JOIN_LANES(2, 2)
#endif
        JOIN_LANES(1, 1)
        store_d(sums + s, v[0]);
    }
}

/* gamma[j] += dz xhat and beta[j] += dz, summed over at most RUN rows, for `some` columns, where
   xhat = (x - mean) inv. Rows of x and dz are n elements apart, the pairs of mean and inv
   `per_row`. */
INLINE void add_run_of_rows(double *gamma, double *beta, const real *x, const real *dz,
                            const real *moments, int64_t per_row, int64_t n, int64_t rows,
                            int64_t some)
{
    vec products[CHUNK / LANES], total[CHUNK / LANES];
    real lanes[CHUNK];
    for (int v = 0; v < CHUNK / LANES; v++) products[v] = total[v] = set(0);
#pragma GCC unroll 2 /* else GCC unrolls all of it, and spills */
    for (int64_t i = 0; i < rows; i++, x += n, dz += n, moments += per_row) {
        const vec mean = set(moments[0]), inv = set(moments[1]);
        for (int v = 0; v < CHUNK / LANES; v++) {
            const int64_t count = part_of(some, v * LANES, LANES), at = count ? v * LANES : 0;
            const vec d = take(dz + at, count);
            products[v] = fused(d, (take(x + at, count) - mean) * inv, products[v]);
            total[v] = total[v] + d;
        }
    }
    for (int v = 0; v < CHUNK / LANES; v++) store(lanes + v * LANES, products[v]);
    for (int64_t j = 0; j < some; j++) gamma[j] = gamma[j] + (double)lanes[j];
    for (int v = 0; v < CHUNK / LANES; v++) store(lanes + v * LANES, total[v]);
    for (int64_t j = 0; j < some; j++) beta[j] = beta[j] + (double)lanes[j];
}

/* The same for CHUNK columns. GCC keeps the sums in registers only if this is a function. */
NOINLINE void add_run_of_chunk(double *gamma, double *beta, const real *x, const real *dz,
                               const real *moments, int64_t per_row, int64_t n, int64_t rows)
{
    add_run_of_rows(gamma, beta, x, dz, moments, per_row, n, rows, CHUNK);
}

/* dgamma_j = sum over i of dz_ij xhat_ij and dbeta_j = sum over i of dz_ij, for some columns.

   x and dz of the operation are (m, n), in `groups` groups of columns, and xhat = (x - mean) inv
   with the pairs of mean and inv of each row's groups, which lie `per_row` elements apart. Keeps
   2 n totals in the per-batch space, for further pieces of the batch. There may be no beta. */
static void sum_rows_of_columns(const struct context *ctx, const real *moments, int64_t per_row,
                                int64_t groups, struct range columns)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_out, width = n / groups;
    real *gradient = (real *)ctx->grad;
    for (int64_t j = columns.begin, next; j < columns.end; j = next) {
        const int64_t group = j / width;
        next = smaller_of(j + CHUNK, smaller_of((group + 1) * width, columns.end));
        double *gamma = ctx->batch + op->batch + j, *beta = gamma + n;
        const int64_t some = next - j;
        if (!is_continued(ctx)) {
            memset(gamma, 0, (size_t)some * sizeof(double));
            memset(beta, 0, (size_t)some * sizeof(double));
        }
        const real *x = buffer(ctx, op->x) + j, *dz = buffer(ctx, op->da) + j;
        const real *own = moments + 2 * group;
        for (int64_t i = 0; i < ctx->m; i += RUN, x += RUN * n, dz += RUN * n) {
            const int64_t rows = smaller_of(RUN, ctx->m - i);
            if (some == CHUNK)
                add_run_of_chunk(gamma, beta, x, dz, own + i * per_row, per_row, n, rows);
            else
                add_run_of_rows(gamma, beta, x, dz, own + i * per_row, per_row, n, rows, some);
        }
        for (int64_t k = 0; k < some; k++) gradient[op->w + j + k] = (real)gamma[k];
        for (int64_t k = 0; op->b != NONE && k < some; k++)
            gradient[op->b + j + k] = (real)beta[k];
    }
}
