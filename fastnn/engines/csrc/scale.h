/* Scale: a = x gamma (+ beta), with learned gamma and beta for each column. */

/* a = x gamma + beta; x and a are (m, n), gamma and beta (n,); split by rows of the batch. */
static int64_t scale_forward(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t columns = op->n_out;
    const struct range mine = rows_of_part(ctx, part, parts);
    const real *gamma = (const real *)ctx->params + op->w;
    const real *beta = op->b == NONE ? NULL : (const real *)ctx->params + op->b;
    for (int64_t at = mine.begin * columns; at < mine.end * columns; at += columns) {
        const real *x = buffer(ctx, op->x) + at;
        real *a = buffer(ctx, op->a) + at;
        FOR_VECTORS(j, n, columns, vec y = take(x + j, n) * take(gamma + j, n);
                    if (beta) y = y + take(beta + j, n);
                    put(a + j, y, n););
    }
    return STATUS_OK;
}

/* dx = da gamma, or dx + that, then times the derivative below by the epilogue; da and dx are
   (m, n); split by rows of the batch. */
static int64_t scale_inputs(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t columns = op->n_out;
    const struct range mine = rows_of_part(ctx, part, parts);
    const real *gamma = (const real *)ctx->params + op->w;
    for (int64_t at = mine.begin * columns; at < mine.end * columns; at += columns) {
        const real *da = buffer(ctx, op->da) + at;
        real *dx = buffer(ctx, op->dx) + at;
        FOR_VECTORS(j, n, columns,
                    put_or_add(dx + j, take(da + j, n) * take(gamma + j, n), n, op->adds););
    }
    apply_derivative(ctx, op->below, buffer(ctx, op->dx), columns, mine);
    return STATUS_OK;
}

/* dgamma_j = sum over i of da_ij x_ij and dbeta_j = sum over i of da_ij; x and da are (m, n), the
   gradients (n,); split by columns. */
static int64_t scale_parameters(struct context *ctx, int64_t part, int64_t parts)
{
    static const real moments[2] = {0, 1}; /* xhat = x */
    sum_rows_of_columns(ctx, moments, 0, 1, share_of(ctx->op->n_out, 16, part, parts));
    return STATUS_OK;
}

#define SCALE_SYMBOLS                                                                             \
    SYMBOL(scale_forward)                                                                         \
    SYMBOL(scale_inputs)                                                                          \
    SYMBOL(scale_parameters)
