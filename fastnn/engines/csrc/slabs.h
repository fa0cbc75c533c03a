/* dW of a small layer over very many rows of a batch: slabs that parts can sum side by side.

   A layer with few weights cannot be split by its weights, and each part would read the whole
   batch. So the rows are cut into slabs, whose number depends on the shapes alone; each slab sums
   its rows as dense_weights does, and the slabs are added in order. */

/* Slabs for m rows. */
INLINE int64_t slab_count(int64_t m)
{
    return larger_of(1, smaller_of(MOST_SLABS, m / SLAB_ROWS));
}

/* dW and db of each slab of rows into the scratch; of a single slab, into the gradient.

   x (m, n_in), dz (m, n_out); writes slabs of n_in n_out + n_out elements. Split by slabs. */
static int64_t slab_weights(struct context *ctx, int64_t part, int64_t parts)
{
    const struct row *row = ctx->row;
    const int64_t size = row->n_in * row->n_out, count = slab_count(ctx->m);
    const bool penalised = count == 1 && is_penalised(row);
    const int64_t end = share(count, 1, part + 1, parts);
    for (int64_t slab = share(count, 1, part, parts); slab < end; slab++) {
        const int64_t first = share(ctx->m, DEPTH, slab, count);
        const int64_t last = share(ctx->m, DEPTH, slab + 1, count);
        real *dw = (real *)ctx->scratch + slab * (size + row->n_out), *db = dw + size;
        if (count == 1) {
            dw = (real *)ctx->grad + row->w;
            db = (real *)ctx->grad + row->b;
        }
        if (penalised) penalty_slope(ctx, row, 0, row->n_in, row->n_out);
        if (row->n_out <= FEW_OUTPUTS) {
            narrow_weights_of_rows(ctx, part, row, dw, db, 0, row->n_in, first, last, penalised);
        } else {
            const struct area all = {0, row->n_in, 0, row->n_out};
            weights_of_rows(ctx, part, row, dw, db, all, first, last, penalised);
        }
    }
    return STATUS_OK;
}

/* dW = the slope of the penalties + the slabs, one after another, and db; split by elements. */
static int64_t add_slabs(struct context *ctx, int64_t part, int64_t parts)
{
    const struct row *row = ctx->row;
    const int64_t size = row->n_in * row->n_out, count = slab_count(ctx->m);
    if (count == 1) return STATUS_OK;
    real *dw = (real *)ctx->grad + row->w, *db = (real *)ctx->grad + row->b;
    const real *slabs = ctx->scratch;
    const int64_t k = share(row->n_in, 1, part, parts);
    const int64_t k_end = share(row->n_in, 1, part + 1, parts);
    const int64_t i = k * row->n_out, some = (k_end - k) * row->n_out;
    if (is_penalised(row) && k_end > k) {
        penalty_slope(ctx, row, i, k_end - k, row->n_out);
        add_to(dw + i, slabs + i, some);
    } else {
        copy_to(dw + i, slabs + i, some);
    }
    if (part == 0) copy_to(db, slabs + size, row->n_out);
    for (int64_t slab = 1; slab < count; slab++) {
        const real *source = slabs + slab * (size + row->n_out);
        add_to(dw + i, source + i, some);
        if (part == 0) add_to(db, source + size, row->n_out);
    }
    return STATUS_OK;
}
