/* Vectors of AVX-512: 16 singles or 8 doubles, with mask registers. */

#define VECTOR_BYTES 64
enum { MR = 8, VECTOR_REGISTERS = 32 };

typedef __m512 vec_s;
typedef __m512d vec_d;
typedef __mmask16 mask_s;
typedef __mmask8 mask_d;

static inline mask_s first_lanes_s(int64_t n) { return (mask_s)((1u << n) - 1); }
static inline mask_d first_lanes_d(int64_t n) { return (mask_d)((1u << n) - 1); }

static inline vec_s load_s(const float *p) { return _mm512_loadu_ps(p); }
static inline vec_d load_d(const double *p) { return _mm512_loadu_pd(p); }
static inline void store_s(float *p, vec_s v) { _mm512_storeu_ps(p, v); }
static inline void store_d(double *p, vec_d v) { _mm512_storeu_pd(p, v); }

static inline vec_s load_some_s(const float *p, int64_t n)
{
    return _mm512_maskz_loadu_ps(first_lanes_s(n), p);
}

static inline vec_d load_some_d(const double *p, int64_t n)
{
    return _mm512_maskz_loadu_pd(first_lanes_d(n), p);
}

static inline void store_some_s(float *p, vec_s v, int64_t n)
{
    _mm512_mask_storeu_ps(p, first_lanes_s(n), v);
}

static inline void store_some_d(double *p, vec_d v, int64_t n)
{
    _mm512_mask_storeu_pd(p, first_lanes_d(n), v);
}

static inline vec_d widen_s(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }

static inline vec_d widen_some_s(const float *p, int64_t n)
{
    return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(first_lanes_d(n), p));
}

static inline vec_s set_s(float x) { return _mm512_set1_ps(x); }
static inline vec_d set_d(double x) { return _mm512_set1_pd(x); }
static inline vec_s fma_s(vec_s a, vec_s b, vec_s c) { return _mm512_fmadd_ps(a, b, c); }
static inline vec_d fma_d(vec_d a, vec_d b, vec_d c) { return _mm512_fmadd_pd(a, b, c); }
static inline vec_s sqrt_s(vec_s a) { return _mm512_sqrt_ps(a); }
static inline vec_d sqrt_d(vec_d a) { return _mm512_sqrt_pd(a); }
static inline vec_s abs_s(vec_s a) { return _mm512_abs_ps(a); }
static inline vec_d abs_d(vec_d a) { return _mm512_abs_pd(a); }
static inline vec_s larger_s(vec_s a, vec_s b) { return _mm512_max_ps(a, b); }
static inline vec_d larger_d(vec_d a, vec_d b) { return _mm512_max_pd(a, b); }
static inline vec_s smaller_s(vec_s a, vec_s b) { return _mm512_min_ps(a, b); }
static inline vec_d smaller_d(vec_d a, vec_d b) { return _mm512_min_pd(a, b); }
static inline mask_s less_s(vec_s a, vec_s b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline mask_d less_d(vec_d a, vec_d b) { return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ); }
static inline mask_s at_most_s(vec_s a, vec_s b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
static inline mask_d at_most_d(vec_d a, vec_d b) { return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ); }
static inline uint64_t true_lanes_s(mask_s m) { return m; }
static inline uint64_t true_lanes_d(mask_d m) { return m; }
static inline vec_s select_s(mask_s m, vec_s a, vec_s b) { return _mm512_mask_blend_ps(m, b, a); }
static inline vec_d select_d(mask_d m, vec_d a, vec_d b) { return _mm512_mask_blend_pd(m, b, a); }

/* The first n lanes from memory, the rest from `other`. */
static inline vec_s load_or_s(const float *p, int64_t n, vec_s other)
{
    return _mm512_mask_loadu_ps(other, first_lanes_s(n), p);
}

static inline vec_d load_or_d(const double *p, int64_t n, vec_d other)
{
    return _mm512_mask_loadu_pd(other, first_lanes_d(n), p);
}

/* Vectors of half the size: half_vec, half_load and so on. */
#define HALF_VECTORS
typedef __m256 half_vec_s;
typedef __m256d half_vec_d;

static inline __mmask8 half_lanes(int64_t n) { return (__mmask8)((1u << n) - 1); }

static inline half_vec_s half_load_s(const float *p) { return _mm256_loadu_ps(p); }
static inline half_vec_d half_load_d(const double *p) { return _mm256_loadu_pd(p); }
static inline void half_store_s(float *p, half_vec_s v) { _mm256_storeu_ps(p, v); }
static inline void half_store_d(double *p, half_vec_d v) { _mm256_storeu_pd(p, v); }

static inline half_vec_s half_load_some_s(const float *p, int64_t n)
{
    return _mm256_maskz_loadu_ps(half_lanes(n), p);
}

static inline half_vec_d half_load_some_d(const double *p, int64_t n)
{
    return _mm256_maskz_loadu_pd(half_lanes(n), p);
}

static inline void half_store_some_s(float *p, half_vec_s v, int64_t n)
{
    _mm256_mask_storeu_ps(p, half_lanes(n), v);
}

static inline void half_store_some_d(double *p, half_vec_d v, int64_t n)
{
    _mm256_mask_storeu_pd(p, half_lanes(n), v);
}

static inline half_vec_s half_set_s(float x) { return _mm256_set1_ps(x); }
static inline half_vec_d half_set_d(double x) { return _mm256_set1_pd(x); }

static inline half_vec_s half_fma_s(half_vec_s a, half_vec_s b, half_vec_s c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline half_vec_d half_fma_d(half_vec_d a, half_vec_d b, half_vec_d c)
{
    return _mm256_fmadd_pd(a, b, c);
}
