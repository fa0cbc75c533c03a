/* Dropout: a = x f, where f is 0 with the probability of the rate and else a constant.
   (N. Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, 2014.) */

/* out = x f and, unless `factors` is NULL, factors = f: the scale where a word is not below the
   threshold, else 0. */
static void drop(real *restrict out, real *restrict factors, const real *restrict x,
                 const uint32_t *restrict words, uint32_t threshold, real scale, int64_t count)
{
    if (!factors) {
        for (int64_t i = 0; i < count; i++) out[i] = x[i] * (words[i] >= threshold ? scale : 0);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        const real factor = words[i] >= threshold ? scale : 0;
        factors[i] = factor;
        out[i] = x[i] * factor;
    }
}

/* a = x f in training, where f is kept for the backward pass if there is one.

   x, a and f are (m, n_out); the words are those of the elements of the whole batch, so neither
   parts nor pieces change them. Split by rows of the batch. */
static int64_t dropout_forward(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const struct range mine = rows_of_part(ctx, part, parts);
    const int64_t at = mine.begin * op->n_out, count = (mine.end - mine.begin) * op->n_out;
    const int64_t first = row_in_batch(ctx, mine.begin) * op->n_out;
    const struct stream from = stream_of_step(ctx);
    const double rate = own_hyper(ctx, op->arg0), places = rate * 0x1p32 + 0.5;
    const uint32_t threshold = places < 0x1p32 ? (uint32_t)places : UINT32_MAX;
    const real scale = (real)(op->arg1 != 0.0 ? 1.0 : 1.0 / (1.0 - rate));
    const real *x = buffer(ctx, op->x) + at;
    real *a = buffer(ctx, op->a) + at;
    real *factors = op->saved == NONE ? NULL : buffer(ctx, op->saved) + at;
    uint32_t words[TILE];
    for (int64_t i = 0, some; i < count; i += some) {
        const int64_t before = (first + i) % GROUP;
        some = smaller_of(count - i, TILE - before);
        draw_words(words, (first + i) / GROUP, groups_of(before + some), &from);
        drop(a + i, factors ? factors + i : NULL, x + i, words + before, threshold, scale, some);
    }
    return STATUS_OK;
}

/* a = (1 - rate) x in predictions, where training does not scale; split by rows of the batch. */
static int64_t dropout_scale(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const struct range mine = rows_of_part(ctx, part, parts);
    const int64_t at = mine.begin * op->n_out;
    const real *x = buffer(ctx, op->x) + at;
    real *a = buffer(ctx, op->a) + at;
    const vec scale = set((real)(1.0 - op->arg0));
    FOR_VECTORS(i, n, (mine.end - mine.begin) * op->n_out, put(a + i, take(x + i, n) * scale, n););
    return STATUS_OK;
}

/* dx = da f, or dx + da f, then times the derivative below by the epilogue; split by rows. */
static int64_t dropout_inputs(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const struct range mine = rows_of_part(ctx, part, parts);
    const int64_t at = mine.begin * op->n_out;
    const real *da = buffer(ctx, op->da) + at, *factors = buffer(ctx, op->saved) + at;
    real *dx = buffer(ctx, op->dx) + at;
    FOR_VECTORS(i, n, (mine.end - mine.begin) * op->n_out,
                put_or_add(dx + i, take(da + i, n) * take(factors + i, n), n, op->adds););
    apply_derivative(ctx, op->below, buffer(ctx, op->dx), op->n_out, mine);
    return STATUS_OK;
}

#define DROPOUT_SYMBOLS                                                                           \
    SYMBOL(dropout_forward)                                                                       \
    SYMBOL(dropout_scale)                                                                         \
    SYMBOL(dropout_inputs)
