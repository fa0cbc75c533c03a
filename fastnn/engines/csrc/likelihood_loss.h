/* Losses on the parameters of a distribution: Poisson, the normal distribution, and the focal loss
   of classes. See loss.h for what a head reads and writes. */

/* l_i = sum over j of e^z - t z, for the logarithm z of a rate; dz = e^z - t. */
static void poisson_of_rows(const struct context *ctx, int64_t part, int64_t first, int64_t rows)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_in;
    const real *z = buffer(ctx, op->x) + first * n, *t = buffer(ctx, ctx->targets) + first * n;
    real *da = buffer(ctx, op->dx) + first * n;
    double *loss = ctx->row_loss + first;
    (void)part;
    FOR_VECTORS(j, some, rows * n, put(da + j, OF_REAL(exp_of)(take(z + j, some)), some););
    for (int64_t i = 0; i < rows; i++)
        loss[i] = sum_of(da + i * n, n) - dot_of(t + i * n, z + i * n, n);
    FOR_VECTORS(j, some, rows * n, put(da + j, take(da + j, some) - take(t + j, some), some););
    weigh_rows(ctx, first, rows, 1.0, 1.0);
}

HEAD(poisson, poisson_of_rows)

/* l_i = 1/2 sum over j < c of log 2 pi + s + (m - t)^2 e^-s, for n = 2 c outputs: the means m, then
   the logarithms s of the variances; dm = (m - t) e^-s and ds = (1 - (m - t)^2 e^-s) / 2. */
static void gaussian_nll_of_rows(const struct context *ctx, int64_t part, int64_t first,
                                 int64_t rows)
{
    const double log_2_pi = 1.8378770664093453;
    const struct op *op = ctx->op;
    const int64_t n = op->n_in, c = n / 2;
    const real *z = buffer(ctx, op->x) + first * n;
    real *da = buffer(ctx, op->dx) + first * n;
    double *loss = ctx->row_loss + first;
    const vec half = set((real)0.5);
    (void)part;
    FOR_VECTORS(j, some, rows * n, put(da + j, OF_REAL(exp_of)(-take(z + j, some)), some););
    for (int64_t i = 0; i < rows; i++) {
        const real *m = z + i * n, *t = buffer(ctx, ctx->targets) + (first + i) * n;
        real *dm = da + i * n, *ds = dm + c;
        FOR_VECTORS(j, some, c,
                    const vec error = take(m + j, some) - take(t + j, some);
                    const vec derivative = error * take(ds + j, some);
                    put(dm + j, derivative, some);
                    put(ds + j, error * derivative, some););
        loss[i] = 0.5 * ((double)c * log_2_pi + sum_of(m + c, c) + sum_of(ds, c));
        FOR_VECTORS(j, some, c, put(ds + j, half - half * take(ds + j, some), some););
    }
    weigh_rows(ctx, first, rows, 1.0, 1.0);
}

HEAD(gaussian_nll, gaussian_nll_of_rows)

/* l_i = (1 - p)^g (-log p) for the probability p of the true class, with p = sigmoid(x) and
   x = z or -z; dx = -(1 - p)^g (g p (-log p) + 1 - p). */
static void focal_binary_of_rows(const struct context *ctx, int64_t part, int64_t first,
                                 int64_t rows)
{
    const struct op *op = ctx->op;
    const real *z = buffer(ctx, op->x) + first, *t = buffer(ctx, ctx->targets) + first;
    real *da = buffer(ctx, op->dx) + first, losses[HEAD_ROWS];
    const vec gamma = set((real)op->arg0), zero = set(0), one = set(1);
    (void)part;
    FOR_VECTORS(j, some, rows,
                const vec sign = take(t + j, some) + take(t + j, some) - one;
                const vec x = sign * take(z + j, some);
                const vec e = OF_REAL(exp_of)(-magnitude(x)), rest = OF_REAL(log1p_of)(e);
                const mask negative = less(x, zero);
                const vec p = choose(negative, e, one) / (one + e);
                const vec not_p = choose(negative, one, e) / (one + e);
                const vec log_p = choose(negative, -x, zero) + rest;     /* -log p */
                const vec log_not_p = choose(negative, zero, x) + rest;  /* -log (1 - p) */
                const vec power = OF_REAL(exp_of)(-(gamma * log_not_p));
                put(losses + j, power * log_p, some);
                put(da + j, -sign * (power * (gamma * (p * log_p) + not_p)), some););
    sums_of_rows(ctx->row_loss + first, losses, rows, 1);
    weigh_rows(ctx, first, rows, 1.0, 1.0);
}

HEAD(focal_binary, focal_binary_of_rows)

/* Some rows of the focal loss of classes, with o = the sum of e^d over all classes but the true one,
   d = z - max z. */
struct focal_rows {
    double logit[HEAD_ROWS], own[HEAD_ROWS], others[HEAD_ROWS]; /* d and e^d of the true class, o */
    double loss[HEAD_ROWS], factor[HEAD_ROWS];                  /* l, and that of dz */
    double reciprocal[HEAD_ROWS], not_p[HEAD_ROWS];             /* 1 / (own + others), 1 - p */
};

/* loss = (1 - p)^g (-log p) and factor = (1 - p)^g (1 + g p (-log p) / (1 - p)), from others / own,
   so that nothing cancels where p is near 1. */
static void focal_of_probabilities(struct focal_rows *row, double gamma, int64_t rows)
{
    const double least = 0x1p-1022; /* the least normal number: what log_of takes */
    const vec_d one = set_d(1), zero = set_d(0), exponent = set_d(gamma);
    double log_total[HEAD_ROWS], log_others[HEAD_ROWS];
    for (int64_t i = rows; i % LANES_d; i++) row->logit[i] = row->own[i] = row->others[i] = 1;
    for (int64_t i = 0; i < rows || i % LANES_d; i++) {
        log_total[i] = log_of(row->own[i] + row->others[i]);
        log_others[i] = log_of(row->others[i] < least ? least : row->others[i]);
    }
    for (int64_t i = 0; i < rows; i += LANES_d) {
        const vec_d own = load_d(row->own + i), others = load_d(row->others + i);
        const vec_d total = load_d(log_total + i), reciprocal = one / (own + others);
        const vec_d p = own * reciprocal, not_p = others * reciprocal;
        const vec_d near = log1p_of_d(others / own), far = total - load_d(row->logit + i);
        const vec_d size = select_d(at_most_d(others, own), near, far); /* -log p */
        const vec_d power = exp_of_d(exponent * (load_d(log_others + i) - total));
        const vec_d ratio = select_d(less_d(zero, not_p), size / not_p, one);
        store_d(row->loss + i, power * size);
        store_d(row->factor + i, power * (exponent * (p * ratio) + one));
        store_d(row->reciprocal + i, reciprocal);
        store_d(row->not_p + i, not_p);
    }
}

/* l_i = (1 - p)^g (-log p) for the probability p of the true class by softmax; the targets are
   one-hot codes. dz = factor (p_j - t_j), and p - 1 is - (1 - p) for the true class. */
static void focal_of_rows(const struct context *ctx, int64_t part, int64_t first, int64_t rows)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_in;
    const real *z = buffer(ctx, op->x) + first * n, *t = buffer(ctx, ctx->targets) + first * n;
    real *da = buffer(ctx, op->dx) + first * n;
    struct focal_rows row;
    const vec one = set(1);
    (void)part;
    for (int64_t i = 0; i < rows; i++) {
        const vec highest = set(maximum_of(z + i * n, n));
        FOR_VECTORS(j, some, n, put(da + i * n + j, take(z + i * n + j, some) - highest, some););
    }
    for (int64_t i = 0; i < rows; i++) row.logit[i] = dot_of(t + i * n, da + i * n, n);
    FOR_VECTORS(j, some, rows * n, put(da + j, OF_REAL(exp_of)(take(da + j, some)), some););
    for (int64_t i = 0; i < rows; i++) row.own[i] = dot_of(t + i * n, da + i * n, n);
    FOR_VECTORS(j, some, rows * n, put(da + j, take(da + j, some) * (one - take(t + j, some)), some););
    sums_of_rows(row.others, da, rows, n);
    focal_of_probabilities(&row, op->arg0, rows);
    for (int64_t i = 0; i < rows; i++) {
        const vec factor = set((real)row.factor[i]), reciprocal = set((real)row.reciprocal[i]);
        const vec not_p = set((real)row.not_p[i]);
        const int64_t at = i * n;
        FOR_VECTORS(j, some, n,
                    const vec p = take(da + at + j, some) * reciprocal;
                    put(da + at + j, factor * (p - take(t + at + j, some) * not_p), some););
    }
    memcpy(ctx->row_loss + first, row.loss, (size_t)rows * sizeof(double));
    weigh_rows(ctx, first, rows, 1.0, 1.0);
}

HEAD(focal, focal_of_rows)

#define LIKELIHOOD_LOSS_SYMBOLS                                                                   \
    SYMBOL(poisson)                                                                               \
    SYMBOL(gaussian_nll)                                                                          \
    SYMBOL(focal_binary)                                                                          \
    SYMBOL(focal)
