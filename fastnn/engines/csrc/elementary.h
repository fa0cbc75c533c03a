/* exp, tanh, log and the normal distribution by arithmetic alone: the same bits on every machine.

   Included once for singles and once for doubles: T(name) is the name with the type's ending,
   PICK(single, double) a constant of the type. Every multiply-add is explicit, so an element has
   the same bits alone and in a vector.

   Method: x = n ln 2 + r with |r| <= ln(2)/2; e^r - 1 by its Taylor series; then 2^n in two
   factors, so that results below the normal range round once (W. J. Cody and W. Waite, Software
   Manual for the Elementary Functions, 1980, ch. 6). */

#define V T(vec)
#define CONSTANT(single, double_) T(set)(PICK(single, double_))

/* A polynomial by Horner's rule with fused multiply-adds, highest power first. */
INLINE V T(polynomial)(const T(number) *c, const int n, V x)
{
    V value = T(set)(c[0]);
#pragma GCC unroll 32
    for (int k = 1; k < n; k++) value = T(fma)(value, x, T(set)(c[k]));
    return value;
}

#define POLYNOMIAL(c, x) T(polynomial)(c, sizeof(c) / sizeof(c)[0], x)

/* y 2^n for an integer n, in two factors, so that subnormal results round only once.

   n has 1.5 * 2^(bits of the mantissa) added to it: its last bits are then the integer. */
INLINE V T(times_power_of_two)(V y, V n)
{
    enum { BIAS = PICK(127, 1023), SHIFT = PICK(23, 52) };
    const V rounder = CONSTANT(0x1.8p23f, 0x1.8p52);
    const T(bits) exponent = (T(bits))n - (T(bits))rounder;
    /* Rounds to minus infinity without an arithmetic shift, which AVX2 lacks. */
    const T(bits) half = ((exponent + 4096) >> 1) - 2048;
    const V first = y * (V)((half + BIAS) << SHIFT);
    return first * (V)((exponent - half + BIAS) << SHIFT);
}

/* (n + rounder, r, what r lost to rounding) for x = n ln 2 + r. */
INLINE void T(reduce)(V x, V *shifted, V *r, V *lost)
{
    /* Adding and subtracting 1.5 * 2^(bits of the mantissa) rounds to an integer. */
    const V rounder = CONSTANT(0x1.8p23f, 0x1.8p52);
    /* ln 2 in two parts; the first is short enough for an exact product with n. */
    const V ln2_high = CONSTANT(0.693359375, 0x1.62e42feep-1);
    const V ln2_low = CONSTANT(-2.12194440054690583e-4, 0x1.a39ef35793c76p-33);
    *shifted = T(fma)(x, CONSTANT(1.4426950408889634, 1.4426950408889634), rounder);
    const V n = *shifted - rounder;
    const V high = T(fma)(-n, ln2_high, x);
    *r = T(fma)(-n, ln2_low, high);
    *lost = T(fma)(-n, ln2_low, high - *r);
}

/* Clamp x to where e^x is neither 0 nor infinite, and n fits the two factors of 2^n. */
INLINE V T(within_range)(V x)
{
    x = T(larger)(CONSTANT(-104.0, -746.0), x);
    return T(smaller)(CONSTANT(89.0, 710.0), x);
}

/* (e^r - 1 - r) / r^2 by its Taylor series: the coefficients are 1/k!, down to k = 2. */
INLINE V T(exp_tail)(V r)
{
    static const T(number) c[] = {
#ifdef SINGLE
        0.0001984126984126984, 0.001388888888888889, 0.008333333333333333,
        0.041666666666666664, 0.16666666666666666, 0.5,
#else
        1.6059043836821613e-10, 2.08767569878681e-09, 2.505210838544172e-08,
        2.755731922398589e-07, 2.7557319223985893e-06, 2.48015873015873e-05,
        0.0001984126984126984, 0.001388888888888889, 0.008333333333333333,
        0.041666666666666664, 0.16666666666666666, 0.5,
#endif
    };
    return POLYNOMIAL(c, r);
}

/* e^x; NaN stays NaN. */
INLINE V T(exp_of)(V x)
{
    V shifted, r, lost;
    T(reduce)(T(within_range)(x), &shifted, &r, &lost);
    const V q = T(fma)(r * r, T(exp_tail)(r), r);
    return T(times_power_of_two)(q + T(set)(1), shifted);
}

/* 1 / (1 + e^-x), from e^-|x|, which cannot overflow. */
INLINE V T(sigmoid_of)(V x)
{
    const V one = T(set)(1), e = T(exp_of)(-T(abs)(x));
    return T(select)(T(less)(x, T(set)(0)), e, one) / (one + e);
}

/* e^x - 1 for x within_range. */
INLINE V T(expm1_within)(V x)
{
    V shifted, r, lost;
    T(reduce)(x, &shifted, &r, &lost);
    const V q = r + T(fma)(r * r, T(exp_tail)(r), lost);
    const V scale = T(times_power_of_two)(T(set)(1), shifted);
    return T(fma)(scale, q, scale - T(set)(1));
}

/* e^x - 1, accurate near 0; -1 far below, infinite above the range. */
INLINE V T(expm1_of)(V x) { return T(expm1_within)(T(within_range)(x)); }

/* (e^2|x| - 1) / (e^2|x| + 1) with the sign of x, from e = e^2|x| - 1, accurate near 0.

   Below 1/2 the rounding errors of e + 2 and of the quotient are corrected, with 1 / (e + 2) =
   (1 - t) / 2; above, 1 - 2 / (e + 2) loses little. */
INLINE V T(tanh_of)(V x)
{
    const V one = T(set)(1), two = T(set)(2), half = T(set)(0.5);
    /* Beyond this tanh rounds to 1. */
    const V y = T(smaller)(CONSTANT(10.0, 20.0), T(abs)(x));
    const V e = T(expm1_within)(y + y);
    const V divisor = e + two;
    const T(mask) above = T(less)(two, e);
    const V part = T(select)(above, -two, e) / divisor;
    const V rest = T(fma)(-part, e - (divisor - two), T(fma)(-part, divisor, e));
    const V below = T(fma)(rest, T(fma)(-half, part, half), part);
    const V t = T(select)(above, one + part, below);
    return T(select)(T(less)(x, T(set)(0)), -t, t);
}

/* tanh(log(1 + e^x)) = ((1 + e^x)^2 - 1) / ((1 + e^x)^2 + 1), from e^-|x|. */
INLINE V T(tanh_of_softplus)(V x)
{
    const V one = T(set)(1), two = T(set)(2), e = T(exp_of)(-T(abs)(x));
    const T(mask) positive = T(at_most)(T(set)(0), x);
    const V part = T(select)(positive, one + two * e, e * (e + two));
    const V rest = T(select)(positive, two * e * e, two);
    return part / (part + rest);
}

/* e^(-x^2/2), corrected for the rounding error of the square. */
INLINE V T(exp_of_half_square)(V x)
{
    const V limit = T(set)(40), half = T(set)(0.5);
    x = T(select)(T(less)(limit, T(abs)(x)), limit, x);
    const V high = x * x;
    const V low = T(fma)(x, x, -high);
    const V e = T(exp_of)(-half * high);
    return T(fma)(-half * low, e, e);
}

/* The normal distribution function, erfc(-x / sqrt 2) / 2, accurate in both tails.

   Near 0 it is 1/2 and the integral of the density's Taylor series; elsewhere (1 + 2u) e^(u^2)
   erfc(u) is a polynomial in (u - 3.75) / (u + 3.75), fitted at the Chebyshev nodes in 160 bits
   (M. M. Shepherd and J. G. Laframboise, Math. Comp. 36, 1981). */
INLINE V T(normal_cdf)(V x)
{
    static const T(number) erfc_scaled[] = {
#ifdef SINGLE
        -2.2874723359084774e-04, 3.967046382800549e-04, 1.6886622311156746e-03,
        -9.845491094959295e-03, 2.839648212065827e-02, -5.86459828677125e-02,
        9.2296367961203e-02, -1.0881458496174144e-01, 8.227741756036867e-02,
        3.586310101688852e-03, -1.4024060801000693e-01, 1.2375126184625718,
#else
        4.434959070009628e-10, 3.110310719839165e-10, -5.28428697963142e-09,
        -3.743568033634583e-09, 3.8965452548985966e-08, 2.3261913276696566e-08,
        -2.591069687796658e-07, -5.721597255990987e-08, 1.752057970166318e-06,
        -9.735619015182663e-07, -1.1444412439171722e-05, 2.2384240314224437e-05,
        5.1649211390702855e-05, -2.901540809795271e-04, 2.937136342850081e-04,
        1.7556258530017257e-03, -9.746579552504244e-03, 2.8362277418940665e-02,
        -5.8693398590212366e-02, 9.230432116037876e-02, -1.0880393014171785e-01,
        8.227673849014516e-02, 3.585415485463775e-03, -1.4024059858554697e-01,
        1.2375126308378275,
#endif
    };
    /* (normal_cdf(x) - 1/2) / x for |x| up to 0.67, by powers of x^2. */
    static const T(number) near_zero[] = {
#ifdef SINGLE
        -4.122667414862689e-08, 6.659693516316652e-07, -9.444656259503616e-06,
        0.0001154346876161553, -0.0011873282154804545, 0.009973557010035819,
        -0.06649038006690546, 0.3989422804014327,
#else
        8.133418984498677e-15, -2.1217614742170462e-13, 5.112434790256311e-12,
        -1.1301171641619214e-10, 2.273529824372807e-09, -4.122667414862689e-08,
        6.659693516316652e-07, -9.444656259503616e-06, 0.0001154346876161553,
        -0.0011873282154804545, 0.009973557010035819, -0.06649038006690546,
        0.3989422804014327,
#endif
    };
    const V one = T(set)(1), two = T(set)(2), half = T(set)(0.5), limit = T(set)(40);
    const V knee = T(set)(3.75), size = T(abs)(x);
    const V u = T(select)(T(less)(limit, size), limit, size)
                * CONSTANT(0.7071067811865476, 0.7071067811865476);
    const V t = (u - knee) / (u + knee);
    const V scaled = POLYNOMIAL(erfc_scaled, t) / (one + two * u);
    const V tail = half * scaled * T(exp_of_half_square)(x);
    const V far = T(select)(T(less)(x, T(set)(0)), tail, one - tail);
    const V near = T(fma)(x, POLYNOMIAL(near_zero, x * x), half);
    return T(select)(T(less)(size, CONSTANT(0.67, 0.67)), near, far);
}

/* e^(-x^2/2) / sqrt(2 pi) */
INLINE V T(normal_density)(V x)
{
    return CONSTANT(0.3989422804014327, 0.3989422804014327) * T(exp_of_half_square)(x);
}

/* log(1 + x) for x in [0, 1], as 2 artanh(x / (2 + x)): accurate for small x. */
INLINE V T(log1p_of)(V x)
{
    /* 2/(2k+1), down to k = 1. */
    static const T(number) c[] = {
#ifdef SINGLE
        0.13333333333333333, 0.15384615384615385, 0.18181818181818182, 0.2222222222222222,
        0.2857142857142857, 0.4, 0.6666666666666666,
#else
        0.06060606060606061, 0.06451612903225806, 0.06896551724137931, 0.07407407407407407,
        0.08, 0.08695652173913043, 0.09523809523809523, 0.10526315789473684,
        0.11764705882352941, 0.13333333333333333, 0.15384615384615385, 0.18181818181818182,
        0.2222222222222222, 0.2857142857142857, 0.4, 0.6666666666666666,
#endif
    };
    const V s = x / (T(set)(2) + x);
    const V z = s * s;
    return T(fma)(s * z, POLYNOMIAL(c, z), s + s);
}

#undef V
#undef CONSTANT
#undef POLYNOMIAL
