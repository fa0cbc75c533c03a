/* Group normalisation: z = (x - mean) inv gamma + beta in each group of consecutive columns of a
   row, and a = act(z). (Y. Wu and K. He, Group normalization, 2018; with one group it is J. L. Ba
   et al., Layer normalization, 2016.)

   A segment is a group of one row. x is (m, n), so segments of n / groups elements lie one after
   another, and segment s belongs to group s % groups. Its mean and inv = 1 / sqrt(variance +
   epsilon), rounded to reals, are elements 2 s and 2 s + 1 of what is saved. */

enum {
    BLOCK_ELEMENTS = 2048, /* elements of a block of segments, which stay in L1, unless it is one */
};

/* The lanes of the sum of x[i] - first for i < count. */
INLINE vec_d lanes_of_differences(const real *x, real first, int64_t count)
{
    const vec middle = set(first);
    vec_d total[WIDE_VECTORS] = {{0}};
    vec run[REAL_VECTORS] = {{0}};
    FOR_RUNS(v, at, n, count, join_run(total, run),
             run[v] = run[v] + (take_or(x + at, n, middle) - middle););
    return upper_tree(total);
}

/* The lanes of the sum of (x[i] - mean)^2 for i < count. */
INLINE vec_d lanes_of_squares(const real *x, real mean, int64_t count)
{
    const vec middle = set(mean);
    vec_d total[WIDE_VECTORS] = {{0}};
    vec run[REAL_VECTORS] = {{0}};
    FOR_RUNS(v, at, n, count, join_run(total, run),
             const vec d = take_or(x + at, n, middle) - middle;
             run[v] = fused(d, d, run[v]););
    return upper_tree(total);
}

/* z = (x - mean) inv gamma + beta for a segment, and a = z; gamma and beta may be NULL. */
INLINE void normalise_segment(const real *x, const real *moments, const real *gamma,
                              const real *beta, real *z, real *a, int64_t count)
{
    const vec mean = set(moments[0]), inv = set(moments[1]);
    FOR_VECTORS(j, n, count, vec y = (take(x + j, n) - mean) * inv;
                if (gamma) y = fused(y, take(gamma + j, n), take(beta + j, n));
                put(a + j, y, n);
                if (z != a) put(z + j, y, n););
}

/* Mean and inv of `count` segments of x, as reals. */
static void moments_of(const struct op *op, const real *x, real *moments, int64_t columns,
                       int64_t count)
{
    vec_d totals[SEGMENTS];
    double sums[SEGMENTS];
    for (int64_t s = 0; s < count; s++)
        totals[s] = lanes_of_differences(x + s * columns, x[s * columns], columns);
    lower_trees(sums, totals, count);
    for (int s = 0; s < SEGMENTS; s++) sums[s] = sums[s] / (double)columns;
    for (int64_t s = 0; s < count; s++) moments[2 * s] = (real)((double)x[s * columns] + sums[s]);
    for (int64_t s = 0; s < count; s++)
        totals[s] = lanes_of_squares(x + s * columns, moments[2 * s], columns);
    lower_trees(sums, totals, count);
    for (int s = 0; s < SEGMENTS; s++) sums[s] = 1.0 / sqrt(sums[s] / (double)columns + op->arg1);
    for (int64_t s = 0; s < count; s++) moments[2 * s + 1] = (real)sums[s];
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
            normalise_segment(x + i, moments + 2 * s, gamma ? gamma + j : NULL,
                              beta ? beta + j : NULL, z + i, a + i, columns);
            j = j + columns == op->n_out ? 0 : j + columns;
        }
        epilogue(ctx, z, a, a, 1, count * columns, count * columns, op);
    }
    return STATUS_OK;
}

/* The lanes of the sums of g and of g (x - mean) over a segment, where g = dz gamma. */
INLINE void lanes_of_gradient(vec_d *sum, vec_d *sum_of_products, const real *dz,
                              const real *gamma, const real *x, real middle, int64_t count)
{
    vec_d total[WIDE_VECTORS] = {{0}}, products[WIDE_VECTORS] = {{0}};
    vec run[REAL_VECTORS] = {{0}}, run_of_products[REAL_VECTORS] = {{0}};
    const vec mean = set(middle);
    FOR_RUNS(v, at, n, count, join_run(total, run); join_run(products, run_of_products),
             vec g = take(dz + at, n);
             if (gamma) g = g * take(gamma + at, n);
             run[v] = run[v] + g;
             run_of_products[v] = fused(g, take(x + at, n) - mean, run_of_products[v]););
    *sum = upper_tree(total);
    *sum_of_products = upper_tree(products);
}

/* dx = (g - means[0]) inv - (x - mean) means[1] for a segment, or dx + that. */
INLINE void gradient_of_segment(const real *dz, const real *gamma, const real *x,
                                const real *moments, const real *means, real *dx, int64_t count,
                                bool adds)
{
    const vec mean = set(moments[0]), inv = set(moments[1]);
    const vec of_g = set(means[0]), of_products = set(means[1]);
    FOR_VECTORS(j, n, count, const vec d = take(dz + j, n);
                vec g = d - of_g;
                if (gamma) g = fused(d, take(gamma + j, n), -of_g);
                const vec back = (take(x + j, n) - mean) * of_products;
                put_or_add(dx + j, fused(g, inv, -back), n, adds););
}

/* dx = inv (g - mean(g) - xhat mean(g xhat)) over each segment, with g = dz gamma and
   xhat = (x - mean) inv; or dx + that; then times the derivative below by the epilogue.

   x, dz and dx are (m, n); split by rows of the batch. */
static int64_t group_norm_inputs(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t groups = (int64_t)op->arg2, columns = op->n_out / groups;
    const struct range mine = rows_of_part(ctx, part, parts);
    const real *gamma = op->w == NONE ? NULL : (const real *)ctx->params + op->w;
    const int64_t end = mine.end * groups, step = segments_of_block(columns);
    vec_d totals[SEGMENTS], products[SEGMENTS];
    double sums[SEGMENTS], slopes[SEGMENTS];
    for (int64_t first = mine.begin * groups; first < end; first += step) {
        const int64_t count = smaller_of(step, end - first), at = first * columns;
        const real *x = buffer(ctx, op->x) + at, *dz = buffer(ctx, op->da) + at;
        const real *saved = buffer(ctx, op->saved) + 2 * first;
        real *dx = buffer(ctx, op->dx) + at;
        const int64_t start = first % groups * columns;
        for (int64_t s = 0, j = start; s < count; s++) {
            lanes_of_gradient(totals + s, products + s, dz + s * columns, gamma ? gamma + j : NULL,
                              x + s * columns, saved[2 * s], columns);
            j = j + columns == op->n_out ? 0 : j + columns;
        }
        lower_trees(sums, totals, count);
        lower_trees(slopes, products, count);
        for (int s = 0; s < SEGMENTS; s++) sums[s] = sums[s] / (double)columns;
        for (int s = 0; s < SEGMENTS; s++) slopes[s] = slopes[s] / (double)columns;
        for (int64_t s = 0, j = start; s < count; s++) {
            const int64_t i = s * columns;
            const double inv = (double)saved[2 * s + 1];
            const real means[2] = {(real)sums[s], (real)(slopes[s] * inv * inv * inv)};
            gradient_of_segment(dz + i, gamma ? gamma + j : NULL, x + i, saved + 2 * s, means,
                                dx + i, columns, op->adds);
            j = j + columns == op->n_out ? 0 : j + columns;
        }
    }
    apply_derivative(ctx, op->below, buffer(ctx, op->dx), op->n_out, mine);
    return STATUS_OK;
}

/* dgamma_j = sum over i of dz_ij xhat_ij and dbeta_j = sum over i of dz_ij; x and dz are (m, n),
   the gradients (n,); split by columns. */
static int64_t group_norm_parameters(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t groups = (int64_t)op->arg2;
    sum_rows_of_columns(ctx, buffer(ctx, op->saved), 2 * groups, groups,
                        share_of(op->n_out, 16, part, parts));
    return STATUS_OK;
}

#define GROUP_NORM_SYMBOLS                                                                        \
    SYMBOL(group_norm_forward)                                                                    \
    SYMBOL(group_norm_inputs)                                                                     \
    SYMBOL(group_norm_parameters)
