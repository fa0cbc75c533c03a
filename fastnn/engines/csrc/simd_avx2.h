/* Vectors of AVX2 with FMA3: 8 singles or 4 doubles. */

#define VECTOR_BYTES 32
enum { MR = 4, VECTOR_REGISTERS = 16 };

typedef __m256 vec_s;
typedef __m256d vec_d;
typedef __m256 mask_s;
typedef __m256d mask_d;

/* A window into these is a mask of the first n lanes. */
static const int32_t lane_window_s[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
static const int64_t lane_window_d[8] = {-1, -1, -1, -1};

static inline __m256i first_lanes_s(int64_t n)
{
    return _mm256_loadu_si256((const __m256i *)(lane_window_s + 8 - n));
}

static inline __m256i first_lanes_d(int64_t n)
{
    return _mm256_loadu_si256((const __m256i *)(lane_window_d + 4 - n));
}

static inline vec_s load_s(const float *p) { return _mm256_loadu_ps(p); }
static inline vec_d load_d(const double *p) { return _mm256_loadu_pd(p); }
static inline void store_s(float *p, vec_s v) { _mm256_storeu_ps(p, v); }
static inline void store_d(double *p, vec_d v) { _mm256_storeu_pd(p, v); }

static inline vec_s load_some_s(const float *p, int64_t n)
{
    return _mm256_maskload_ps(p, first_lanes_s(n));
}

static inline vec_d load_some_d(const double *p, int64_t n)
{
    return _mm256_maskload_pd(p, first_lanes_d(n));
}

static inline void store_some_s(float *p, vec_s v, int64_t n)
{
    _mm256_maskstore_ps(p, first_lanes_s(n), v);
}

static inline void store_some_d(double *p, vec_d v, int64_t n)
{
    _mm256_maskstore_pd(p, first_lanes_d(n), v);
}

static inline vec_d widen_s(const float *p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }

static inline vec_d widen_some_s(const float *p, int64_t n)
{
    const __m128i lanes = _mm_loadu_si128((const __m128i *)(lane_window_s + 8 - n));
    return _mm256_cvtps_pd(_mm_maskload_ps(p, lanes));
}

static inline vec_s set_s(float x) { return _mm256_set1_ps(x); }
static inline vec_d set_d(double x) { return _mm256_set1_pd(x); }
static inline vec_s fma_s(vec_s a, vec_s b, vec_s c) { return _mm256_fmadd_ps(a, b, c); }
static inline vec_d fma_d(vec_d a, vec_d b, vec_d c) { return _mm256_fmadd_pd(a, b, c); }
static inline vec_s sqrt_s(vec_s a) { return _mm256_sqrt_ps(a); }
static inline vec_d sqrt_d(vec_d a) { return _mm256_sqrt_pd(a); }
static inline vec_s abs_s(vec_s a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static inline vec_d abs_d(vec_d a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a); }
static inline vec_s larger_s(vec_s a, vec_s b) { return _mm256_max_ps(a, b); }
static inline vec_d larger_d(vec_d a, vec_d b) { return _mm256_max_pd(a, b); }
static inline vec_s smaller_s(vec_s a, vec_s b) { return _mm256_min_ps(a, b); }
static inline vec_d smaller_d(vec_d a, vec_d b) { return _mm256_min_pd(a, b); }
static inline mask_s less_s(vec_s a, vec_s b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline mask_d less_d(vec_d a, vec_d b) { return _mm256_cmp_pd(a, b, _CMP_LT_OQ); }
static inline mask_s at_most_s(vec_s a, vec_s b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
static inline mask_d at_most_d(vec_d a, vec_d b) { return _mm256_cmp_pd(a, b, _CMP_LE_OQ); }
static inline uint64_t true_lanes_s(mask_s m) { return (uint64_t)_mm256_movemask_ps(m); }
static inline uint64_t true_lanes_d(mask_d m) { return (uint64_t)_mm256_movemask_pd(m); }
static inline vec_s select_s(mask_s m, vec_s a, vec_s b) { return _mm256_blendv_ps(b, a, m); }
static inline vec_d select_d(mask_d m, vec_d a, vec_d b) { return _mm256_blendv_pd(b, a, m); }

/* The first n lanes from memory, the rest from `other`. */
static inline vec_s load_or_s(const float *p, int64_t n, vec_s other)
{
    return _mm256_blendv_ps(other, load_some_s(p, n), (__m256)first_lanes_s(n));
}

static inline vec_d load_or_d(const double *p, int64_t n, vec_d other)
{
    return _mm256_blendv_pd(other, load_some_d(p, n), (__m256d)first_lanes_d(n));
}
