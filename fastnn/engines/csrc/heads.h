/* Loss heads: the loss of every row of the batch, and the gradient where backward starts.

   Each reads the output of the last row, a (m, n_out), and the targets t (m, n_out). It writes the
   loss of each row as a double, times the row's weight, and da = scale weight dC/da, which the
   epilogue turns into the last row's dz. The cross entropies take logits: their gradient is a - y,
   and nothing overflows. All are split by rows. */

enum {
    HEAD_ROWS = 64,   /* rows of a batch that a loss works on at a time */
    SOME_LOSSES = 4096, /* losses of a row that are kept until they are added */
    SUM_BLOCK = 128,
};

/* The weight of row i of the batch. */
INLINE double weight_of(const struct context *ctx, int64_t i)
{
    return ctx->weights ? ctx->row_weight[i] : 1.0;
}

/* A leaf that calls rows_of(ctx, part, row, first, rows) for some rows after others, and turns
   their da into the dz of the plan row below. */
#define HEAD(name, rows_of)                                                                       \
    static int64_t name(struct context *ctx, int64_t part, int64_t parts)                         \
    {                                                                                             \
        const struct row *row = ctx->row, *below = row_below(ctx, row);                           \
        const int64_t n = row->n_in, end = share(ctx->m, 1, part + 1, parts);                     \
        for (int64_t i = share(ctx->m, 1, part, parts); i < end; i += HEAD_ROWS) {                \
            const int64_t rows = smaller_of(HEAD_ROWS, end - i);                                  \
            rows_of(ctx, part, row, i, rows);                                                     \
            epilogue(ctx, buffer(ctx, below->z) + i * n, buffer(ctx, below->a) + i * n,           \
                     buffer(ctx, row->dx) + i * n, rows, n, n, below);                            \
        }                                                                                         \
        return STATUS_OK;                                                                         \
    }

/* l_i = sum over j of (a_ij - t_ij)^2, for mse divided by n_out. */
static void squared_error_of_rows(const struct context *ctx, int64_t part, const struct row *row,
                                  int64_t first, int64_t rows)
{
    const int64_t n = row->n_in;
    const real *a = buffer(ctx, row->x) + first * n, *t = buffer(ctx, ctx->target) + first * n;
    real *da = buffer(ctx, row->dx) + first * n;
    double *loss = ctx->row_loss + first;
    const double share_of_output = row->code == LOSS_mse ? 1.0 / (double)n : 1.0;
    (void)part;
    FOR_VECTORS(j, some, rows * n, put(da + j, take(a + j, some) - take(t + j, some), some););
    if (n == 1)
        for (int64_t i = 0; i < rows; i++) loss[i] = (double)da[i] * (double)da[i];
    else
        for (int64_t i = 0; i < rows; i++) loss[i] = dot_of(da + i * n, da + i * n, n);
    for (int64_t i = 0; i < rows; i++) {
        const double weight = share_of_output * weight_of(ctx, first + i);
        const vec factor = set((real)(2.0 * ctx->scale * weight));
        loss[i] = loss[i] * weight;
        FOR_VECTORS(j, some, n, put(da + i * n + j, factor * take(da + i * n + j, some), some););
    }
}

HEAD(squared_error, squared_error_of_rows)

/* max(x, 0) - x t + log(1 + e^-|x|). */
INLINE vec_d loss_of_logit(vec_d x, vec_d t)
{
    const vec_d zero = set_d(0), rise = select_d(less_d(x, zero), zero, x);
    return rise - x * t + log1p_of_d(exp_of_d(-abs_d(x)));
}

/* losses[j] = loss_of_logit(z[j], t[j] keep + add) for j < count. */
static void losses_of_logits(double *losses, const real *z, const real *t, real keep, real add,
                             int64_t count)
{
    for (int64_t j = 0; j < count; j += LANES_d) {
        const int64_t n = smaller_of(LANES_d, count - j);
        real smoothed[LANES_d];
        for (int64_t l = 0; l < LANES_d; l++) smoothed[l] = l < n ? t[j + l] * keep + add : 0;
        const vec_d x = n == LANES_d ? widen(z + j) : widen_some(z + j, n);
        const vec_d loss = loss_of_logit(x, widen(smoothed));
        if (n == LANES_d)
            store_d(losses + j, loss);
        else
            store_some_d(losses + j, loss, n);
    }
}

/* l_i = sum over j of max(z, 0) - z t + log(1 + e^-|z|), from logits. */
static void binary_cross_entropy_of_rows(const struct context *ctx, int64_t part,
                                         const struct row *row, int64_t first, int64_t rows)
{
    const int64_t n = row->n_in;
    const real *z = buffer(ctx, row->x) + first * n, *t = buffer(ctx, ctx->target) + first * n;
    real *da = buffer(ctx, row->dx) + first * n;
    double *loss = ctx->row_loss + first, *losses = (double *)pack_of(ctx, part);
    const real keep = (real)(1.0 - row->arg0), add = (real)(row->arg0 / 2);
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
    for (int64_t i = 0; i < rows; i++) {
        const double weight = weight_of(ctx, first + i);
        const vec factor = set((real)(ctx->scale * weight));
        loss[i] = loss[i] * weight;
        FOR_VECTORS(j, some, n, put(da + i * n + j, factor * take(da + i * n + j, some), some););
    }
}

HEAD(binary_cross_entropy, binary_cross_entropy_of_rows)

/* The same as cross_entropy_of_rows by columns, for COLUMN rows at most. */
static void cross_entropy_of_short_rows(const struct context *ctx, int64_t part,
                                        const struct row *row, int64_t first, int64_t rows)
{
    const int64_t n = row->n_in, size = n * COLUMN;
    real *d = pack_of(ctx, part), *t = d + SHORT * COLUMN;
    real factor[COLUMN], reciprocal[COLUMN];
    double sums[SHORT * COLUMN], losses[SHORT * COLUMN], mass[SHORT * COLUMN];
    const double smoothing = row->arg0, kept = 1.0 - smoothing, spread = smoothing / (double)n;
    const vec keep = set((real)kept), add = set((real)spread);
    to_columns(d, buffer(ctx, row->x) + first * n, rows, n);
    to_columns(t, buffer(ctx, ctx->target) + first * n, rows, n);
    subtract_maximum(d, n);
    dots_of_columns(losses, t, d, n);
    if (smoothing != 0.0) {
        sums_of_columns(sums, d, n);
        for (int i = 0; i < COLUMN; i++) losses[i] = kept * losses[i] + spread * sums[i];
    }
    sums_of_columns(mass, t, n);
    FOR_VECTORS(j, some, size, put(d + j, OF_REAL(exp_of)(take(d + j, some)), some););
    sums_of_columns(sums, d, n);
    for (int i = 0; i < COLUMN; i++) {
        const double weight = i < rows ? weight_of(ctx, first + i) : 0.0;
        factor[i] = (real)(ctx->scale * weight);
        reciprocal[i] = (real)(1.0 / sums[i]);
        mass[i] = kept * mass[i] + smoothing;
        losses[i] = (mass[i] * log_of(sums[i]) - losses[i]) * weight;
    }
    for (int64_t j = 0; j < size; j += COLUMN)
        for (int v = 0; v < COLUMN; v += LANES) {
            const vec p = load(d + j + v) * load(reciprocal + v);
            const vec smoothed = load(t + j + v) * keep + add;
            store(d + j + v, load(factor + v) * (p - smoothed));
        }
    memcpy(ctx->row_loss + first, losses, (size_t)rows * sizeof(double));
    from_columns(buffer(ctx, row->dx) + first * n, d, rows, n);
}

/* l_i = sum over j of t_ij (log sum e^z - z_ij), with the row's maximum subtracted first.

   One simple loop after another over a block of rows, so that each fills the lanes even where rows
   are short. With d = z - max z and s = sum of e^d: l = (sum of t) log s - sum of t d. */
static void cross_entropy_of_rows(const struct context *ctx, int64_t part, const struct row *row,
                                  int64_t first, int64_t rows)
{
    const int64_t n = row->n_in;
    for (; n <= SHORT && rows > COLUMN / 2; rows -= COLUMN, first += COLUMN)
        cross_entropy_of_short_rows(ctx, part, row, first, smaller_of(COLUMN, rows));
    const real *z = buffer(ctx, row->x) + first * n, *t = buffer(ctx, ctx->target) + first * n;
    real *da = buffer(ctx, row->dx) + first * n;
    double *loss = ctx->row_loss + first;
    const double smoothing = row->arg0;
    const vec keep = set((real)(1.0 - smoothing)), add = set((real)(smoothing / (double)n));
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = i * n;
        const vec highest = set(maximum_of(z + at, n));
        FOR_VECTORS(j, some, n, put(da + at + j, take(z + at + j, some) - highest, some););
        loss[i] = dot_of(t + at, da + at, n);
        if (smoothing != 0.0)
            loss[i] = (1.0 - smoothing) * loss[i] + smoothing / (double)n * sum_of(da + at, n);
    }
    FOR_VECTORS(j, some, rows * n, put(da + j, OF_REAL(exp_of)(take(da + j, some)), some););
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = i * n;
        const double total = sum_of(da + at, n);
        const double mass = (1.0 - smoothing) * sum_of(t + at, n) + smoothing;
        const double weight = weight_of(ctx, first + i);
        const vec factor = set((real)(ctx->scale * weight)), part_of_total = set((real)(1.0 / total));
        FOR_VECTORS(j, some, n,
                    const vec p = take(da + at + j, some) * part_of_total;
                    const vec smoothed = take(t + at + j, some) * keep + add;
                    put(da + at + j, factor * (p - smoothed), some););
        loss[i] = (mass * log_of(total) - loss[i]) * weight;
    }
}

HEAD(cross_entropy, cross_entropy_of_rows)

/* penalties[k] = sum over j of l1 |w_kj| + l2 w_kj^2 for the rows k of W; split by rows. */
static int64_t penalise(struct context *ctx, int64_t part, int64_t parts)
{
    const struct row *row = ctx->row;
    const int64_t n = row->n_out, end = share(row->n_in, 1, part + 1, parts);
    const real *w = (const real *)ctx->params + row->w;
    for (int64_t k = share(row->n_in, 1, part, parts); k < end; k++) {
        double penalty = row->arg2 * dot_of(w + k * n, w + k * n, n);
        if (row->arg1 != 0.0) penalty += row->arg1 * size_of(w + k * n, n);
        ctx->penalties[k] = penalty;
    }
    return STATUS_OK;
}

/* The sum of n doubles: in blocks of consecutive ones, then the blocks in order. */
static double sum_in_blocks(const double *values, int64_t n)
{
    double total = 0.0;
    for (int64_t i = 0; i < n; i += SUM_BLOCK) {
        const int64_t end = smaller_of(i + SUM_BLOCK, n);
        double block = 0.0;
        for (int64_t k = i; k < end; k++) block += values[k];
        total += block;
    }
    return total;
}

INLINE int64_t status_of_loss(double loss)
{
    return loss - loss == 0.0 ? STATUS_OK : STATUS_NOT_FINITE;
}

/* result[0] += the penalty of a row, in proportion to the rows of the batch; part 0 works. */
static int64_t add_penalty(struct context *ctx, int64_t part, int64_t parts)
{
    (void)parts;
    if (part > 0) return STATUS_OK;
    const double weight = ctx->mean ? ctx->mass : (double)ctx->m / (double)ctx->n_samples;
    ctx->result[0] = ctx->result[0] + weight * sum_in_blocks(ctx->penalties, ctx->row->n_in);
    return status_of_loss(ctx->result[0]);
}

/* result = (sum of row_loss, sum of row_hit); part 0 works.

   Returns STATUS_NOT_FINITE if the loss is infinite or not a number. */
static int64_t sum_rows(struct context *ctx, int64_t part, int64_t parts)
{
    (void)parts;
    if (part > 0) return STATUS_OK;
    double hits = 0.0;
    for (int64_t i = 0; i < ctx->m; i++) hits += ctx->row_hit[i];
    ctx->result[0] = sum_in_blocks(ctx->row_loss, ctx->m);
    ctx->result[1] = hits;
    return status_of_loss(ctx->result[0]);
}
