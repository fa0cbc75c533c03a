/* The softmax operation, a_ij = e^z_ij / sum over k of e^z_ik. */

/* a = softmax of z, for at most COLUMN short rows of n; x has room for SHORT + 1 columns. */
static void softmax_of_short_rows(real *x, const real *z, real *a, int64_t rows, int64_t n)
{
    double sums[SHORT * COLUMN];
    real *total = x + SHORT * COLUMN;
    to_columns(x, z, rows, n);
    subtract_maximum(x, n);
    FOR_VECTORS(j, some, n * COLUMN, put(x + j, OF_REAL(exp_of)(take(x + j, some)), some););
    sums_of_columns(sums, x, n);
    for (int i = 0; i < COLUMN; i++) total[i] = (real)sums[i];
    for (int64_t j = 0; j < n * COLUMN; j += COLUMN)
        for (int v = 0; v < COLUMN; v += LANES) store(x + j + v, load(x + j + v) / load(total + v));
    from_columns(a, x, rows, n);
}

/* a = e^(z - max z) / sum of it, for some rows of n; `room` holds the columns of short ones.

   Several simple loops over all rows, so that each fills the lanes. */
static void softmax_of_rows(real *room, const real *z, real *a, int64_t rows, int64_t n)
{
    for (; n <= SHORT && rows > COLUMN / 2; rows -= COLUMN, z += COLUMN * n, a += COLUMN * n)
        softmax_of_short_rows(room, z, a, smaller_of(COLUMN, rows), n);
    for (int64_t i = 0; i < rows * n; i += n) {
        const vec highest = set(maximum_of(z + i, n));
        FOR_VECTORS(j, some, n, put(a + i + j, take(z + i + j, some) - highest, some););
    }
    FOR_VECTORS(j, some, rows * n, put(a + j, OF_REAL(exp_of)(take(a + j, some)), some););
    for (int64_t i = 0; i < rows * n; i += n) {
        const vec total = set((real)sum_of(a + i, n));
        FOR_VECTORS(j, some, n, put(a + i + j, take(a + i + j, some) / total, some););
    }
}

/* a = softmax of each row of x; x and a are (m, n_out); split by rows of the batch. */
static int64_t softmax_forward(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_out;
    const struct range mine = rows_of_part(ctx, part, parts);
    softmax_of_rows(pack_of(ctx, part), buffer(ctx, op->x) + mine.begin * n,
                    buffer(ctx, op->a) + mine.begin * n, mine.end - mine.begin, n);
    return STATUS_OK;
}

/* dx = a (da - sum of da a) or dx + that, then times the derivative below by the epilogue.

   a and da are (m, n_out); writes dx (m, n_in = n_out); split by rows of the batch. */
static int64_t softmax_inputs(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_out;
    const real *a = buffer(ctx, op->a), *da = buffer(ctx, op->da);
    real *dx = buffer(ctx, op->dx);
    const struct range mine = rows_of_part(ctx, part, parts);
    for (int64_t at = mine.begin * n; at < mine.end * n; at += n) {
        const vec total = set((real)dot_of(da + at, a + at, n));
        FOR_VECTORS(j, some, n,
                    const vec d = take(a + at + j, some) * (take(da + at + j, some) - total);
                    put_or_add(dx + at + j, d, some, op->adds););
    }
    apply_derivative(ctx, op->below, dx, n, mine);
    return STATUS_OK;
}

#define SOFTMAX_SYMBOLS                                                                           \
    SYMBOL(softmax_forward)                                                                       \
    SYMBOL(softmax_inputs)
