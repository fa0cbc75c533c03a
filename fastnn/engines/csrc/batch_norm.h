/* BatchNorm, z = gamma (x - mean) / sqrt(variance + epsilon) + beta and a = act(z), by columns.
   (S. Ioffe and C. Szegedy, Batch Normalization, 2015, algorithms 1 and 2.)

   In training a part takes some columns, strip by strip. A strip is a few vectors wide: its sums
   over the rows stay in registers, and its later passes find it in a cache. Sums are doubles; they
   ascend within blocks of KC rows, and then over the blocks.

   The forward pass leaves, for each column, the mean, 1 / sqrt(variance + epsilon), and the
   unbiased variance or -1 where a single row was normalised by the running statistics. */

enum {
    STRIP_VECTORS = 4, /* vectors of doubles that a strip is wide; the last strips have one */
    STRIP = STRIP_VECTORS * LANES_d,
};

/* Hides from the compiler what an array holds. GCC 12 takes a double that was rounded to a single and
   widened again for the double itself, where it computes two at a time. */
#define HIDE_ARRAY(array) __asm__("" : "+m"(array))

/* Some columns of the operation, side by side. */
struct strip {
    const struct op *op;
    int64_t m, n;       /* rows of the batch, and elements from one row to the next */
    int64_t j, columns; /* the first column, and how many */
};

/* What sum_columns sums: x; (x - mean)^2; or dz, and dz (x - mean). */
enum summed { X, SQUARES, DZ };

/* The columns of a strip, a constant if it is wide. */
INLINE int64_t columns_of(const int vectors, const struct strip *s)
{
    return vectors > 1 ? STRIP : smaller_of(LANES_d, s->columns);
}

INLINE vec_d take_wide(const real *p, int64_t n)
{
    return n == LANES_d ? widen(p) : widen_some(p, n);
}

/* sums[k] = the sum over the rows of x, (x - mean)^2 or dz in column k of a strip, and with dz also
   more[k] = that of dz (x - mean). Unused lanes become 0. */
INLINE void sum_columns(const int vectors, const enum summed of, const struct strip *s,
                        const real *x, const real *dz, const double *mean, double *sums,
                        double *more)
{
    const int64_t n = smaller_of(LANES_d, columns_of(vectors, s));
    vec_d total[STRIP_VECTORS][2], about[STRIP_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        total[v][0] = total[v][1] = set_d(0);
        about[v] = of == X ? set_d(0) : load_d(mean + v * LANES_d);
    }
    for (int64_t first = 0; first < s->m; first += KC) {
        const int64_t end = smaller_of(first + KC, s->m);
        vec_d block[STRIP_VECTORS][2];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) block[v][0] = block[v][1] = set_d(0);
        for (int64_t i = first; i < end; i++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                const int64_t at = i * s->n + v * LANES_d;
                vec_d d = take_wide(x + at, n);
                if (of != X) d = d - about[v];
                if (of == X) block[v][0] = block[v][0] + d;
                if (of == SQUARES) block[v][0] = fma_d(d, d, block[v][0]);
                if (of != DZ) continue;
                const vec_d gradient = take_wide(dz + at, n);
                block[v][0] = block[v][0] + gradient;
                block[v][1] = fma_d(gradient, d, block[v][1]);
            }
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            total[v][0] = total[v][0] + block[v][0];
            total[v][1] = total[v][1] + block[v][1];
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        store_d(sums + v * LANES_d, total[v][0]);
        if (of == DZ) store_d(more + v * LANES_d, total[v][1]);
    }
}

/* out[k] = the parameter at an offset for column k of a strip, or `otherwise` if there is none. */
INLINE void take_parameter(double *out, const int vectors, const struct context *ctx,
                           const struct strip *s, int64_t offset, double otherwise)
{
    for (int k = 0; k < vectors * LANES_d; k++) out[k] = otherwise;
    if (offset == NONE) return;
    const real *parameter = (const real *)ctx->params + offset + s->j;
    for (int k = 0; k < columns_of(vectors, s); k++) out[k] = parameter[k];
}

/* Write one number for each column of a strip, of all that its vectors hold. */
INLINE void put_columns(const int vectors, const struct strip *s, real *out, const real *values)
{
    if (vectors > 1)
        copy_to(out, values, STRIP);
    else
        store_some(out, load(values), columns_of(vectors, s));
}

INLINE void put_doubles(const int vectors, const struct strip *s, double *out, const double *values)
{
    if (vectors > 1)
        memcpy(out, values, STRIP * sizeof(double));
    else
        store_some_d(out, load_d(values), columns_of(vectors, s));
}

/* mean and variance of the columns of a strip: those of the batch, or for a single row the running
   ones. */
INLINE void statistics_of(const int vectors, const struct context *ctx, const struct strip *s,
                          const real *x, double *mean, double *variance)
{
    const int width = vectors * LANES_d;
    const int64_t columns = columns_of(vectors, s);
    const double m = (double)s->m;
    if (s->m > 1) {
        sum_columns(vectors, X, s, x, NULL, NULL, mean, NULL);
        for (int k = 0; k < width; k++) mean[k] = mean[k] / m;
        sum_columns(vectors, SQUARES, s, x, NULL, mean, variance, NULL);
        for (int k = 0; k < width; k++) variance[k] = variance[k] / m;
        return;
    }
    const real *running = (const real *)ctx->state + s->op->state + s->j;
    for (int k = 0; k < width; k++) {
        mean[k] = k < columns ? (double)running[k] : 0.0;
        variance[k] = k < columns ? (double)running[s->n + k] : 0.0;
    }
}

/* z for the columns of a strip; leaves their statistics. */
INLINE void forward_of_strip(const int vectors, const struct context *ctx, const struct strip *s)
{
    const int width = vectors * LANES_d;
    const int64_t columns = columns_of(vectors, s);
    const struct op *op = s->op;
    const real *x = buffer(ctx, op->x) + s->j;
    double mean[STRIP], variance[STRIP], inverse[STRIP], gamma[STRIP], beta[STRIP];
    real middle[STRIP], scale[STRIP], shift[STRIP];
    statistics_of(vectors, ctx, s, x, mean, variance);
    take_parameter(gamma, vectors, ctx, s, op->w, 1.0);
    take_parameter(beta, vectors, ctx, s, op->b, 0.0);
    for (int k = 0; k < width; k++) middle[k] = (real)mean[k];
    HIDE_ARRAY(middle);
    for (int k = 0; k < width; k++) {
        inverse[k] = 1.0 / sqrt(variance[k] + op->arg1);
        const double factor = gamma[k] * inverse[k];
        scale[k] = (real)factor;
        shift[k] = (real)(beta[k] + ((double)middle[k] - mean[k]) * factor); /* what it rounds off */
    }
    const struct affine by = {middle, scale, shift};
    normalise_rows(&by, x, buffer(ctx, op->z) + s->j, s->m, columns, s->n);
    const double unbias = s->m > 1 ? (double)s->m / (double)(s->m - 1) : 0.0;
    for (int k = 0; k < width; k++) variance[k] = s->m > 1 ? variance[k] * unbias : -1.0;
    double *left = ctx->batch + op->batch + s->j;
    put_doubles(vectors, s, left, mean);
    put_doubles(vectors, s, left + s->n, inverse);
    put_doubles(vectors, s, left + 2 * s->n, variance);
}

NOINLINE void forward_of_wide_strip(const struct context *ctx, const struct strip *s)
{
    forward_of_strip(STRIP_VECTORS, ctx, s);
}

NOINLINE void forward_of_last_strip(const struct context *ctx, const struct strip *s)
{
    forward_of_strip(1, ctx, s);
}

/* The factors of dx = scale (dz - first - (x - middle) second). */
struct inward {
    real middle[STRIP], scale[STRIP], first[STRIP], second[STRIP];
};

/* dx, or dx + that, for the columns of some vectors, or for the first n of a single one. */
INLINE void send_vectors(const int vectors, const struct inward *by, const struct strip *s,
                         const real *x, const real *dz, real *dx, int64_t n)
{
    const bool adds = s->op->adds;
    vec middle[STRIP_VECTORS], scale[STRIP_VECTORS], first[STRIP_VECTORS], second[STRIP_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        middle[v] = take(by->middle + v * LANES, n);
        scale[v] = take(by->scale + v * LANES, n);
        first[v] = take(by->first + v * LANES, n);
        second[v] = take(by->second + v * LANES, n);
    }
    for (int64_t i = 0; i < s->m; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            const int64_t at = i * s->n + v * LANES;
            const vec from_mean = take(x + at, n) - middle[v];
            put_or_add(dx + at, scale[v] * (take(dz + at, n) - first[v] - from_mean * second[v]), n,
                       adds);
        }
}

/* dgamma and dbeta, to which a continued piece adds, and dx for the columns of a strip. */
INLINE void backward_of_strip(const int vectors, const struct context *ctx, const struct strip *s)
{
    const int width = vectors * LANES_d;
    const int64_t columns = columns_of(vectors, s);
    const struct op *op = s->op;
    const real *x = buffer(ctx, op->x) + s->j, *da = buffer(ctx, op->da) + s->j;
    const double *left = ctx->batch + op->batch + s->j;
    double mean[STRIP], inverse[STRIP], gamma[STRIP], dz[STRIP], dz_x[STRIP];
    for (int k = 0; k < width; k++) {
        mean[k] = k < columns ? left[k] : 0.0;
        inverse[k] = k < columns ? left[s->n + k] : 0.0;
    }
    sum_columns(vectors, DZ, s, x, da, mean, dz, dz_x);
    if (op->w != NONE) {
        real dgamma[STRIP], dbeta[STRIP];
        for (int k = 0; k < width; k++) {
            dgamma[k] = (real)(dz_x[k] * inverse[k]);
            dbeta[k] = (real)dz[k];
        }
        real *gamma_to = (real *)ctx->grad + op->w + s->j;
        real *beta_to = (real *)ctx->grad + op->b + s->j;
        for (int k = 0; is_continued(ctx) && k < columns; k++) {
            dgamma[k] = gamma_to[k] + dgamma[k];
            dbeta[k] = beta_to[k] + dbeta[k];
        }
        put_columns(vectors, s, gamma_to, dgamma);
        put_columns(vectors, s, beta_to, dbeta);
    }
    if (op->dx == NONE) return;
    struct inward by;
    const double share = s->m > 1 ? 1.0 / (double)s->m : 0.0; /* running statistics are constant */
    take_parameter(gamma, vectors, ctx, s, op->w, 1.0);
    for (int k = 0; k < width; k++) by.middle[k] = (real)mean[k];
    HIDE_ARRAY(by.middle);
    for (int k = 0; k < width; k++) {
        const double second = dz_x[k] * inverse[k] * inverse[k] * share;
        by.scale[k] = (real)(gamma[k] * inverse[k]);
        by.first[k] = (real)(dz[k] * share + ((double)by.middle[k] - mean[k]) * second);
        by.second[k] = (real)second;
    }
    real *dx = buffer(ctx, op->dx) + s->j;
    if (vectors > 1)
        send_vectors(STRIP / LANES, &by, s, x, da, dx, LANES);
    else
        send_vectors(1, &by, s, x, da, dx, columns);
}

NOINLINE void backward_of_wide_strip(const struct context *ctx, const struct strip *s)
{
    backward_of_strip(STRIP_VECTORS, ctx, s);
}

NOINLINE void backward_of_last_strip(const struct context *ctx, const struct strip *s)
{
    backward_of_strip(1, ctx, s);
}

/* Run a function on every strip of some columns: `wide` on whole ones, `last` on the others. */
#define FOR_STRIPS(ctx, mine, wide, last)                                                         \
    do {                                                                                          \
        struct strip s = {.op = (ctx)->op, .m = (ctx)->m, .n = (ctx)->op->n_out};                 \
        for (s.j = (mine).begin; s.j < (mine).end; s.j += s.columns) {                            \
            const int64_t rest = (mine).end - s.j;                                                \
            s.columns = rest >= STRIP ? STRIP : smaller_of(LANES_d, rest);                        \
            if (s.columns == STRIP)                                                               \
                wide(ctx, &s);                                                                    \
            else                                                                                  \
                last(ctx, &s);                                                                    \
        }                                                                                         \
    } while (0)

/* z by the statistics of the batch, then a = act(z) by the epilogue; x, z and a are (m, n_out).

   Writes 3 n_out doubles of the per-batch space; split by columns. */
static int64_t batch_norm_forward(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_out;
    const struct range mine = columns_of_part(n, part, parts);
    const int64_t columns = mine.end - mine.begin;
    real *z = buffer(ctx, op->z) + mine.begin, *a = buffer(ctx, op->a) + mine.begin;
    FOR_STRIPS(ctx, mine, forward_of_wide_strip, forward_of_last_strip);
    if (z != a)
        for (int64_t i = 0; i < ctx->m; i++) copy_to(a + i * n, z + i * n, columns);
    epilogue(ctx, z, a, a, ctx->m, columns, n, op);
    return STATUS_OK;
}

/* dgamma and dbeta (n_out,), and dx or dx + that, then times the derivative below by the epilogue.

   x, dz and dx are (m, n_out); split by columns. */
static int64_t batch_norm_backward(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_out;
    const struct range mine = columns_of_part(n, part, parts);
    FOR_STRIPS(ctx, mine, backward_of_wide_strip, backward_of_last_strip);
    if (!ctx->inner) return STATUS_OK;
    const struct op *below = ctx->ops + op->below;
    epilogue(ctx, buffer(ctx, below->z) + mine.begin, buffer(ctx, below->a) + mine.begin,
             buffer(ctx, op->dx) + mine.begin, ctx->m, mine.end - mine.begin, n, below);
    return STATUS_OK;
}

/* running = momentum running + (1 - momentum) batch, unless the batch was a single row; split by
   columns. */
static int64_t batch_norm_statistics(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_out;
    const struct range mine = columns_of_part(n, part, parts);
    const double *mean = ctx->batch + op->batch, *unbiased = mean + 2 * n;
    const double momentum = op->arg2, rest = 1.0 - op->arg2;
    real *running = (real *)ctx->state + op->state;
    if (mine.begin < mine.end && unbiased[mine.begin] < 0.0) return STATUS_OK;
    for (int64_t j = mine.begin; j < mine.end; j++) {
        running[j] = (real)(momentum * (double)running[j] + rest * mean[j]);
        running[n + j] = (real)(momentum * (double)running[n + j] + rest * unbiased[j]);
    }
    return STATUS_OK;
}

/* mean and scale = gamma / sqrt(variance + epsilon) of the running statistics into the per-batch
   space, n_out reals each, for predictions; split by columns. */
static int64_t batch_norm_prepare(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_out;
    const struct range mine = columns_of_part(n, part, parts);
    const real *running = (const real *)ctx->state + op->state;
    const real *gamma = op->w == NONE ? NULL : (const real *)ctx->params + op->w;
    real *mean = (real *)(ctx->batch + op->batch), *scale = mean + n;
    for (int64_t j = mine.begin; j < mine.end; j++) {
        const double inverse = 1.0 / sqrt((double)running[n + j] + op->arg1);
        mean[j] = running[j];
        scale[j] = (real)((gamma ? (double)gamma[j] : 1.0) * inverse);
    }
    return STATUS_OK;
}

/* z by what batch_norm_prepare left, then a = act(z) by the epilogue, for predictions where no
   operation below computes it; x, z and a are (m, n_out); split by rows of the batch. */
static int64_t batch_norm_apply(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_out;
    const struct range mine = rows_of_part(ctx, part, parts);
    const int64_t rows = mine.end - mine.begin, at = mine.begin * n;
    real *z = buffer(ctx, op->z) + at, *a = buffer(ctx, op->a) + at;
    for (int64_t j = 0; j < n; j += NC) {
        const struct affine by = prepared(ctx, op, j);
        normalise_rows(&by, buffer(ctx, op->x) + at + j, z + j, rows, smaller_of(NC, n - j), n);
    }
    if (z != a) copy_to(a, z, rows * n);
    epilogue(ctx, z, a, a, rows, n, n, op);
    return STATUS_OK;
}

#define BATCH_NORM_SYMBOLS                                                                        \
    SYMBOL(batch_norm_forward)                                                                    \
    SYMBOL(batch_norm_backward)                                                                   \
    SYMBOL(batch_norm_statistics)                                                                       \
    SYMBOL(batch_norm_prepare)                                                                    \
    SYMBOL(batch_norm_apply)
