/* The residual sum of two values, z = x + x2 and a = act(z). */

/* z = x + x2, then a = act(z) by the epilogue; all are (m, n_out); split by rows of the batch. */
static int64_t residual_forward(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_out;
    const struct range mine = rows_of_part(ctx, part, parts);
    const int64_t rows = mine.end - mine.begin, at = mine.begin * n;
    const real *x = buffer(ctx, op->x) + at, *x2 = buffer(ctx, op->x2) + at;
    real *z = buffer(ctx, op->z) + at, *a = buffer(ctx, op->a) + at;
    FOR_VECTORS(i, some, rows * n, put(z + i, take(x + i, some) + take(x2 + i, some), some););
    if (z != a) copy_to(a, z, rows * n);
    epilogue(ctx, z, a, a, rows, n, n, op);
    return STATUS_OK;
}

/* dx = dz or dx + dz, then times the derivative below by the epilogue; split by rows. */
static int64_t residual_inputs(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    pass_gradient(ctx, op->dx, op->adds, op->below, rows_of_part(ctx, part, parts));
    return STATUS_OK;
}

/* The same for dx2, the gradient of the shortcut. */
static int64_t residual_shortcut(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    pass_gradient(ctx, op->dx2, op->adds2, op->below2, rows_of_part(ctx, part, parts));
    return STATUS_OK;
}

#define RESIDUAL_SYMBOLS                                                                          \
    SYMBOL(residual_forward)                                                                      \
    SYMBOL(residual_inputs)                                                                       \
    SYMBOL(residual_shortcut)
