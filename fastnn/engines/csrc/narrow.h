/* The dense row of very few outputs, whose columns would leave most lanes of a tile idle.

   Forward, each output is a dot product over SUM_LANES lanes, added by one fixed tree: a rule of
   its own for the bits, chosen by n_out alone. Backward, dW has the bits of dense_weights, but is
   computed as its transpose. */

/* sums (rows, SUM_LANES) of the products of x (rows, n_in) with a column of W (n_in, n_out). */
static void dot_products(real *sums, real *column, const real *x, const real *w, int64_t rows,
                         int64_t n_in, int64_t n_out)
{
    memset(sums, 0, (size_t)(rows * SUM_LANES) * sizeof(real));
    for (int64_t k = 0; k < n_in; k += DEPTH) {
        const int64_t some = smaller_of(DEPTH, n_in - k);
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
    const struct row *row = ctx->row;
    const int64_t n_in = row->n_in, n_out = row->n_out;
    const real *x = buffer(ctx, row->x);
    real *z = buffer(ctx, row->z), *a = buffer(ctx, row->a);
    const real *w = (const real *)ctx->params + row->w, *b = (const real *)ctx->params + row->b;
    real *column = pack_of(ctx, part), *sums = column + DEPTH;
    const int64_t i_end = share(ctx->m, 8, part + 1, parts);
    for (int64_t i = share(ctx->m, 8, part, parts); i < i_end; i += NEAR_ROWS) {
        const int64_t rows = smaller_of(NEAR_ROWS, i_end - i), at = i * n_out;
        for (int64_t j = 0; j < n_out; j++) {
            dot_products(sums, column, x + i * n_in, w + j, rows, n_in, n_out);
            for (int64_t r = 0; r < rows; r++) {
                const real sum = sum_of_lanes(sums + r * SUM_LANES) + b[j];
                z[at + r * n_out + j] = sum;
                a[at + r * n_out + j] = sum;
            }
        }
        epilogue(ctx, z + at, a + at, a + at, rows, n_out, n_out, row);
    }
    return STATUS_OK;
}

/* The rows k, ..., k_end-1 of dW, and with the first of them db, from some rows of the batch.

   If `adds`, the sums are added to what dw holds. */
static void narrow_weights_of_rows(const struct context *ctx, int64_t part, const struct row *row,
                                   real *dw, real *db, int64_t k, int64_t k_end, int64_t first,
                                   int64_t last, bool adds)
{
    const int64_t n_in = row->n_in, n_out = row->n_out;
    const real *x = buffer(ctx, row->x), *dz = buffer(ctx, row->da), *one = ctx->one;
    real *dwt = pack_of(ctx, part); /* a product of so few rows does not use it */
    if (k == 0 && k_end > 0)
        sum_over_rows(ctx, part, db, n_out, one, 1, 0, dz, n_out, 1, n_out, first, last, false);
    for (; k < k_end; k += BLOCK_COLUMNS) {
        const int64_t columns = smaller_of(BLOCK_COLUMNS, k_end - k);
        if (adds) transpose(dwt, columns, dw + k * n_out, n_out, columns, n_out);
        sum_over_rows(ctx, part, dwt, columns, dz, 1, n_out, x + k, n_in, n_out, columns, first,
                      last, adds);
        transpose(dw + k * n_out, n_out, dwt, columns, n_out, columns);
    }
}

/* dW = xt dz and db = the column sums of dz, as dense_weights.

   x (m, n_in), dz (m, n_out); writes the gradient's W (n_in, n_out) and b (n_out). Computes
   dWt = dzt x, whose columns fill the lanes; split by rows of W. */
static int64_t narrow_weights(struct context *ctx, int64_t part, int64_t parts)
{
    const struct row *row = ctx->row;
    real *dw = (real *)ctx->grad + row->w, *db = (real *)ctx->grad + row->b;
    const int64_t k = share(row->n_in, 16, part, parts);
    const int64_t k_end = share(row->n_in, 16, part + 1, parts);
    const bool penalised = is_penalised(row);
    if (penalised && k_end > k) penalty_slope(ctx, row, k * row->n_out, k_end - k, row->n_out);
    narrow_weights_of_rows(ctx, part, row, dw, db, k, k_end, 0, ctx->m, penalised);
    return STATUS_OK;
}
