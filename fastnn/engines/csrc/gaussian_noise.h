/* Gaussian noise: a = x + std z with standard normal z, in training only. */

/* a = x + std z; x and a are (m, n_out); split by rows of the batch.

   The normals are those of the elements of the whole batch, so neither parts nor pieces change
   them. */
static int64_t gaussian_noise_forward(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const struct range mine = rows_of_part(ctx, part, parts);
    const int64_t at = mine.begin * op->n_out, count = (mine.end - mine.begin) * op->n_out;
    const int64_t first = row_in_batch(ctx, mine.begin) * op->n_out;
    const struct stream from = stream_of_step(ctx);
    const double std = op->arg0;
    const real *x = buffer(ctx, op->x) + at;
    real *a = buffer(ctx, op->a) + at;
    uint32_t words[TILE];
    double normals[TILE];
    for (int64_t i = 0, some; i < count; i += some) {
        const int64_t before = (first + i) % GROUP;
        some = smaller_of(count - i, TILE - before);
        const int64_t groups = groups_of(before + some);
        draw_words(words, (first + i) / GROUP, groups, &from);
        to_normals(normals, words, groups);
        for (int64_t k = 0; k < some; k++) a[i + k] = x[i + k] + (real)(std * normals[before + k]);
    }
    return STATUS_OK;
}

/* dx = da, or dx + da, then times the derivative below by the epilogue; split by rows. */
static int64_t gaussian_noise_inputs(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    pass_gradient(ctx, op->dx, op->adds, op->below, rows_of_part(ctx, part, parts));
    return STATUS_OK;
}

#define GAUSSIAN_NOISE_SYMBOLS                                                                    \
    SYMBOL(gaussian_noise_forward)                                                                \
    SYMBOL(gaussian_noise_inputs)
