/* Optimizer steps on the flat vectors: w parameters, g gradient, slots one after another.

   The hyperparameters of the step arrive in ctx->hyper, so schedules stay in Python; the first ones
   are the same for all rules (COMMON in tables.py). All rules are elementwise, and split by
   elements. */

/* The numbers of a step for one group of parameters. */
struct step {
    double rate;
    real coupled, decoupled;
    const double *own; /* the rule's own hyperparameters */
};

enum { HYPER_rate, HYPER_coupled, HYPER_decoupled, HYPER_clip, HYPER_average, HYPER_own };

INLINE struct step step_of(const struct context *ctx, const struct group *group)
{
    const double *hyper = ctx->hyper;
    return (struct step){.rate = hyper[HYPER_rate] * group->rate,
                         .coupled = (real)(hyper[HYPER_coupled] * group->decay),
                         .decoupled = (real)(hyper[HYPER_decoupled] * group->rate * group->decay),
                         .own = hyper + HYPER_own};
}

/* The elements of a group among some elements. */
INLINE struct range within(struct range some, const struct group *group)
{
    const int64_t begin = larger_of(some.begin, group->begin);
    return (struct range){begin, larger_of(begin, smaller_of(some.end, group->end))};
}

/* A kernel that runs the statement on vectors of its share: n elements from i on. It sets `weight`,
   from which a decoupled decay has been subtracted, with the help of `gradient`, to which a coupled
   one has been added, and of slots at `slot`, `slot + ctx->n_params`, ... `values` are declared
   before the loop. */
#define UPDATE(name, values, statement)                                                           \
    static int64_t name(struct context *ctx, int64_t part, int64_t parts)                         \
    {                                                                                             \
        const struct range share = share_of(ctx->n_params, 16, part, parts);                      \
        for (int64_t group = 0; group < ctx->n_groups; group++) {                                 \
            const struct range mine = within(share, ctx->groups + group);                         \
            const struct step step = step_of(ctx, ctx->groups + group);                           \
            real *w = (real *)ctx->params + mine.begin;                                           \
            const real *g = (const real *)ctx->grad + mine.begin;                                 \
            real *slot = (real *)ctx->slots + mine.begin;                                         \
            (void)slot;                                                                           \
            HYPER(rate, step.rate);                                                               \
            HYPER(coupled, step.coupled);                                                         \
            HYPER(decoupled, step.decoupled);                                                     \
            values;                                                                               \
            FOR_VECTORS(i, n, mine.end - mine.begin, vec weight = take(w + i, n);                 \
                        vec gradient = take(g + i, n);                                            \
                        if (step.coupled != 0) gradient = gradient + coupled * weight;            \
                        if (step.decoupled != 0) weight = weight - decoupled * weight;            \
                        statement; put(w + i, weight, n););                                       \
        }                                                                                         \
        return STATUS_OK;                                                                         \
    }

#define HYPER(name, value) const vec name = set((real)(value))

/* w = w - lr g */
UPDATE(sgd, , weight = weight - rate * gradient)

/* v = mu v - lr g, w = w + v; own = (mu,) */
UPDATE(momentum, HYPER(mu, step.own[0]),
       const vec v = mu * take(slot + i, n) - rate * gradient;
       put(slot + i, v, n);
       weight = weight + v)

/* v = mu v - lr g, w = w + mu v - lr g; own = (mu,) */
UPDATE(nesterov, HYPER(mu, step.own[0]),
       const vec v = mu * take(slot + i, n) - rate * gradient;
       put(slot + i, v, n);
       weight = weight + (mu * v - rate * gradient))

/* Adam and its relatives: own = (eps, b1, b2, ...), slots m and v. The bias corrections are in lr
   and eps (Kingma and Ba, Adam, 2015, end of section 2). */
#define MOMENT_VALUES                                                                             \
    HYPER(epsilon, step.own[0]);                                                                  \
    HYPER(b1, step.own[1]);                                                                       \
    HYPER(b2, step.own[2]);                                                                       \
    HYPER(c1, 1.0 - step.own[1]);                                                                 \
    HYPER(c2, 1.0 - step.own[2]);                                                                 \
    real *second = slot + ctx->n_params

/* m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2 */
#define MOMENTS                                                                                   \
    const vec m = b1 * take(slot + i, n) + c1 * gradient;                                         \
    const vec v = b2 * take(second + i, n) + c2 * (gradient * gradient);                          \
    put(slot + i, m, n);                                                                          \
    put(second + i, v, n)

/* w = w - lr m / (sqrt v + eps) */
UPDATE(adam, MOMENT_VALUES, MOMENTS; weight = weight - rate * m / (root(v) + epsilon))

/* The third slot is the largest v so far: top = max(top, v), w = w - lr m / (sqrt top + eps). */
UPDATE(amsgrad, MOMENT_VALUES; real *third = second + ctx->n_params,
       MOMENTS;
       const vec top = larger(v, take(third + i, n));
       put(third + i, top, n);
       weight = weight - rate * m / (root(top) + epsilon))

/* w = w - lr (now g + next m) / (sqrt v + eps); own = (eps, b1, b2, now, next) */
UPDATE(nadam, MOMENT_VALUES; HYPER(now, step.own[3]); HYPER(next, step.own[4]),
       MOMENTS;
       weight = weight - rate * (now * gradient + next * m) / (root(v) + epsilon))

/* w = w - lr m (plain + adaptive / (sqrt v + eps)); own = (eps, b1, b2, plain, adaptive), of which
   one of the last two is 0 */
UPDATE(radam, MOMENT_VALUES; HYPER(plain, step.own[3]); HYPER(adaptive, step.own[4]),
       MOMENTS;
       weight = weight - rate * m * (plain + adaptive / (root(v) + epsilon)))

/* w = w - lr sign(b1 m + (1-b1) g), m = b2 m + (1-b2) g; own = (b1, b2) */
UPDATE(lion,
       HYPER(b1, step.own[0]); HYPER(b2, step.own[1]);
       HYPER(c1, 1.0 - step.own[0]); HYPER(c2, 1.0 - step.own[1]); HYPER(zero, 0.0),
       const vec m = take(slot + i, n);
       const vec towards = b1 * m + c1 * gradient;
       put(slot + i, b2 * m + c2 * gradient, n);
       weight = weight - choose(less(zero, towards), rate,
                                choose(less(towards, zero), -rate, zero)))

/* s = s + g^2, w = w - lr g / (sqrt s + eps); own = (eps,) */
UPDATE(adagrad, HYPER(epsilon, step.own[0]),
       const vec sum = take(slot + i, n) + gradient * gradient;
       put(slot + i, sum, n);
       weight = weight - rate * gradient / (root(sum) + epsilon))

/* v = rho v + (1-rho) g^2, d = sqrt((u + eps) / (v + eps)) g,
   u = rho u + (1-rho) d^2, w = w - lr d; own = (eps, rho) */
UPDATE(adadelta,
       HYPER(epsilon, step.own[0]); HYPER(rho, step.own[1]); HYPER(rest, 1.0 - step.own[1]);
       real *second = slot + ctx->n_params,
       const vec v = rho * take(slot + i, n) + rest * (gradient * gradient);
       const vec u = take(second + i, n);
       const vec d = root((u + epsilon) / (v + epsilon)) * gradient;
       put(slot + i, v, n);
       put(second + i, rho * u + rest * (d * d), n);
       weight = weight - rate * d)

/* RMSprop: own = (rho, inside, outside, mu), of which inside or outside is 0 */
#define SQUARE_VALUES                                                                             \
    HYPER(rho, step.own[0]);                                                                      \
    HYPER(rest, 1.0 - step.own[0]);                                                               \
    HYPER(inside, step.own[1]);                                                                   \
    HYPER(outside, step.own[2])

/* v = rho v + (1-rho) g^2 */
#define SQUARES                                                                                   \
    const vec v = rho * take(slot + i, n) + rest * (gradient * gradient);                         \
    put(slot + i, v, n)

/* a = rho a + (1-rho) g, spread = v - a^2, which rounding must not make negative */
#define SPREAD                                                                                    \
    const vec a = rho * take(mean + i, n) + rest * gradient;                                      \
    put(mean + i, a, n);                                                                          \
    const vec spread = larger(v - a * a, zero)

/* w = w - lr g / (sqrt(v + inside) + outside) */
UPDATE(rmsprop, SQUARE_VALUES,
       SQUARES;
       weight = weight - rate * gradient / (root(v + inside) + outside))

/* b = mu b - lr g / (sqrt(v + inside) + outside), w = w + b */
UPDATE(rmsprop_momentum,
       SQUARE_VALUES; HYPER(mu, step.own[3]);
       real *velocity = slot + ctx->n_params,
       SQUARES;
       const vec b = mu * take(velocity + i, n) - rate * gradient / (root(v + inside) + outside);
       put(velocity + i, b, n);
       weight = weight + b)

/* w = w - lr g / (sqrt(spread + inside) + outside) */
UPDATE(rmsprop_centered,
       SQUARE_VALUES; HYPER(zero, 0.0);
       real *mean = slot + ctx->n_params,
       SQUARES; SPREAD;
       weight = weight - rate * gradient / (root(spread + inside) + outside))

/* b = mu b - lr g / (sqrt(spread + inside) + outside), w = w + b */
UPDATE(rmsprop_centered_momentum,
       SQUARE_VALUES; HYPER(zero, 0.0); HYPER(mu, step.own[3]);
       real *mean = slot + ctx->n_params; real *velocity = mean + ctx->n_params,
       SQUARES; SPREAD;
       const vec b = mu * take(velocity + i, n) -
                     rate * gradient / (root(spread + inside) + outside);
       put(velocity + i, b, n);
       weight = weight + b)

/* The sums of squares of the blocks of the gradient, each from the groups in turn; split by
   blocks. */
static int64_t square_sums(struct context *ctx, int64_t part, int64_t parts)
{
    const real *g = (const real *)ctx->grad;
    double *norms = ctx->batch + ctx->norms;
    const struct range mine = share_of((ctx->n_params + NORM_BLOCK - 1) / NORM_BLOCK, 1, part, parts);
    for (int64_t block = mine.begin; block < mine.end; block++) {
        const int64_t begin = block * NORM_BLOCK;
        const struct range all = {begin, smaller_of(begin + NORM_BLOCK, ctx->n_params)};
        double total = 0.0;
        for (int64_t group = 0; group < ctx->n_groups + ctx->n_matrices; group++) {
            const struct range some = within(all, ctx->groups + group);
            total += dot_of(g + some.begin, g + some.begin, some.end - some.begin);
        }
        norms[block] = total;
    }
    return STATUS_OK;
}

/* g = g clip / |g| if the norm |g| is above clip; split by elements. */
static int64_t clip_norm(struct context *ctx, int64_t part, int64_t parts)
{
    const double most = ctx->hyper[HYPER_clip];
    const double norm = sqrt(sum_in_blocks(0.0, ctx->batch + ctx->norms,
                                           (ctx->n_params + NORM_BLOCK - 1) / NORM_BLOCK));
    if (norm <= most) return STATUS_OK;
    HYPER(factor, most / norm);
    const struct range mine = share_of(ctx->n_params, 16, part, parts);
    real *g = (real *)ctx->grad + mine.begin;
    FOR_VECTORS(i, n, mine.end - mine.begin, put(g + i, factor * take(g + i, n), n););
    return STATUS_OK;
}

/* g = clip where g > clip, -clip where g < -clip; split by elements. */
static int64_t clip_value(struct context *ctx, int64_t part, int64_t parts)
{
    HYPER(most, ctx->hyper[HYPER_clip]);
    const struct range mine = share_of(ctx->n_params, 16, part, parts);
    real *g = (real *)ctx->grad + mine.begin;
    FOR_VECTORS(i, n, mine.end - mine.begin, const vec v = take(g + i, n);
                const vec below = choose(less(most, v), most, v);
                put(g + i, choose(less(below, -most), -most, below), n););
    return STATUS_OK;
}

/* a = a + share (w - a) for the parameters and, behind them, the statistics; split by elements. */
static int64_t average(struct context *ctx, int64_t part, int64_t parts)
{
    if (ctx->hyper[HYPER_average] == 0.0) return STATUS_OK;
    HYPER(rate, ctx->hyper[HYPER_average]);
    const int64_t n_params = ctx->n_params;
    const struct range mine = share_of(n_params + ctx->n_state, 16, part, parts);
    const struct range params = {smaller_of(mine.begin, n_params), smaller_of(mine.end, n_params)};
    const struct range state = {larger_of(mine.begin, n_params), larger_of(mine.end, n_params)};
    real *a = (real *)ctx->average + params.begin;
    const real *w = (const real *)ctx->params + params.begin;
    FOR_VECTORS(i, n, params.end - params.begin, const vec old = take(a + i, n);
                put(a + i, old + rate * (take(w + i, n) - old), n););
    a = (real *)ctx->average + state.begin;
    w = (const real *)ctx->state + (state.begin - n_params);
    FOR_VECTORS(i, n, state.end - state.begin, const vec old = take(a + i, n);
                put(a + i, old + rate * (take(w + i, n) - old), n););
    return STATUS_OK;
}

#define UPDATE_SYMBOLS                                                                            \
    SYMBOL(sgd)                                                                                   \
    SYMBOL(momentum)                                                                              \
    SYMBOL(nesterov)                                                                              \
    SYMBOL(adam)                                                                                  \
    SYMBOL(amsgrad)                                                                               \
    SYMBOL(nadam)                                                                                 \
    SYMBOL(radam)                                                                                 \
    SYMBOL(lion)                                                                                  \
    SYMBOL(adagrad)                                                                               \
    SYMBOL(adadelta)                                                                              \
    SYMBOL(rmsprop)                                                                               \
    SYMBOL(rmsprop_momentum)                                                                      \
    SYMBOL(rmsprop_centered)                                                                      \
    SYMBOL(rmsprop_centered_momentum)                                                             \
    SYMBOL(square_sums)                                                                           \
    SYMBOL(clip_norm)                                                                             \
    SYMBOL(clip_value)                                                                            \
    SYMBOL(average)
