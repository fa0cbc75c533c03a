/* Loss heads: the loss of every row of the batch, and the gradient where backward starts.

   Each reads the network's output a (m, n_in) and the targets t (m, n_in). It writes every row's
   loss as a double, times the row's weight, and da = scale weight dC/da, which the epilogue turns
   into dz of the operation below. The cross entropies take logits: their gradient is p - t, and
   nothing overflows. All are split by rows. */

enum {
    HEAD_ROWS = 64,     /* rows that a head works on at a time */
    SOME_LOSSES = 4096, /* losses of logits that are stored before they are added */
};

/* The weight of row i of the batch, whose targets have been gathered. */
INLINE double weight_of(const struct context *ctx, int64_t i)
{
    return ctx->weights ? ctx->weights[sample_of(ctx, i)] : 1.0;
}

/* A kernel that calls rows_of(ctx, part, first, rows) for blocks of rows, and turns their da into
   dz of the operation below. */
#define HEAD(name, rows_of)                                                                       \
    static int64_t name(struct context *ctx, int64_t part, int64_t parts)                         \
    {                                                                                             \
        const struct op *op = ctx->op;                                                            \
        const struct range mine = rows_of_part(ctx, part, parts);                                 \
        for (int64_t i = mine.begin; i < mine.end; i += HEAD_ROWS) {                              \
            const struct range block = {i, smaller_of(i + HEAD_ROWS, mine.end)};                  \
            rows_of(ctx, part, i, block.end - i);                                                 \
            apply_derivative(ctx, op->below, buffer(ctx, op->dx), op->n_in, block);               \
        }                                                                                         \
        return STATUS_OK;                                                                         \
    }

/* Multiply the losses of some rows by of_loss weight, and their da by of_gradient weight scale.

   Without weights in one loop over all rows, which may be of one element. */
static void weigh_rows(const struct context *ctx, int64_t first, int64_t rows, double of_loss,
                       double of_gradient)
{
    const int64_t n = ctx->op->n_in;
    real *da = buffer(ctx, ctx->op->dx) + first * n;
    double *loss = ctx->row_loss + first;
    if (!ctx->weights) {
        const vec factor = set((real)(ctx->scale * of_gradient));
        for (int64_t i = 0; i < rows; i++) loss[i] = loss[i] * of_loss;
        FOR_VECTORS(j, some, rows * n, put(da + j, factor * take(da + j, some), some););
        return;
    }
    for (int64_t i = 0; i < rows; i++) {
        const double weight = weight_of(ctx, first + i);
        const vec factor = set((real)(ctx->scale * (of_gradient * weight)));
        loss[i] = loss[i] * (of_loss * weight);
        FOR_VECTORS(j, some, n, put(da + i * n + j, factor * take(da + i * n + j, some), some););
    }
}

/* l_i = sum over j of (a_ij - t_ij)^2, for mse divided by n_out, for squared_error by 2.

   The factor arg0 of squared_error multiplies the loss alone, not its derivative. */
static void squared_error_of_rows(const struct context *ctx, int64_t part, int64_t first,
                                  int64_t rows)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_in;
    const real *a = buffer(ctx, op->x) + first * n, *t = buffer(ctx, ctx->targets) + first * n;
    real *da = buffer(ctx, op->dx) + first * n;
    double *loss = ctx->row_loss + first;
    const bool halved = op->code == LOSS_squared_error;
    const double share_of_output = op->code == LOSS_mse ? 1.0 / (double)n : halved ? 0.5 : 1.0;
    const double factor_of_loss = halved ? op->arg0 : 1.0;
    (void)part;
    FOR_VECTORS(j, some, rows * n, put(da + j, take(a + j, some) - take(t + j, some), some););
    if (n == 1)
        for (int64_t i = 0; i < rows; i++) loss[i] = (double)da[i] * (double)da[i];
    else
        for (int64_t i = 0; i < rows; i++) loss[i] = dot_of(da + i * n, da + i * n, n);
    weigh_rows(ctx, first, rows, share_of_output * factor_of_loss, 2.0 * share_of_output);
}

HEAD(squared_error, squared_error_of_rows)

/* max(x, 0) - x t + log(1 + e^-|x|). */
INLINE vec_d loss_of_logit(vec_d x, vec_d t)
{
    const vec_d zero = set_d(0), rectified = select_d(less_d(x, zero), zero, x);
    return rectified - x * t + log1p_of_d(exp_of_d(-abs_d(x)));
}

/* losses[j] = loss_of_logit(z[j], t[j] keep + add) for j < count. */
static void losses_of_logits(double *losses, const real *z, const real *t, real keep, real add,
                             int64_t count)
{
    real smoothed[HEAD_ROWS] = {0};
    for (int64_t i = 0; i < count; i += HEAD_ROWS) {
        const int64_t block = smaller_of(HEAD_ROWS, count - i);
        FOR_VECTORS(j, some, block,
                    put(smoothed + j, take(t + i + j, some) * set(keep) + set(add), some););
        for (int64_t j = 0; j < block; j += LANES_d) {
            const int64_t n = smaller_of(LANES_d, block - j), at = i + j;
            const vec_d x = n == LANES_d ? widen(z + at) : widen_some(z + at, n);
            const vec_d loss = loss_of_logit(x, widen(smoothed + j));
            if (n == LANES_d)
                store_d(losses + at, loss);
            else
                store_some_d(losses + at, loss, n);
        }
    }
}

/* l_i = sum over j of max(z, 0) - z t + log(1 + e^-|z|), from logits. */
static void binary_cross_entropy_of_rows(const struct context *ctx, int64_t part, int64_t first,
                                         int64_t rows)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_in;
    const real *z = buffer(ctx, op->x) + first * n, *t = buffer(ctx, ctx->targets) + first * n;
    real *da = buffer(ctx, op->dx) + first * n;
    double *loss = ctx->row_loss + first, *losses = (double *)pack_of(ctx, part);
    const real keep = (real)(1.0 - op->arg0), add = (real)(op->arg0 / 2);
    FOR_VECTORS(j, some, rows * n,
                const vec smoothed = take(t + j, some) * set(keep) + set(add);
                put(da + j, OF_REAL(sigmoid_of)(take(z + j, some)) - smoothed, some););
    if (n == 1)
        losses_of_logits(loss, z, t, keep, add, rows);
    else
        for (int64_t i = 0; i < rows; i++) {
            double total = 0.0;
            for (int64_t j = i * n; j < i * n + n; j += SOME_LOSSES) {
                const int64_t some = smaller_of(SOME_LOSSES, i * n + n - j);
                losses_of_logits(losses, z + j, t + j, keep, add, some);
                total += sum_of_doubles(losses, some);
            }
            loss[i] = total;
        }
    weigh_rows(ctx, first, rows, 1.0, 1.0);
}

HEAD(binary_cross_entropy, binary_cross_entropy_of_rows)

/* cross_entropy_of_rows for at most COLUMN short rows, by columns. */
static void cross_entropy_of_short_rows(const struct context *ctx, int64_t part, int64_t first,
                                        int64_t rows)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_in, size = n * COLUMN;
    real *d = pack_of(ctx, part), *t = d + SHORT * COLUMN;
    real factor[COLUMN], reciprocal[COLUMN];
    double sums[SHORT * COLUMN], losses[SHORT * COLUMN], target_sum[SHORT * COLUMN];
    const double smoothing = op->arg0, kept = 1.0 - smoothing, spread = smoothing / (double)n;
    const vec keep = set((real)kept), add = set((real)spread);
    to_columns(d, buffer(ctx, op->x) + first * n, rows, n);
    to_columns(t, buffer(ctx, ctx->targets) + first * n, rows, n);
    subtract_maximum(d, n);
    dots_of_columns(losses, t, d, n);
    if (smoothing != 0.0) {
        sums_of_columns(sums, d, n);
        for (int i = 0; i < COLUMN; i++) losses[i] = kept * losses[i] + spread * sums[i];
    }
    sums_of_columns(target_sum, t, n);
    FOR_VECTORS(j, some, size, put(d + j, OF_REAL(exp_of)(take(d + j, some)), some););
    sums_of_columns(sums, d, n);
    for (int i = 0; i < COLUMN; i++) {
        const double weight = i < rows ? weight_of(ctx, first + i) : 0.0;
        factor[i] = (real)(ctx->scale * weight);
        reciprocal[i] = (real)(1.0 / sums[i]);
        target_sum[i] = kept * target_sum[i] + smoothing;
        losses[i] = (target_sum[i] * log_of(sums[i]) - losses[i]) * weight;
    }
    for (int64_t j = 0; j < size; j += COLUMN)
        for (int v = 0; v < COLUMN; v += LANES) {
            const vec p = load(d + j + v) * load(reciprocal + v);
            const vec smoothed = load(t + j + v) * keep + add;
            store(d + j + v, load(factor + v) * (p - smoothed));
        }
    memcpy(ctx->row_loss + first, losses, (size_t)rows * sizeof(double));
    from_columns(buffer(ctx, op->dx) + first * n, d, rows, n);
}

/* l_i = sum over j of t_ij (log sum e^z - z_ij), with the row's maximum subtracted first.

   Several simple loops over all rows: rows do not wait for their own stores, and logarithms fill
   the lanes. With d = z - max z and s = sum of e^d: l = (sum of t) log s - sum of t d. */
static void cross_entropy_of_rows(const struct context *ctx, int64_t part, int64_t first,
                                  int64_t rows)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_in;
    (void)part;
    const real *z = buffer(ctx, op->x) + first * n, *t = buffer(ctx, ctx->targets) + first * n;
    real *da = buffer(ctx, op->dx) + first * n;
    double *loss = ctx->row_loss + first;
    double totals[HEAD_ROWS], logarithms[HEAD_ROWS];
    const double smoothing = op->arg0;
    const vec keep = set((real)(1.0 - smoothing)), add = set((real)(smoothing / (double)n));
    for (int64_t i = 0; i < rows; i++) totals[i] = (double)maximum_of(z + i * n, n);
    for (int64_t i = 0; i < rows; i++) {
        const vec highest = set((real)totals[i]);
        FOR_VECTORS(j, some, n, put(da + i * n + j, take(z + i * n + j, some) - highest, some););
    }
    for (int64_t i = 0; i < rows; i++) {
        loss[i] = dot_of(t + i * n, da + i * n, n);
        if (smoothing != 0.0)
            loss[i] = (1.0 - smoothing) * loss[i] + smoothing / (double)n * sum_of(da + i * n, n);
    }
    FOR_VECTORS(j, some, rows * n, put(da + j, OF_REAL(exp_of)(take(da + j, some)), some););
    for (int64_t i = 0; i < rows; i++) totals[i] = sum_of(da + i * n, n);
    for (int64_t i = 0; i < rows; i++) logarithms[i] = log_of(totals[i]);
    for (int64_t i = 0; i < rows; i++) {
        /* The one-hot code of a label has the sum 1. */
        const double of_targets = ctx->labels && n > 1 ? 1.0 : sum_of(t + i * n, n);
        const double target_sum = (1.0 - smoothing) * of_targets + smoothing;
        loss[i] = (target_sum * logarithms[i] - loss[i]) * weight_of(ctx, first + i);
    }
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = i * n;
        const vec factor = set((real)(ctx->scale * weight_of(ctx, first + i)));
        const vec reciprocal = set((real)(1.0 / totals[i]));
        FOR_VECTORS(j, some, n,
                    const vec p = take(da + at + j, some) * reciprocal;
                    const vec smoothed = take(t + at + j, some) * keep + add;
                    put(da + at + j, factor * (p - smoothed), some););
    }
}

HEAD(cross_entropy, cross_entropy_of_rows)

/* The same bits for rows of at most SHORT elements, by columns: faster unless rows are very few. */
static void cross_entropy_of_many_short_rows(const struct context *ctx, int64_t part, int64_t first,
                                             int64_t rows)
{
    for (; rows > 0; rows -= COLUMN, first += COLUMN)
        cross_entropy_of_short_rows(ctx, part, first, smaller_of(COLUMN, rows));
}

HEAD(cross_entropy_short, cross_entropy_of_many_short_rows)

/* result = (sum of row_loss, sum of row_correct), or a continued piece adds them; not split.

   Returns STATUS_NOT_FINITE if the loss is infinite or not a number. */
static int64_t sum_rows(struct context *ctx, int64_t part, int64_t parts)
{
    (void)part, (void)parts;
    double *result = ctx->result;
    const bool continued = is_continued(ctx);
    double n_correct = continued ? result[1] : 0.0;
    for (int64_t i = 0; i < ctx->m; i++) n_correct += ctx->row_correct[i];
    result[0] = sum_in_blocks(continued ? result[0] : 0.0, ctx->row_loss, ctx->m);
    result[1] = n_correct;
    return status_of_loss(result[0]);
}

#define LOSS_SYMBOLS                                                                              \
    SYMBOL(squared_error)                                                                         \
    SYMBOL(binary_cross_entropy)                                                                  \
    SYMBOL(cross_entropy)                                                                         \
    SYMBOL(cross_entropy_short)                                                                   \
    SYMBOL(sum_rows)
