/* Group normalisation: z = (x - mean) inv gamma + beta in each group of consecutive columns of a
   row, and a = act(z). (Y. Wu and K. He, Group normalization, 2018; with one group it is J. L. Ba
   et al., Layer normalization, 2016.)

   A segment is a group of one row. x is (m, n), so segments of n / groups elements lie one after
   another, and segment s belongs to group s % groups. Its mean and inv = 1 / sqrt(variance +
   epsilon), rounded to reals, are elements 2 s and 2 s + 1 of what is saved. */

enum {
    SEGMENTS = 16,           /* most segments of a block, ... */
    BLOCK_ELEMENTS = 2048,   /* ... and their elements, which stay in L1, unless it is one */
    CHUNK = 4 * LANES_d,     /* columns that are summed over the rows together */
};

/* A vector of doubles, or its first n where n is less and zeros. */
INLINE vec_d take_wide(const real *p, int64_t n)
{
    return n == LANES_d ? widen(p) : widen_some(p, n);
}

/* Run the statements on each vector v of the virtual lanes, n elements from `at` on, until all
   `count` are done. */
#define FOR_LANES(v, at, n, count, ...)                                                           \
    do {                                                                                          \
        int64_t i_ = 0;                                                                           \
        for (; i_ + SUM_LANES <= (count); i_ += SUM_LANES)                                        \
            for (int v = 0; v < WIDE_VECTORS; v++) {                                              \
                const int64_t n = LANES_d, at = i_ + v * LANES_d;                                 \
                __VA_ARGS__                                                                       \
            }                                                                                     \
        for (int v = 0; i_ < (count) && v < WIDE_VECTORS; v++) {                                  \
            const int64_t n = part_of((count)-i_, v * LANES_d, LANES_d);                          \
            const int64_t at = n ? i_ + v * LANES_d : 0;                                          \
            __VA_ARGS__                                                                           \
        }                                                                                         \
    } while (0)

/* The sum of (x[i] - mean)^2 for i < count. */
static inline double squares_around(const real *x, double mean, int64_t count)
{
    if (count <= FEW) {
        double total = 0.0;
        for (int64_t i = 0; i < count; i++) {
            const double d = (double)x[i] - mean;
            total = fma(d, d, total);
        }
        return total;
    }
    double means[LANES_d];
    store_d(means, set_d(mean));
    vec_d total[WIDE_VECTORS] = {{0}};
    FOR_LANES(v, at, n, count,
              const vec_d middle = n == LANES_d ? set_d(mean) : load_some_d(means, n);
              const vec_d d = take_wide(x + at, n) - middle; total[v] = fma_d(d, d, total[v]););
    return tree(total);
}

/* The sum of x[i] for i < count, as sum_of. */
static inline double total_of(const real *x, int64_t count)
{
    if (count <= FEW) return sum_of(x, count);
    vec_d total[WIDE_VECTORS] = {{0}};
    FOR_LANES(v, at, n, count, total[v] = total[v] + take_wide(x + at, n););
    return tree(total);
}

/* z = (x - mean) inv gamma + beta for a segment, and a = z; gamma and beta may be NULL. */
INLINE void normalise(const real *x, const real *moments, const real *gamma, const real *beta,
                      real *z, real *a, int64_t count)
{
    const vec mean = set(moments[0]), inv = set(moments[1]);
    FOR_VECTORS(j, n, count, vec y = (take(x + j, n) - mean) * inv;
                if (gamma) y = y * take(gamma + j, n) + take(beta + j, n);
                put(a + j, y, n);
                if (z != a) put(z + j, y, n););
}

/* Mean and inv of `count` segments of x, as reals. */
static void moments_of(const struct op *op, const real *x, real *moments, int64_t columns,
                       int64_t count)
{
    double mean[SEGMENTS], variance[SEGMENTS];
    for (int64_t s = 0; s < count; s++)
        mean[s] = total_of(x + s * columns, columns) / (double)columns;
    for (int64_t s = 0; s < count; s++)
        variance[s] = squares_around(x + s * columns, mean[s], columns) / (double)columns;
    for (int64_t s = 0; s < count; s++) {
        moments[2 * s] = (real)mean[s];
        moments[2 * s + 1] = (real)(1.0 / sqrt(variance[s] + op->arg1));
    }
}

/* How many segments a block has. */
INLINE int64_t segments_of_block(int64_t columns)
{
    return larger_of(1, smaller_of(SEGMENTS, BLOCK_ELEMENTS / columns));
}

/* z = (x - mean) inv gamma + beta, then a = act(z) by the epilogue; split by rows of the batch.

   x, z and a are (m, n), gamma and beta (n,); saves mean and inv (m, groups, 2) if that is laid
   out. */
static int64_t group_norm_forward(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t groups = (int64_t)op->arg2, columns = op->n_out / groups;
    const struct range mine = rows_of_part(ctx, part, parts);
    const real *params = (const real *)ctx->params;
    const real *gamma = op->w == NONE ? NULL : params + op->w;
    const real *beta = op->w == NONE ? NULL : params + op->b;
    const int64_t end = mine.end * groups, step = segments_of_block(columns);
    real own[2 * SEGMENTS];
    for (int64_t first = mine.begin * groups; first < end; first += step) {
        const int64_t count = smaller_of(step, end - first), at = first * columns;
        const real *x = buffer(ctx, op->x) + at;
        real *z = buffer(ctx, op->z) + at, *a = buffer(ctx, op->a) + at;
        real *moments = op->saved == NONE ? own : buffer(ctx, op->saved) + 2 * first;
        moments_of(op, x, moments, columns, count);
        int64_t j = first % groups * columns;
        for (int64_t s = 0; s < count; s++) {
            const int64_t i = s * columns;
            normalise(x + i, moments + 2 * s, gamma ? gamma + j : NULL, beta ? beta + j : NULL,
                      z + i, a + i, columns);
            j = j + columns == op->n_out ? 0 : j + columns;
        }
        epilogue(ctx, z, a, a, 1, count * columns, count * columns, op);
    }
    return STATUS_OK;
}

/* The sums of g and of g (x - mean) over a segment, where g = dz gamma, in sums[0] and sums[1]. */
INLINE void sums_of_gradient(const real *dz, const real *gamma, const real *x, double mean,
                             int64_t count, double *sums)
{
    if (count <= FEW) {
        sums[0] = sums[1] = 0.0;
        for (int64_t i = 0; i < count; i++) {
            const double g = gamma ? (double)dz[i] * (double)gamma[i] : (double)dz[i];
            sums[0] += g;
            sums[1] = fma(g, (double)x[i] - mean, sums[1]);
        }
        return;
    }
    vec_d total[WIDE_VECTORS] = {{0}}, products[WIDE_VECTORS] = {{0}};
    const vec_d middle = set_d(mean);
    FOR_LANES(v, at, n, count, vec_d g = take_wide(dz + at, n);
              if (gamma) g = g * take_wide(gamma + at, n);
              total[v] = total[v] + g;
              products[v] = fma_d(g, take_wide(x + at, n) - middle, products[v]););
    sums[0] = tree(total);
    sums[1] = tree(products);
}

/* dx = inv (g - mean(g) - xhat mean(g xhat)) over each segment, with g = dz gamma and
   xhat = (x - mean) inv; or dx + that; then times the derivative below by the epilogue.

   x, dz and dx are (m, n); split by rows of the batch. */
static int64_t group_norm_inputs(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t groups = (int64_t)op->arg2, columns = op->n_out / groups;
    const struct range mine = rows_of_part(ctx, part, parts);
    const real *weights = op->w == NONE ? NULL : (const real *)ctx->params + op->w;
    const real *saved = buffer(ctx, op->saved);
    for (int64_t s = mine.begin * groups; s < mine.end * groups; s++) {
        const int64_t at = s * columns;
        const real *gamma = weights ? weights + s % groups * columns : NULL;
        const real *x = buffer(ctx, op->x) + at, *dz = buffer(ctx, op->da) + at;
        real *dx = buffer(ctx, op->dx) + at;
        const real mean = saved[2 * s], scale = saved[2 * s + 1];
        double sums[2];
        sums_of_gradient(dz, gamma, x, (double)mean, columns, sums);
        const vec middle = set(mean), inv = set(scale);
        const vec of_g = set((real)(sums[0] / (double)columns));
        const vec of_products = set((real)(sums[1] * (double)scale / (double)columns));
        FOR_VECTORS(j, n, columns, vec g = take(dz + j, n);
                    if (gamma) g = g * take(gamma + j, n);
                    const vec xhat = (take(x + j, n) - middle) * inv;
                    put_or_add(dx + j, inv * ((g - of_g) - xhat * of_products), n, op->adds););
    }
    apply_derivative(ctx, op->below, buffer(ctx, op->dx), op->n_out, mine);
    return STATUS_OK;
}

/* The sums over some rows of dz xhat and of dz, for `some` columns of one group, as doubles: adds
   them to gamma[j] and beta[j]. Rows of x and dz are n elements apart, those of saved 2 groups. */
INLINE void add_rows_of_chunk(double *gamma, double *beta, const real *x, const real *dz,
                              const real *saved, const struct op *op, int64_t rows, int64_t some)
{
    vec_d products[CHUNK / LANES_d] = {{0}}, total[CHUNK / LANES_d] = {{0}};
    const int64_t between = 2 * (int64_t)op->arg2;
    for (int64_t i = 0; i < rows; i++, x += op->n_out, dz += op->n_out, saved += between) {
        const vec_d mean = set_d((double)saved[0]), inv = set_d((double)saved[1]);
        for (int v = 0; v < CHUNK / LANES_d; v++) {
            const int64_t n = part_of(some, v * LANES_d, LANES_d), at = n ? v * LANES_d : 0;
            const vec_d d = take_wide(dz + at, n);
            products[v] = fma_d(d, (take_wide(x + at, n) - mean) * inv, products[v]);
            total[v] = total[v] + d;
        }
    }
    for (int v = 0; v < CHUNK / LANES_d; v++) {
        const int64_t n = part_of(some, v * LANES_d, LANES_d), at = n ? v * LANES_d : 0;
        store_some_d(gamma + at, load_some_d(gamma + at, n) + products[v], n);
        store_some_d(beta + at, load_some_d(beta + at, n) + total[v], n);
    }
}

/* dgamma_j = sum over i of dz_ij xhat_ij and dbeta_j = sum over i of dz_ij: in blocks of KC rows,
   and the blocks in order.

   x and dz are (m, n); writes 2 n totals to the per-batch space and the gradients (n,); split by
   columns. */
static int64_t group_norm_parameters(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_out, groups = (int64_t)op->arg2, columns = n / groups;
    const struct range mine = share_of(n, 16, part, parts);
    real *gradient = (real *)ctx->grad;
    for (int64_t j = mine.begin, next; j < mine.end; j = next) {
        const int64_t group = j / columns;
        next = smaller_of(j + CHUNK, smaller_of((group + 1) * columns, mine.end));
        double *gamma = ctx->batch + op->batch + j, *beta = gamma + n;
        const int64_t some = next - j;
        if (!is_continued(ctx)) {
            memset(gamma, 0, (size_t)some * sizeof(double));
            memset(beta, 0, (size_t)some * sizeof(double));
        }
        for (int64_t i = 0; i < ctx->m; i += KC) {
            const real *x = buffer(ctx, op->x) + i * n + j, *dz = buffer(ctx, op->da) + i * n + j;
            const real *saved = buffer(ctx, op->saved) + 2 * (i * groups + group);
            const int64_t rows = smaller_of(KC, ctx->m - i);
            if (some == CHUNK)
                add_rows_of_chunk(gamma, beta, x, dz, saved, op, rows, CHUNK);
            else
                add_rows_of_chunk(gamma, beta, x, dz, saved, op, rows, some);
        }
        for (int64_t k = 0; k < some; k++) {
            gradient[op->w + j + k] = (real)gamma[k];
            gradient[op->b + j + k] = (real)beta[k];
        }
    }
    return STATUS_OK;
}

#define GROUP_NORM_SYMBOLS                                                                        \
    SYMBOL(group_norm_forward)                                                                    \
    SYMBOL(group_norm_inputs)                                                                     \
    SYMBOL(group_norm_parameters)
