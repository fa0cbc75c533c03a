/* Vectors of 16 bytes by the compiler's extension: NEON on arm64, SSE2 or anything else for the
   plain level. Only the fused multiply-add differs: the plain level calls libm's, which is exact
   but slow. */

#define VECTOR_BYTES 16

typedef float vec_s __attribute__((vector_size(16)));
typedef double vec_d __attribute__((vector_size(16)));
typedef int32_t mask_s __attribute__((vector_size(16)));
typedef int64_t mask_d __attribute__((vector_size(16)));

#ifdef LEVEL_NEON
enum { MR = 8, VECTOR_REGISTERS = 32 };

static inline vec_s fma_s(vec_s a, vec_s b, vec_s c)
{
    return (vec_s)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}

static inline vec_d fma_d(vec_d a, vec_d b, vec_d c)
{
    return (vec_d)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#else
enum { MR = 4, VECTOR_REGISTERS = 16 };

static inline vec_s fma_s(vec_s a, vec_s b, vec_s c)
{
    return (vec_s){fmaf(a[0], b[0], c[0]), fmaf(a[1], b[1], c[1]), fmaf(a[2], b[2], c[2]),
                   fmaf(a[3], b[3], c[3])};
}

static inline vec_d fma_d(vec_d a, vec_d b, vec_d c)
{
    return (vec_d){fma(a[0], b[0], c[0]), fma(a[1], b[1], c[1])};
}
#endif

static inline vec_s load_s(const float *p)
{
    vec_s v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline vec_d load_d(const double *p)
{
    vec_d v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store_s(float *p, vec_s v) { memcpy(p, &v, sizeof v); }
static inline void store_d(double *p, vec_d v) { memcpy(p, &v, sizeof v); }

static inline vec_s load_some_s(const float *p, int64_t n)
{
    return (vec_s){n > 0 ? p[0] : 0, n > 1 ? p[1] : 0, n > 2 ? p[2] : 0, n > 3 ? p[3] : 0};
}

static inline vec_d load_some_d(const double *p, int64_t n)
{
    return (vec_d){n > 0 ? p[0] : 0, n > 1 ? p[1] : 0};
}

static inline void store_some_s(float *p, vec_s v, int64_t n)
{
    if (n > 0) p[0] = v[0];
    if (n > 1) p[1] = v[1];
    if (n > 2) p[2] = v[2];
    if (n > 3) p[3] = v[3];
}

static inline void store_some_d(double *p, vec_d v, int64_t n)
{
    if (n > 0) p[0] = v[0];
    if (n > 1) p[1] = v[1];
}

static inline vec_d widen_s(const float *p) { return (vec_d){p[0], p[1]}; }

static inline vec_d widen_some_s(const float *p, int64_t n)
{
    return (vec_d){n > 0 ? p[0] : 0, n > 1 ? p[1] : 0};
}

static inline vec_s set_s(float x) { return (vec_s){x, x, x, x}; }
static inline vec_d set_d(double x) { return (vec_d){x, x}; }

static inline vec_s sqrt_s(vec_s a)
{
    return (vec_s){sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])};
}

static inline vec_d sqrt_d(vec_d a) { return (vec_d){sqrt(a[0]), sqrt(a[1])}; }
static inline vec_s abs_s(vec_s a) { return (vec_s)((mask_s)a & INT32_MAX); }
static inline vec_d abs_d(vec_d a) { return (vec_d)((mask_d)a & INT64_MAX); }
static inline mask_s less_s(vec_s a, vec_s b) { return (mask_s)(a < b); }
static inline mask_d less_d(vec_d a, vec_d b) { return (mask_d)(a < b); }
static inline mask_s at_most_s(vec_s a, vec_s b) { return (mask_s)(a <= b); }
static inline mask_d at_most_d(vec_d a, vec_d b) { return (mask_d)(a <= b); }

static inline uint64_t true_lanes_d(mask_d m) { return (uint64_t)((m[0] & 1) | (m[1] & 2)); }

static inline uint64_t true_lanes_s(mask_s m)
{
    return (uint64_t)((m[0] & 1) | (m[1] & 2) | (m[2] & 4) | (m[3] & 8));
}

static inline vec_s select_s(mask_s m, vec_s a, vec_s b)
{
    return (vec_s)(((mask_s)a & m) | ((mask_s)b & ~m));
}

static inline vec_d select_d(mask_d m, vec_d a, vec_d b)
{
    return (vec_d)(((mask_d)a & m) | ((mask_d)b & ~m));
}

static inline vec_s larger_s(vec_s a, vec_s b) { return select_s(less_s(b, a), a, b); }
static inline vec_d larger_d(vec_d a, vec_d b) { return select_d(less_d(b, a), a, b); }
static inline vec_s smaller_s(vec_s a, vec_s b) { return select_s(less_s(a, b), a, b); }
static inline vec_d smaller_d(vec_d a, vec_d b) { return select_d(less_d(a, b), a, b); }

/* The first n lanes from memory, the rest from `other`. */
static inline vec_s load_or_s(const float *p, int64_t n, vec_s other)
{
    return (vec_s){n > 0 ? p[0] : other[0], n > 1 ? p[1] : other[1], n > 2 ? p[2] : other[2],
                   n > 3 ? p[3] : other[3]};
}

static inline vec_d load_or_d(const double *p, int64_t n, vec_d other)
{
    return (vec_d){n > 0 ? p[0] : other[0], n > 1 ? p[1] : other[1]};
}
