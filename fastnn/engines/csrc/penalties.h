/* What limits the weights of a dense operation: l1 and l2 penalties, and the norms of its units. */

INLINE bool is_penalised(const struct op *op) { return op->arg1 != 0.0 || op->arg2 != 0.0; }

/* dW = l1 sign(W) + 2 l2 W, times penalty_scale, for a block of W that begins at element `at`. */
static void penalty_derivative(const struct context *ctx, int64_t at, int64_t rows,
                               int64_t columns)
{
    const struct op *op = ctx->op;
    const real *w = (const real *)ctx->params + op->w + at;
    real *dw = (real *)ctx->grad + op->w + at;
    const vec zero = set(0), l1 = set((real)(op->arg1 * ctx->penalty_scale));
    const vec l2 = set((real)(2.0 * op->arg2 * ctx->penalty_scale));
    for (int64_t r = 0; r < rows; r++, w += op->n_out, dw += op->n_out)
        FOR_VECTORS(c, n, columns, const vec v = take(w + c, n);
                    const vec sign = choose(less(zero, v), l1, choose(less(v, zero), -l1, zero));
                    put(dw + c, sign + l2 * v, n););
}

/* penalties[k] = sum over j of l1 |w_kj| + l2 w_kj^2, in the last piece; split by rows of W.

   W (n_in, n_out); writes n_in doubles of the per-batch space. */
static int64_t penalise(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    if (!is_last_piece(ctx)) return STATUS_OK;
    const int64_t n = op->n_out;
    const real *w = (const real *)ctx->params + op->w;
    const struct range mine = share_of(op->n_in, 1, part, parts);
    for (int64_t k = mine.begin; k < mine.end; k++) {
        double penalty = op->arg2 * dot_of(w + k * n, w + k * n, n);
        if (op->arg1 != 0.0) penalty += op->arg1 * size_of(w + k * n, n);
        ctx->batch[op->batch + k] = penalty;
    }
    return STATUS_OK;
}

/* result[0] += the sum of what penalise wrote, times the weight of the batch; not split.

   Where it counts like a row, the batches of an evaluation together have one such row. */
static int64_t add_penalty(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    (void)part, (void)parts;
    if (!is_last_piece(ctx)) return STATUS_OK;
    const double share = ctx->training ? 1.0 : (double)ctx->m / (double)ctx->n_rows;
    const double weight = ctx->penalty_is_row ? share
                          : ctx->mean         ? ctx->weight_sum
                                              : ctx->penalty_scale;
    ctx->result[0] = ctx->result[0] + weight * sum_in_blocks(0.0, ctx->batch + op->batch, op->n_in);
    return status_of_loss(ctx->result[0]);
}

/* Scale every column of W whose norm is above the limit down to it, W (n_in, n_out); split by columns.

   The norms are summed as doubles, over ascending rows of W. */
static int64_t limit_norms(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_out;
    const double limit = ctx->constants[op->constants];
    double *sums = (double *)pack_of(ctx, part);
    real *factors = (real *)(sums + NC);
    const struct range mine = columns_of_part(n, part, parts);
    for (int64_t j = mine.begin; j < mine.end; j += NC) {
        const int64_t columns = smaller_of(NC, mine.end - j);
        real *w = (real *)ctx->params + op->w + j;
        memset(sums, 0, (size_t)columns * sizeof *sums);
        for (int64_t k = 0; k < op->n_in; k++)
            for (int64_t c = 0; c < columns; c++)
                sums[c] = fma((double)w[k * n + c], (double)w[k * n + c], sums[c]);
        bool exceeds = false;
        for (int64_t c = 0; c < columns; c++) {
            const double norm = sqrt(sums[c]);
            exceeds = exceeds || norm > limit;
            factors[c] = norm > limit ? (real)(limit / norm) : 1;
        }
        if (!exceeds) continue;
        for (int64_t k = 0; k < op->n_in; k++, w += n)
            FOR_VECTORS(c, some, columns, put(w + c, take(w + c, some) * take(factors + c, some),
                                              some););
    }
    return STATUS_OK;
}
