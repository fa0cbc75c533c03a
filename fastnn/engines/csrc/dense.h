/* The leaves of the dense row. */

/* z = x W + b, then a = act(z) by the epilogue, block by block.

   x (m, n_in), W (n_in, n_out), b (n_out); writes z and a (m, n_out). */
static int64_t dense_forward(struct context *ctx, int64_t part, int64_t parts)
{
    const struct row *row = ctx->row;
    const int64_t n_in = row->n_in, n_out = row->n_out;
    const real *x = buffer(ctx, row->x);
    real *z = buffer(ctx, row->z), *a = buffer(ctx, row->a);
    const real *w = (const real *)ctx->params + row->w, *b = (const real *)ctx->params + row->b;
    const struct area mine = share_of_matrix(ctx->m, n_out, part, parts);
    for (int64_t j = mine.j; j < mine.j_end; j += BLOCK_COLUMNS) {
        const int64_t columns = smaller_of(BLOCK_COLUMNS, mine.j_end - j);
        for (int64_t i = mine.i; i < mine.i_end; i += BLOCK_ROWS) {
            const int64_t rows = smaller_of(BLOCK_ROWS, mine.i_end - i), at = i * n_out + j;
            product(z + at, n_out, b + j, 0, x + i * n_in, n_in, 1, w + j, n_out, rows, n_in,
                    columns, 0, pack_of(ctx, part));
            if (row->z != row->a)
                for (int64_t r = 0; r < rows; r++)
                    copy_to(a + at + r * n_out, z + at + r * n_out, columns);
            epilogue(ctx, z + at, a + at, a + at, rows, columns, n_out, row);
        }
    }
    return STATUS_OK;
}

/* c[i, j] = sum of a[i, k] b[k, j] over the rows k = first, ..., last-1 of a batch.

   They are summed in blocks of DEPTH, and the blocks in order. If `adds`, c is what the first
   block is added to. */
static void sum_over_rows(const struct context *ctx, int64_t part, real *c, int64_t c_row,
                          const real *a, int64_t a_row, int64_t a_k, const real *b, int64_t b_row,
                          int64_t rows, int64_t columns, int64_t first, int64_t last, bool adds)
{
    for (int64_t k = first; k < last; k += DEPTH)
        product(c, c_row, ctx->zeros, 0, a + k * a_k, a_row, a_k, b + k * b_row, b_row, rows,
                smaller_of(DEPTH, last - k), columns, adds || k > first, pack_of(ctx, part));
}

/* A part of dW, and with its first rows the same part of db, from some rows of the batch.

   If `adds`, the sums are added to what dw holds. */
static void weights_of_rows(const struct context *ctx, int64_t part, const struct row *row,
                            real *dw, real *db, struct area mine, int64_t first, int64_t last,
                            bool adds)
{
    const int64_t n_in = row->n_in, n_out = row->n_out;
    const real *x = buffer(ctx, row->x), *dz = buffer(ctx, row->da), *one = ctx->one;
    for (int64_t j = mine.j; j < mine.j_end; j += BLOCK_COLUMNS) {
        const int64_t columns = smaller_of(BLOCK_COLUMNS, mine.j_end - j);
        for (int64_t k = mine.i; k < mine.i_end; k += BLOCK_ROWS)
            sum_over_rows(ctx, part, dw + k * n_out + j, n_out, x + k, 1, n_in, dz + j, n_out,
                          smaller_of(BLOCK_ROWS, mine.i_end - k), columns, first, last, adds);
        if (mine.i == 0 && mine.i_end > 0)
            sum_over_rows(ctx, part, db + j, n_out, one, 1, 0, dz + j, n_out, 1, columns, first,
                          last, false);
    }
}

/* Whether a dense row has an l1 or l2 penalty. */
INLINE bool is_penalised(const struct row *row) { return row->arg1 != 0.0 || row->arg2 != 0.0; }

/* dW = l1 sign(W) + 2 l2 W for a block of W that begins at element `at`. */
static void penalty_slope(const struct context *ctx, const struct row *row, int64_t at,
                          int64_t rows, int64_t columns)
{
    const real *w = (const real *)ctx->params + row->w + at;
    real *dw = (real *)ctx->grad + row->w + at;
    const vec zero = set(0), l1 = set((real)row->arg1), l2 = set((real)(2.0 * row->arg2));
    for (int64_t r = 0; r < rows; r++, w += row->n_out, dw += row->n_out)
        FOR_VECTORS(c, n, columns, const vec v = take(w + c, n);
                    const vec sign = choose(less(zero, v), l1, choose(less(v, zero), -l1, zero));
                    put(dw + c, sign + l2 * v, n););
}

/* dW = xt dz and db = the column sums of dz, both summed over the rows of the batch.

   x (m, n_in), dz (m, n_out); writes the gradient's W (n_in, n_out) and b (n_out). dW starts with
   the slope of the penalties, l1 sign(W) + 2 l2 W. */
static int64_t dense_weights(struct context *ctx, int64_t part, int64_t parts)
{
    const struct row *row = ctx->row;
    real *dw = (real *)ctx->grad + row->w, *db = (real *)ctx->grad + row->b;
    const struct area mine = share_of_matrix(row->n_in, row->n_out, part, parts);
    const bool penalised = is_penalised(row);
    if (penalised)
        penalty_slope(ctx, row, mine.i * row->n_out + mine.j, mine.i_end - mine.i,
                      mine.j_end - mine.j);
    weights_of_rows(ctx, part, row, dw, db, mine, 0, ctx->m, penalised);
    return STATUS_OK;
}

/* Wt (n_out, n_in) into the row's scratch, so that dx can read it along its rows. */
static int64_t transpose_weights(struct context *ctx, int64_t part, int64_t parts)
{
    const struct row *row = ctx->row;
    const int64_t n_in = row->n_in, n_out = row->n_out;
    const real *w = (const real *)ctx->params + row->w;
    real *wt = (real *)ctx->scratch + row->scratch;
    const int64_t k = share(n_in, 16, part, parts), k_end = share(n_in, 16, part + 1, parts);
    transpose(wt + k, n_in, w + k * n_out, n_out, k_end - k, n_out);
    return STATUS_OK;
}

/* dx = dz Wt, turned into the dz of the row below by the epilogue, block by block.

   dz (m, n_out), Wt (n_out, n_in) in the scratch; writes dx (m, n_in), the da of row `below`. */
static int64_t dense_inputs(struct context *ctx, int64_t part, int64_t parts)
{
    const struct row *row = ctx->row, *below = row_below(ctx, row);
    const int64_t n_in = row->n_in, n_out = row->n_out;
    const real *dz = buffer(ctx, row->da), *wt = (const real *)ctx->scratch + row->scratch;
    real *dx = buffer(ctx, row->dx), *a = buffer(ctx, below->a);
    const real *z = buffer(ctx, below->z);
    const struct area mine = share_of_matrix(ctx->m, n_in, part, parts);
    for (int64_t k = mine.j; k < mine.j_end; k += BLOCK_COLUMNS) {
        const int64_t columns = smaller_of(BLOCK_COLUMNS, mine.j_end - k);
        for (int64_t i = mine.i; i < mine.i_end; i += BLOCK_ROWS) {
            const int64_t rows = smaller_of(BLOCK_ROWS, mine.i_end - i), at = i * n_in + k;
            product(dx + at, n_in, ctx->zeros, 0, dz + i * n_out, n_out, 1, wt + k, n_in, rows,
                    n_out, columns, 0, pack_of(ctx, part));
            epilogue(ctx, z + at, a + at, dx + at, rows, columns, n_in, below);
        }
    }
    return STATUS_OK;
}

/* dzt (n_out, m) into the row's scratch, where that is less than to transpose W. */
static int64_t transpose_gradient(struct context *ctx, int64_t part, int64_t parts)
{
    const struct row *row = ctx->row;
    const int64_t n_out = row->n_out, m = ctx->m;
    const real *dz = buffer(ctx, row->da);
    real *dzt = (real *)ctx->scratch + row->scratch;
    const int64_t j = share(n_out, 16, part, parts), j_end = share(n_out, 16, part + 1, parts);
    transpose(dzt + j * m, m, dz + j, n_out, m, j_end - j);
    return STATUS_OK;
}

/* dxt = W dzt, block by block transposed into dx and turned into the dz of the row below.

   W (n_in, n_out), dzt (n_out, m) in the scratch, and dxt (n_in, m) behind it; writes dx
   (m, n_in), the da of row `below`: the same bits as dense_inputs. */
static int64_t dense_inputs_transposed(struct context *ctx, int64_t part, int64_t parts)
{
    const struct row *row = ctx->row, *below = row_below(ctx, row);
    const int64_t n_in = row->n_in, n_out = row->n_out, m = ctx->m;
    const real *w = (const real *)ctx->params + row->w;
    const real *dzt = (const real *)ctx->scratch + row->scratch;
    real *dxt = (real *)ctx->scratch + row->scratch + n_out * ctx->capacity;
    real *dx = buffer(ctx, row->dx), *a = buffer(ctx, below->a);
    const real *z = buffer(ctx, below->z);
    const int64_t k_end = share(n_in, TILE_ROWS, part + 1, parts);
    for (int64_t k = share(n_in, TILE_ROWS, part, parts); k < k_end; k += BLOCK_ROWS) {
        const int64_t some = smaller_of(BLOCK_ROWS, k_end - k);
        for (int64_t i = 0; i < m; i += BLOCK_COLUMNS) {
            const int64_t rows = smaller_of(BLOCK_COLUMNS, m - i), at = i * n_in + k;
            real *to = dxt + k * m + i;
            product(to, m, ctx->zeros, 0, w + k * n_out, n_out, 1, dzt + i, m, some, n_out, rows,
                    0, pack_of(ctx, part));
            transpose(dx + at, n_in, to, m, some, rows);
            epilogue(ctx, z + at, a + at, dx + at, rows, some, n_in, below);
        }
    }
    return STATUS_OK;
}
