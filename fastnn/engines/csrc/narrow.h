/* The dense operation with few outputs, whose columns would leave most lanes of a tile idle.

   Forward, each output is a dot product over SUM_LANES lanes, added by one fixed tree; n_out alone
   chooses this rule. Backward, dW has the bits of dense_weights but is computed as its
   transpose. */

/* sums (rows, SUM_LANES) of the products of x (rows, n_in) with a column of W (n_in, n_out).

   Writes KC elements of `column`. */
static void dot_products(real *sums, real *column, const real *x, const real *w, int64_t rows,
                         int64_t n_in, int64_t n_out)
{
    memset(sums, 0, (size_t)(rows * SUM_LANES) * sizeof(real));
    for (int64_t k = 0; k < n_in; k += KC) {
        const int64_t some = smaller_of(KC, n_in - k);
        for (int64_t kk = 0; kk < some; kk++) column[kk] = w[(k + kk) * n_out];
        int64_t i = 0;
        for (; i + DOT_ROWS <= rows; i += DOT_ROWS)
            dots(DOT_ROWS, sums + i * SUM_LANES, x + i * n_in + k, n_in, column, some);
        for (; i < rows; i++) dots(1, sums + i * SUM_LANES, x + i * n_in + k, n_in, column, some);
    }
}

/* z = x W + b, then a = act(z) by the epilogue; split by rows of the batch.

   x (m, n_in), W (n_in, n_out), b (n_out); writes z and a (m, n_out). */
static int64_t narrow_forward(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n_in = op->n_in, n_out = op->n_out;
    const real *x = buffer(ctx, op->x);
    real *z = buffer(ctx, op->z), *a = buffer(ctx, op->a);
    const real *w = (const real *)ctx->params + op->w, *b = biases_at(ctx, 0);
    real *column = pack_of(ctx, part), *sums = column + KC;
    const struct range mine = rows_of_part(ctx, part, parts);
    for (int64_t i = mine.begin; i < mine.end; i += MC) {
        const int64_t rows = smaller_of(MC, mine.end - i), at = i * n_out;
        for (int64_t j = 0; j < n_out; j++) {
            dot_products(sums, column, x + i * n_in, w + j, rows, n_in, n_out);
            for (int64_t r = 0; r < rows; r++) {
                const real sum = sum_of_lanes(sums + r * SUM_LANES) + b[j];
                z[at + r * n_out + j] = sum;
                a[at + r * n_out + j] = sum;
            }
        }
        epilogue(ctx, z + at, a + at, a + at, rows, n_out, n_out, op);
    }
    return STATUS_OK;
}

/* dW = xt dz and db = the column sums of dz, as dense_weights.

   x (m, n_in), dz (m, n_out); writes the gradient's W (n_in, n_out) and b (n_out). Computes
   dWt = dzt x, whose columns fill the lanes; split by rows of W. */
static int64_t narrow_weights(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const struct range mine = share_of(op->n_in, 16, part, parts);
    if (is_penalised(op) && !is_continued(ctx))
        penalty_derivative(ctx, mine.begin * op->n_out, mine.end - mine.begin, op->n_out);
    const struct gradient to = gradient_of_batch(ctx);
    weights_of_rows(ctx, part, &to, (struct area){mine.begin, mine.end, 0, op->n_out});
    return STATUS_OK;
}
