/* Optimizer steps on the flat vectors: w parameters, g gradient, slots after one another.

   The hyperparameters of the step arrive in ctx->hyper, so schedules stay in Python. Each is split
   by elements; all are elementwise. */

/* A leaf that runs the statement on vectors of its share: from element i on, n of them. `values`
   are declared before the loop. */
#define UPDATE(name, values, statement)                                                           \
    static int64_t name(struct context *ctx, int64_t part, int64_t parts)                         \
    {                                                                                             \
        const int64_t begin = share(ctx->n_params, 16, part, parts);                              \
        const int64_t end = share(ctx->n_params, 16, part + 1, parts);                            \
        const double *hyper = ctx->hyper;                                                         \
        real *w = (real *)ctx->params + begin;                                                    \
        const real *g = (const real *)ctx->grad + begin;                                          \
        real *slot = (real *)ctx->slots + begin;                                                  \
        (void)slot;                                                                               \
        values;                                                                                   \
        FOR_VECTORS(i, n, end - begin, const vec gradient = take(g + i, n); statement);           \
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

   hyper = (lr, eps, b1, b2), with the corrections of the bias already in lr and eps (Kingma and
   Ba, Adam, 2015, end of section 2). */
UPDATE(adam,
       HYPER(rate, hyper[0]); HYPER(epsilon, hyper[1]); HYPER(b1, hyper[2]); HYPER(b2, hyper[3]);
       HYPER(c1, 1.0 - hyper[2]); HYPER(c2, 1.0 - hyper[3]);
       real *second = slot + ctx->n_params,
       const vec m = b1 * take(slot + i, n) + c1 * gradient;
       const vec v = b2 * take(second + i, n) + c2 * (gradient * gradient);
       put(slot + i, m, n);
       put(second + i, v, n);
       put(w + i, take(w + i, n) - rate * m / (root(v) + epsilon), n);)
