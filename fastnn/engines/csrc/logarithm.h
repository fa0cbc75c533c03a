/* The natural logarithm of one double. */

/* log x for a positive, normal and finite x = 2^n f with f in [sqrt(1/2), sqrt(2)).

   log f = 2 artanh((f-1)/(f+1)) by its series: the coefficients are 2/(2k+1), down to k = 1. */
static inline double log_of(double x)
{
    static const double c[] = {
        0.09523809523809523, 0.10526315789473684, 0.11764705882352941, 0.13333333333333333,
        0.15384615384615385, 0.18181818181818182, 0.2222222222222222, 0.2857142857142857,
        0.4, 0.6666666666666666,
    };
    const double lowest = 0.7071067811865476; /* sqrt(1/2) */
    int64_t pattern, lowest_pattern;
    memcpy(&pattern, &x, sizeof x);
    memcpy(&lowest_pattern, &lowest, sizeof x);
    pattern -= lowest_pattern;
    const double n = (double)(pattern >> 52);
    const int64_t fraction = lowest_pattern + (pattern & ((INT64_C(1) << 52) - 1));
    double f;
    memcpy(&f, &fraction, sizeof f);
    const double s = (f - 1.0) / (f + 1.0);
    const double z = s * s;
    double tail = c[0];
    for (int k = 1; k < 10; k++) tail = fma(tail, z, c[k]);
    const double series = fma(s * z, tail, 2.0 * s);
    return fma(n, 0x1.62e42feep-1, fma(n, 0x1.a39ef35793c76p-33, series));
}
