/* Leaves of the rows without weights: activations that stand alone, and softmax. */

/* a = act(x) by the epilogue; x and a are (m, n_out); split by rows of the batch. */
static int64_t activation_forward(struct context *ctx, int64_t part, int64_t parts)
{
    const struct row *row = ctx->row;
    const int64_t n = row->n_out, begin = share(ctx->m, 1, part, parts);
    const int64_t rows = share(ctx->m, 1, part + 1, parts) - begin;
    const real *x = buffer(ctx, row->x) + begin * n;
    real *a = buffer(ctx, row->a) + begin * n;
    copy_to(a, x, rows * n);
    epilogue(ctx, x, a, a, rows, n, n, row);
    return STATUS_OK;
}

/* dx = dz, turned into the dz of the row below by the epilogue; split by rows. */
static int64_t activation_inputs(struct context *ctx, int64_t part, int64_t parts)
{
    const struct row *row = ctx->row, *below = row_below(ctx, row);
    const int64_t n = row->n_out, begin = share(ctx->m, 1, part, parts);
    const int64_t rows = share(ctx->m, 1, part + 1, parts) - begin;
    real *dx = buffer(ctx, row->dx) + begin * n;
    copy_to(dx, buffer(ctx, row->da) + begin * n, rows * n);
    epilogue(ctx, buffer(ctx, below->z) + begin * n, buffer(ctx, below->a) + begin * n, dx, rows, n,
             n, below);
    return STATUS_OK;
}

/* The softmax of COLUMN rows of n at most, by columns; x has room for SHORT + 1 of them. */
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

/* a = e^(z - max z) / sum of it, for some rows of n; `room` is for short ones.

   One simple loop after another over all rows, so that each fills the lanes. */
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
    const struct row *row = ctx->row;
    const int64_t n = row->n_out, begin = share(ctx->m, 1, part, parts);
    const int64_t rows = share(ctx->m, 1, part + 1, parts) - begin;
    softmax_of_rows(pack_of(ctx, part), buffer(ctx, row->x) + begin * n,
                    buffer(ctx, row->a) + begin * n, rows, n);
    return STATUS_OK;
}

/* dx = a (da - sum of da a), turned into the dz of the row below by the epilogue. */
static int64_t softmax_inputs(struct context *ctx, int64_t part, int64_t parts)
{
    const struct row *row = ctx->row, *below = row_below(ctx, row);
    const int64_t n = row->n_out, end = share(ctx->m, 1, part + 1, parts);
    const real *a = buffer(ctx, row->a), *da = buffer(ctx, row->da);
    real *dx = buffer(ctx, row->dx), *a_below = buffer(ctx, below->a);
    const real *z_below = buffer(ctx, below->z);
    for (int64_t i = share(ctx->m, 1, part, parts); i < end; i++) {
        const int64_t at = i * n;
        const vec total = set((real)dot_of(da + at, a + at, n));
        FOR_VECTORS(j, some, n,
                    put(dx + at + j, take(a + at + j, some) * (take(da + at + j, some) - total),
                        some););
        epilogue(ctx, z_below + at, a_below + at, dx + at, 1, n, n, below);
    }
    return STATUS_OK;
}
