/* Optimizer steps on the flat vectors: w parameters, g gradient, slots one after another.

   The hyperparameters of the step arrive in ctx->hyper, so schedules stay in Python. All are
   elementwise and split by elements. */

/* A kernel that runs the statement on vectors of its share: n elements from i on. `values` are
   declared before the loop. */
#define UPDATE(name, values, statement)                                                           \
    static int64_t name(struct context *ctx, int64_t part, int64_t parts)                         \
    {                                                                                             \
        const struct range mine = share_of(ctx->n_params, 16, part, parts);                       \
        const double *hyper = ctx->hyper;                                                         \
        real *w = (real *)ctx->params + mine.begin;                                               \
        const real *g = (const real *)ctx->grad + mine.begin;                                     \
        real *slot = (real *)ctx->slots + mine.begin;                                             \
        (void)slot;                                                                               \
        values;                                                                                   \
        FOR_VECTORS(i, n, mine.end - mine.begin, const vec gradient = take(g + i, n); statement); \
        return STATUS_OK;                                                                         \
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
       real *second = slot + ctx->n_params,
       const vec m = b1 * take(slot + i, n) + c1 * gradient;
       const vec v = b2 * take(second + i, n) + c2 * (gradient * gradient);
       put(slot + i, m, n);
       put(second + i, v, n);
       put(w + i, take(w + i, n) - rate * m / (root(v) + epsilon), n);)

#define UPDATE_SYMBOLS                                                                            \
    SYMBOL(sgd)                                                                                   \
    SYMBOL(momentum)                                                                              \
    SYMBOL(nesterov)                                                                              \
    SYMBOL(adam)
