/* Elementwise epilogues: each activation and its derivative, called per tile by address.

   apply_<name> finds the weighted sums in a and replaces them by act(z); slope_of_<name> turns da
   into dz = da act'(z). The formulas are those of reference.py. The identity has neither. */

#define SELU_SCALE 1.0507009873554804934193349852946
#define SELU_ALPHA 1.6732632423543772848170429916717

#define EPILOGUE(function, statement)                                                             \
    static int64_t function(const real *z, real *a, real *da, int64_t count,                      \
                            const struct row *row)                                                \
    {                                                                                             \
        const vec zero = set(0), one = set(1), argument = set((real)row->arg0);                   \
        (void)z, (void)da, (void)zero, (void)one, (void)argument;                                 \
        FOR_VECTORS(i, n, count, statement);                                                      \
        return STATUS_OK;                                                                         \
    }

/* x is the weighted sum. */
#define ACTIVATION(name, formula)                                                                 \
    EPILOGUE(apply_##name, const vec x = take(a + i, n); put(a + i, formula, n);)

/* y is the activation's value, x the weighted sum where NEEDS_Z in tables.py says it is kept; a
   load that the formula does not use is left out by the compiler. */
#define SLOPE(name, formula)                                                                      \
    EPILOGUE(slope_of_##name,                                                                     \
             const vec x = take(z + i, n); const vec y = take(a + i, n);                          \
             const vec d = take(da + i, n); (void)x; (void)y; (void)d;                            \
             put(da + i, formula, n);)

ACTIVATION(step, choose(less(zero, x), one, zero))
SLOPE(step, zero)

ACTIVATION(sigmoid, OF_REAL(sigmoid_of)(x))
SLOPE(sigmoid, d * (y * (one - y)))

ACTIVATION(tanh, OF_REAL(tanh_of)(x))
SLOPE(tanh, d * (one - y * y))

/* NaN stays NaN. */
ACTIVATION(relu, choose(at_most(x, zero), zero, x))
SLOPE(relu, choose(less(zero, y), d, zero))

ACTIVATION(leaky_relu, choose(less(zero, x), x, argument * x))
SLOPE(leaky_relu, choose(less(zero, y), d, argument * d))

ACTIVATION(elu, choose(less(zero, x), x, argument * OF_REAL(expm1_of)(x)))
SLOPE(elu, d * choose(less(zero, y), one, y + argument))

ACTIVATION(selu, set((real)SELU_SCALE)
                     * choose(less(zero, x), x, set((real)SELU_ALPHA) * OF_REAL(expm1_of)(x)))
SLOPE(selu, d * choose(less(zero, y), set((real)SELU_SCALE),
                       y + set((real)(SELU_SCALE * SELU_ALPHA))))

ACTIVATION(gelu, x * OF_REAL(normal_cdf)(x))
SLOPE(gelu, d * (OF_REAL(normal_cdf)(x) + x * OF_REAL(normal_density)(x)))

ACTIVATION(silu, x * OF_REAL(sigmoid_of)(x))

INLINE vec silu_slope_at(vec x)
{
    const vec one = set(1), s = OF_REAL(sigmoid_of)(x);
    return s * (one + x * (one - s));
}

SLOPE(silu, d * silu_slope_at(x))

ACTIVATION(softplus, choose(less(x, zero), zero, x)
                         + OF_REAL(log1p_of)(OF_REAL(exp_of)(-magnitude(x))))
SLOPE(softplus, d * OF_REAL(sigmoid_of)(x))

ACTIVATION(mish, x * OF_REAL(tanh_of_softplus)(x))

INLINE vec mish_slope_at(vec x)
{
    const vec one = set(1), t = OF_REAL(tanh_of_softplus)(x);
    return t + x * (one - t * t) * OF_REAL(sigmoid_of)(x);
}

SLOPE(mish, d * mish_slope_at(x))
