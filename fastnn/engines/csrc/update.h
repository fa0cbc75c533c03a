/* Optimizer steps on the flat vectors: w parameters, g gradient, slots one after another.

   The hyperparameters of the step arrive in ctx->hyper, so schedules stay in Python. All are
   elementwise. Each has two forms: a call for a range of parameters, split by elements, and <name>_of,
   the epilogue of a call that has just written a block of the gradient. */

/* Defines both; the statement runs on n elements from i on. `values` are declared before the loop. */
#define UPDATE(name, values, statement)                                                           \
    static int64_t name##_of(const struct context *ctx, int64_t at, int64_t rows,                 \
                             int64_t columns, int64_t stride)                                     \
    {                                                                                             \
        const double *hyper = ctx->hyper;                                                         \
        values;                                                                                   \
        if (columns == stride) {                                                                  \
            columns *= rows;                                                                      \
            rows = 1;                                                                             \
        }                                                                                         \
        for (int64_t r = 0; r < rows; r++, at += stride) {                                        \
            real *w = (real *)ctx->params + at, *slot = (real *)ctx->slots + at;                  \
            const real *g = (const real *)ctx->grad + at;                                         \
            (void)slot;                                                                           \
            FOR_VECTORS(i, n, columns, const vec gradient = take(g + i, n); statement);           \
        }                                                                                         \
        return STATUS_OK;                                                                         \
    }                                                                                             \
                                                                                                  \
    static int64_t name(struct context *ctx, int64_t part, int64_t parts)                         \
    {                                                                                             \
        const struct range mine = share_of(ctx->end - ctx->begin, 16, part, parts);               \
        const int64_t count = mine.end - mine.begin;                                              \
        return name##_of(ctx, ctx->begin + mine.begin, 1, count, count);                          \
    }

#define HYPER(name, value) const vec name = set((real)(value))

/* w = w - lr g; hyper = (lr,) */
UPDATE(sgd, HYPER(rate, hyper[0]), put(w + i, take(w + i, n) - rate * gradient, n);)

/* v = mu v - lr g, w = w + v; hyper = (lr, mu) */
UPDATE(momentum, HYPER(rate, hyper[0]); HYPER(mu, hyper[1]),
       const vec v = mu * take(slot + i, n) - rate * gradient;
       put(slot + i, v, n);
       put(w + i, take(w + i, n) + v, n);)

/* v = mu v - lr g, w = w + mu v - lr g; hyper = (lr, mu) */
UPDATE(nesterov, HYPER(rate, hyper[0]); HYPER(mu, hyper[1]),
       const vec v = mu * take(slot + i, n) - rate * gradient;
       put(slot + i, v, n);
       put(w + i, take(w + i, n) + (mu * v - rate * gradient), n);)

/* m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2, w = w - lr m / (sqrt v + eps).

   hyper = (lr, eps, b1, b2), where lr and eps include the bias correction (Kingma and Ba, Adam,
   2015, end of section 2). */
UPDATE(adam,
       HYPER(rate, hyper[0]); HYPER(epsilon, hyper[1]); HYPER(b1, hyper[2]); HYPER(b2, hyper[3]);
       HYPER(c1, 1.0 - hyper[2]); HYPER(c2, 1.0 - hyper[3]);
       const int64_t n_params = ctx->n_params,
       real *second = slot + n_params;
       const vec m = b1 * take(slot + i, n) + c1 * gradient;
       const vec v = b2 * take(second + i, n) + c2 * (gradient * gradient);
       put(slot + i, m, n);
       put(second + i, v, n);
       put(w + i, take(w + i, n) - rate * m / (root(v) + epsilon), n);)

#define STEP_SYMBOLS(name)                                                                        \
    SYMBOL(name)                                                                                  \
    SYMBOL(name##_of)

#define UPDATE_SYMBOLS                                                                            \
    STEP_SYMBOLS(sgd)                                                                             \
    STEP_SYMBOLS(momentum)                                                                        \
    STEP_SYMBOLS(nesterov)                                                                        \
    STEP_SYMBOLS(adam)
