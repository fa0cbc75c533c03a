/* dW of few weights over very many rows of a batch, summed in slabs of rows.

   Few weights cannot be split among parts without each part reading the whole batch. So the rows
   are cut into slabs, whose number depends on the shapes alone. Each slab is summed as
   dense_weights does it, and the slabs are added in order.

   The slabs are those of the whole batch. A piece of it adds to the slabs that its rows are in. */

/* Slabs for m rows. */
INLINE int64_t slab_count(int64_t m)
{
    return larger_of(1, smaller_of(MOST_SLABS, m / SLAB_ROWS));
}

/* Rows of the whole batch. */
INLINE int64_t whole_batch(const struct context *ctx)
{
    return ctx->accumulates ? ctx->n_rows : ctx->m;
}

/* dW and db of the slabs into the scratch, or of a single slab into the gradient.

   x (m, n_in), dz (m, n_out); writes slabs of n_in n_out + n_out elements. Split by slabs if this
   piece of the batch has rows of more slabs than there are parts, else by blocks of dW. */
static int64_t slab_weights(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t all = whole_batch(ctx), count = slab_count(all);
    const bool narrow = op->n_out <= FEW_OUTPUTS;
    if (count == 1) return (narrow ? narrow_weights : dense_weights)(ctx, part, parts);
    const int64_t start = ctx->accumulates ? ctx->start : 0, size = op->n_in * op->n_out;
    real *slabs = (real *)ctx->scratch + op->scratch;
    struct range met = {0, count}; /* the slabs with rows in this piece */
    while (share(all, KC, met.begin + 1, count) <= start) met.begin++;
    while (share(all, KC, met.end - 1, count) >= start + ctx->m) met.end--;
    const bool by_slabs = met.end - met.begin > parts;
    const struct range mine = by_slabs ? share_of(met.end - met.begin, 1, part, parts)
                                       : (struct range){0, met.end - met.begin};
    const struct area area = by_slabs ? (struct area){0, op->n_in, 0, op->n_out}
                                      : block_of_part(ctx, op->n_in, op->n_out, part, parts);
    for (int64_t i = mine.begin; i < mine.end; i++) {
        const int64_t slab = met.begin + i, begin = share(all, KC, slab, count) - start;
        struct gradient to = {
            .dw = slabs + slab * (size + op->n_out), .first = larger_of(0, begin),
            .last = smaller_of(ctx->m, share(all, KC, slab + 1, count) - start),
        };
        to.adds_w = to.adds_b = begin < 0;
        if (op->b != NONE) to.db = to.dw + size;
        weights_of_rows(ctx, part, &to, area);
    }
    return STATUS_OK;
}

/* dW = the derivative of the penalties + the slabs in order, and db, with the last piece; split by
   rows of W. */
static int64_t add_slabs(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t size = op->n_in * op->n_out, count = slab_count(whole_batch(ctx));
    if (count == 1 || !is_last_piece(ctx)) return STATUS_OK;
    const real *slab = (const real *)ctx->scratch + op->scratch;
    const struct range k = share_of(op->n_in, 1, part, parts);
    const int64_t at = k.begin * op->n_out, some = (k.end - k.begin) * op->n_out;
    real *dw = (real *)ctx->grad + op->w + at;
    real *db = part == 0 && op->b != NONE ? (real *)ctx->grad + op->b : NULL;
    bool adds = is_penalised(op);
    if (adds) penalty_derivative(ctx, at, k.end - k.begin, op->n_out);
    for (int64_t i = 0; i < count; i++, slab += size + op->n_out) {
        copy_or_add(dw, slab + at, some, adds);
        if (db) copy_or_add(db, slab + size, op->n_out, i > 0);
        adds = true;
    }
    return STATUS_OK;
}
