/* PReLU: a = x where x > 0, else alpha x, with a trained slope alpha for each column, or one for
   all if arg0 is not 0. (K. He et al., Delving deep into rectifiers, 2015.) */

/* out = v where x > 0, else alpha v, or that added to out; some rows of the batch from x, v and out
   on. */
static void prelu_of_rows(const struct context *ctx, const real *x, const real *v, real *out,
                          int64_t rows, bool adds)
{
    const struct op *op = ctx->op;
    const real *alpha = (const real *)ctx->params + op->w;
    const bool shared = op->arg0 != 0.0;
    const vec zero = set(0), one_slope = set(alpha[0]);
    const int64_t columns = shared ? rows * op->n_out : op->n_out;
    for (int64_t at = 0; at < rows * op->n_out; at += columns)
        FOR_VECTORS(j, n, columns, const vec value = take(v + at + j, n);
                    const vec slope = shared ? one_slope : take(alpha + j, n);
                    const vec y = choose(less(zero, take(x + at + j, n)), value, slope * value);
                    put_or_add(out + at + j, y, n, adds););
}

/* a = prelu(x); x and a are (m, n_out); split by rows of the batch. */
static int64_t prelu_forward(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const struct range mine = rows_of_part(ctx, part, parts);
    const int64_t at = mine.begin * op->n_out;
    prelu_of_rows(ctx, buffer(ctx, op->x) + at, buffer(ctx, op->x) + at, buffer(ctx, op->a) + at,
                  mine.end - mine.begin, false);
    return STATUS_OK;
}

/* dx = da where x > 0, else alpha da, or dx + that, then times the derivative below by the
   epilogue; x, da and dx are (m, n_out); split by rows of the batch. */
static int64_t prelu_inputs(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const struct range mine = rows_of_part(ctx, part, parts);
    const int64_t at = mine.begin * op->n_out;
    prelu_of_rows(ctx, buffer(ctx, op->x) + at, buffer(ctx, op->da) + at, buffer(ctx, op->dx) + at,
                  mine.end - mine.begin, op->adds);
    apply_derivative(ctx, op->below, buffer(ctx, op->dx), op->n_out, mine);
    return STATUS_OK;
}

/* totals[j] += the sum over some rows of da_ij min(x_ij, 0), as doubles, for `columns` columns of
   matrices whose rows are n elements apart; `block` has room for one sum of each. */
static void add_block_of_slopes(double *totals, double *block, const real *x, const real *da,
                                int64_t rows, int64_t columns, int64_t n)
{
    const vec_d zero = set_d(0);
    memset(block, 0, (size_t)columns * sizeof(double));
    for (int64_t i = 0; i < rows; i++, x += n, da += n) {
        int64_t j = 0;
        for (; j + LANES_d <= columns; j += LANES_d) {
            const vec_d v = widen(x + j), negative = select_d(less_d(zero, v), zero, v);
            store_d(block + j, fma_d(widen(da + j), negative, load_d(block + j)));
        }
        if (j < columns) {
            const int64_t some = columns - j;
            const vec_d v = widen_some(x + j, some);
            const vec_d negative = select_d(less_d(zero, v), zero, v);
            const vec_d sum = fma_d(widen_some(da + j, some), negative,
                                    load_some_d(block + j, some));
            store_some_d(block + j, sum, some);
        }
    }
    for (int64_t j = 0; j < columns; j++) totals[j] = totals[j] + block[j];
}

/* dalpha_j = sum over i of da_ij min(x_ij, 0), in blocks of KC rows, and the blocks in order.

   x and da are (m, n_out); writes n_out totals and n_out sums of a block to the per-batch space,
   and the gradient (n_out,) unless one slope is shared; split by columns. */
static int64_t prelu_slopes(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_out;
    const struct range mine = share_of(n, 16, part, parts);
    const int64_t columns = mine.end - mine.begin;
    if (columns == 0) return STATUS_OK;
    const real *x = buffer(ctx, op->x) + mine.begin, *da = buffer(ctx, op->da) + mine.begin;
    double *totals = ctx->batch + op->batch + mine.begin, *block = totals + n;
    if (!is_continued(ctx)) memset(totals, 0, (size_t)columns * sizeof(double));
    for (int64_t i = 0; i < ctx->m; i += KC)
        add_block_of_slopes(totals, block, x + i * n, da + i * n, smaller_of(KC, ctx->m - i),
                            columns, n);
    if (op->arg0 == 0.0) {
        real *gradient = (real *)ctx->grad + op->w + mine.begin;
        for (int64_t j = 0; j < columns; j++) gradient[j] = (real)totals[j];
    }
    return STATUS_OK;
}

/* The gradient of a shared slope: the sum of the totals of prelu_slopes; not split. */
static int64_t prelu_shared_slope(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    (void)part, (void)parts;
    const double *totals = ctx->batch + op->batch;
    ((real *)ctx->grad)[op->w] = (real)sum_of_doubles(totals, op->n_out);
    return STATUS_OK;
}

#define PRELU_SYMBOLS                                                                             \
    SYMBOL(prelu_forward)                                                                         \
    SYMBOL(prelu_slopes)                                                                          \
    SYMBOL(prelu_shared_slope)                                                                    \
    SYMBOL(prelu_inputs)
