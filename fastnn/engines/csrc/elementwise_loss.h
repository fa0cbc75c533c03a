/* Losses that are sums over outputs of a function of one output x and its target t: mae, Huber,
   quantile, hinge and squared hinge. See loss.h for what a head reads and writes. */

/* sums[i] = the sum of row i of x (rows, n). */
static void sums_of_rows(double *sums, const real *x, int64_t rows, int64_t n)
{
    if (n == 1)
        for (int64_t i = 0; i < rows; i++) sums[i] = (double)x[i];
    else
        for (int64_t i = 0; i < rows; i++) sums[i] = sum_of(x + i * n, n);
}

/* sums[i] = the sum of the squares of row i of x (rows, n). */
static void squares_of_rows(double *sums, const real *x, int64_t rows, int64_t n)
{
    if (n == 1)
        for (int64_t i = 0; i < rows; i++) sums[i] = (double)x[i] * (double)x[i];
    else
        for (int64_t i = 0; i < rows; i++) sums[i] = dot_of(x + i * n, x + i * n, n);
}

/* A head whose row's loss is the sum over outputs of loss_of(x, t, c), or of its square where sums
   are squares_of_rows; c is the loss's argument. derivative_of is the derivative by x. DIVISOR is
   that of the sum and its derivative. */
#define ELEMENTWISE_HEAD(name, loss_of, sums, derivative_of, DIVISOR)                             \
    static void name##_of_rows(const struct context *ctx, int64_t part, int64_t first,            \
                               int64_t rows)                                                      \
    {                                                                                             \
        const struct op *op = ctx->op;                                                            \
        const int64_t n = op->n_in;                                                               \
        const real *x = buffer(ctx, op->x) + first * n;                                           \
        const real *t = buffer(ctx, ctx->targets) + first * n;                                    \
        real *da = buffer(ctx, op->dx) + first * n;                                               \
        const vec c = set((real)op->arg0);                                                        \
        (void)part;                                                                               \
        FOR_VECTORS(j, some, rows * n,                                                            \
                    put(da + j, loss_of(take(x + j, some), take(t + j, some), c), some););        \
        sums(ctx->row_loss + first, da, rows, n);                                                 \
        FOR_VECTORS(j, some, rows * n,                                                            \
                    put(da + j, derivative_of(take(x + j, some), take(t + j, some), c), some););  \
        weigh_rows(ctx, first, rows, 1.0 / (double)(DIVISOR), 1.0 / (double)(DIVISOR));           \
    }                                                                                             \
    HEAD(name, name##_of_rows)

/* |x - t|, whose derivative is 0 at 0. */
INLINE vec absolute_error_of(vec x, vec t, vec c)
{
    (void)c;
    return magnitude(x - t);
}

INLINE vec absolute_error_derivative(vec x, vec t, vec c)
{
    (void)c;
    const vec one = set(1), zero = set(0), error = x - t;
    const vec below = choose(less(error, zero), -one, error);
    return choose(less(zero, error), one, below);
}

ELEMENTWISE_HEAD(absolute_error, absolute_error_of, sums_of_rows, absolute_error_derivative, n)

/* The derivative of the Huber loss: the error x - t, at most c in size. */
INLINE vec huber_derivative(vec x, vec t, vec c)
{
    const vec error = x - t;
    const vec above = choose(less(c, error), c, error);
    return choose(less(error, -c), -c, above);
}

/* e^2 / 2 for |e| <= c, else c (|e| - c / 2): with d = e, at most c in size, d (e - d / 2). */
INLINE vec huber_of(vec x, vec t, vec c)
{
    const vec d = huber_derivative(x, t, c);
    return d * ((x - t) - set((real)0.5) * d);
}

ELEMENTWISE_HEAD(huber, huber_of, sums_of_rows, huber_derivative, n)

/* max(q e, (q - 1) e) with e = t - x, whose derivative is 0 at e = 0. */
INLINE vec quantile_of(vec x, vec t, vec q)
{
    const vec error = t - x;
    return choose(less(error, set(0)), q - set(1), q) * error;
}

INLINE vec quantile_derivative(vec x, vec t, vec q)
{
    const vec zero = set(0), error = t - x;
    const vec below = choose(less(error, zero), set(1) - q, error);
    return choose(less(zero, error), -q, below);
}

ELEMENTWISE_HEAD(quantile, quantile_of, sums_of_rows, quantile_derivative, n)

/* Quantiles that are converted at a time. */
enum { SOME_QUANTILES = 256 };

/* The quantile loss where each output has its own q, in the plan's constants. */
static void quantiles_of_rows(const struct context *ctx, int64_t part, int64_t first,
                              int64_t rows)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_in;
    const real *x = buffer(ctx, op->x) + first * n, *t = buffer(ctx, ctx->targets) + first * n;
    real *da = buffer(ctx, op->dx) + first * n, q[SOME_QUANTILES];
    (void)part;
    for (int derives = 0; derives < 2; derives++) {
        for (int64_t column = 0; column < n; column += SOME_QUANTILES) {
            const int64_t count = smaller_of(SOME_QUANTILES, n - column);
            const double *constants = ctx->constants + op->constants + column;
            for (int64_t j = 0; j < count; j++) q[j] = (real)constants[j];
            for (int64_t at = column; at < rows * n; at += n)
                FOR_VECTORS(j, some, count,
                            const vec x_j = take(x + at + j, some), t_j = take(t + at + j, some);
                            const vec q_j = take(q + j, some);
                            put(da + at + j, derives ? quantile_derivative(x_j, t_j, q_j)
                                                     : quantile_of(x_j, t_j, q_j), some););
        }
        if (!derives) sums_of_rows(ctx->row_loss + first, da, rows, n);
    }
    weigh_rows(ctx, first, rows, 1.0 / (double)n, 1.0 / (double)n);
}

HEAD(quantiles, quantiles_of_rows)

/* max(0, 1 - s x) for the class s = 2 t - 1, which is -1 or 1; its derivative is 0 at the kink. */
INLINE vec hinge_of(vec x, vec t, vec c)
{
    (void)c;
    const vec zero = set(0), margin = set(1) - (t + t - set(1)) * x;
    return choose(less(margin, zero), zero, margin);
}

INLINE vec hinge_derivative(vec x, vec t, vec c)
{
    const vec zero = set(0);
    return choose(less(zero, hinge_of(x, t, c)), set(1) - (t + t), zero);
}

ELEMENTWISE_HEAD(hinge, hinge_of, sums_of_rows, hinge_derivative, 1)

INLINE vec squared_hinge_derivative(vec x, vec t, vec c)
{
    return set(2) * (set(1) - (t + t)) * hinge_of(x, t, c);
}

ELEMENTWISE_HEAD(squared_hinge, hinge_of, squares_of_rows, squared_hinge_derivative, 1)

#define ELEMENTWISE_LOSS_SYMBOLS                                                                  \
    SYMBOL(absolute_error)                                                                        \
    SYMBOL(huber)                                                                                 \
    SYMBOL(quantile)                                                                              \
    SYMBOL(quantiles)                                                                             \
    SYMBOL(hinge)                                                                                 \
    SYMBOL(squared_hinge)
