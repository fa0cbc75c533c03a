/* Activations: the epilogues, called per block by address, and the operation of its own.

   apply_<name> finds the sums z in a and replaces them by act(z); <name>_derivative turns da into
   dz = da act'(z). The identity has neither. */

#define SELU_SCALE 1.0507009873554804934193349852946
#define SELU_ALPHA 1.6732632423543772848170429916717

#define EPILOGUE(function, statement)                                                             \
    static int64_t function(const real *z, real *a, real *da, int64_t count, const struct op *op) \
    {                                                                                             \
        const vec zero = set(0), one = set(1), argument = set((real)op->arg0);                    \
        (void)z, (void)da, (void)zero, (void)one, (void)argument;                                 \
        FOR_VECTORS(i, n, count, statement);                                                      \
        return STATUS_OK;                                                                         \
    }

/* x is the sum z. */
#define ACTIVATION(name, formula)                                                                 \
    EPILOGUE(apply_##name, const vec x = take(a + i, n); put(a + i, formula, n);)

/* y is the activation's value, d its gradient, and x the sum z, of those activations whose
   derivative needs it. The compiler drops the loads that a formula does not use. */
#define DERIVATIVE(name, formula)                                                                 \
    EPILOGUE(name##_derivative, const vec x = take(z + i, n); const vec y = take(a + i, n);       \
             const vec d = take(da + i, n); (void)x; (void)y; (void)d;                            \
             put(da + i, formula, n);)

ACTIVATION(step, choose(less(zero, x), one, zero))
DERIVATIVE(step, zero)

ACTIVATION(sigmoid, OF_REAL(sigmoid_of)(x))
DERIVATIVE(sigmoid, d * (y * (one - y)))

ACTIVATION(tanh, OF_REAL(tanh_of)(x))
DERIVATIVE(tanh, d * (one - y * y))

/* NaN stays NaN. */
ACTIVATION(relu, choose(at_most(x, zero), zero, x))
DERIVATIVE(relu, choose(less(zero, y), d, zero))

ACTIVATION(leaky_relu, choose(less(zero, x), x, argument * x))
DERIVATIVE(leaky_relu, choose(less(zero, y), d, argument * d))

ACTIVATION(elu, choose(less(zero, x), x, argument * OF_REAL(expm1_of)(x)))
DERIVATIVE(elu, d * choose(less(zero, y), one, y + argument))

ACTIVATION(selu, set((real)SELU_SCALE)
                     * choose(less(zero, x), x, set((real)SELU_ALPHA) * OF_REAL(expm1_of)(x)))
DERIVATIVE(selu, d * choose(less(zero, y), set((real)SELU_SCALE),
                            y + set((real)(SELU_SCALE * SELU_ALPHA))))

ACTIVATION(gelu, x * OF_REAL(normal_cdf)(x))
DERIVATIVE(gelu, d * (OF_REAL(normal_cdf)(x) + x * OF_REAL(normal_density)(x)))

ACTIVATION(silu, x * OF_REAL(sigmoid_of)(x))

INLINE vec silu_derivative_at(vec x)
{
    const vec one = set(1), s = OF_REAL(sigmoid_of)(x);
    return s * (one + x * (one - s));
}

DERIVATIVE(silu, d * silu_derivative_at(x))

ACTIVATION(softplus, choose(less(x, zero), zero, x)
                         + OF_REAL(log1p_of)(OF_REAL(exp_of)(-magnitude(x))))
DERIVATIVE(softplus, d * OF_REAL(sigmoid_of)(x))

ACTIVATION(mish, x * OF_REAL(tanh_of_softplus)(x))

INLINE vec mish_derivative_at(vec x)
{
    const vec one = set(1), t = OF_REAL(tanh_of_softplus)(x);
    return t + x * (one - t * t) * OF_REAL(sigmoid_of)(x);
}

DERIVATIVE(mish, d * mish_derivative_at(x))

/* a = act(x) by the epilogue; x and a are (m, n_out); split by rows of the batch. */
static int64_t activation_forward(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_out;
    const struct range mine = rows_of_part(ctx, part, parts);
    const int64_t rows = mine.end - mine.begin;
    const real *x = buffer(ctx, op->x) + mine.begin * n;
    real *a = buffer(ctx, op->a) + mine.begin * n;
    copy_to(a, x, rows * n);
    epilogue(ctx, x, a, a, rows, n, n, op);
    return STATUS_OK;
}

/* dx = dz or dx + dz, then times the derivative below by the epilogue; split by rows. */
static int64_t activation_inputs(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    pass_gradient(ctx, op->dx, op->adds, op->below, rows_of_part(ctx, part, parts));
    return STATUS_OK;
}

#define EPILOGUE_SYMBOLS(name)                                                                    \
    SYMBOL_OF(#name, apply_##name)                                                                \
    SYMBOL(name##_derivative)

#define ACTIVATION_SYMBOLS                                                                        \
    SYMBOL(activation_forward)                                                                    \
    SYMBOL(activation_inputs)                                                                     \
    EPILOGUE_SYMBOLS(step)                                                                        \
    EPILOGUE_SYMBOLS(sigmoid)                                                                     \
    EPILOGUE_SYMBOLS(tanh)                                                                        \
    EPILOGUE_SYMBOLS(relu)                                                                        \
    EPILOGUE_SYMBOLS(leaky_relu)                                                                  \
    EPILOGUE_SYMBOLS(elu)                                                                         \
    EPILOGUE_SYMBOLS(selu)                                                                        \
    EPILOGUE_SYMBOLS(gelu)                                                                        \
    EPILOGUE_SYMBOLS(silu)                                                                        \
    EPILOGUE_SYMBOLS(softplus)                                                                    \
    EPILOGUE_SYMBOLS(mish)
