/* Kernels that move rows: a batch into the workspace, and results out of it. */

enum {
    CACHE_LINE = 64,
    PREFETCHED_BATCH = 1 << 17, /* bytes of a batch that stays in L2 until it is gathered */
    PREFETCHED_ROW = 256,       /* bytes of a row of X from which on its prefetch pays */
    PREFETCHED_STORED = 256,    /* stored elements of a sparse row that are prefetched */
    STORED_AHEAD = 8,           /* rows between the prefetch of a sparse row and its gather */
};

/* Prefetch into L2 the row of X, of `size` bytes, that row i of the next batch is.

   Rows in random order are cache misses, and the processor's own prefetcher needs some lines of a
   row before it sees a stream. For short rows this is no use: their misses fall together either
   way. */
INLINE void prefetch_next_row(const struct context *ctx, int64_t i, int64_t size)
{
    const int64_t next = ctx->start + ctx->m + i;
    if (!ctx->order || next >= ctx->n_rows) return;
    const int64_t sample = ctx->order[next];
    if (sample < 0 || sample >= ctx->n_samples) return;
    const char *row = (const char *)ctx->X + sample * size;
    for (int64_t at = 0; at < size; at += CACHE_LINE) __builtin_prefetch(row + at, 0, 2);
}

/* The value of a float16, from its bits: always exact.

   A float16 is sign, 5 bits of exponent with bias 15, 10 bits of mantissa; a float32 has 8 with
   bias 127, and 23. */
INLINE float single_of_half(uint16_t half)
{
    const uint32_t size = half & 0x7FFFu, exponent = size & 0x7C00u;
    const float tiny = (float)(int32_t)size * 0x1p-24f;
    uint32_t pattern = (size << 13) + ((127u - 15) << 23), tiny_pattern;
    float single;
    memcpy(&tiny_pattern, &tiny, sizeof tiny);
    pattern = exponent == 0x7C00u ? pattern + ((255u - 31 - (127 - 15)) << 23) : pattern;
    pattern = exponent == 0 ? tiny_pattern : pattern;
    pattern |= (half & 0x8000u) << 16;
    memcpy(&single, &pattern, sizeof single);
    return single;
}

#define ITSELF(x) (x)

/* y[j] = factor x[j] for j < n, by a loop that the compiler turns into vectors; rows of the
   network's own type are the most common and often short. */
#define CONVERT_EACH(convert)                                                                     \
    for (int64_t j = 0; j < n; j++) y[j] = factor * (real)convert(x[j])
#define CONVERT_VECTORS(convert)                                                                  \
    FOR_VECTORS(j, some, n, put(y + j, set(factor) * take(x + j, some), some);)
#ifdef REAL_IS_DOUBLE
#define CONVERT_float CONVERT_EACH
#define CONVERT_double CONVERT_VECTORS
#else
#define CONVERT_float CONVERT_VECTORS
#define CONVERT_double CONVERT_EACH
#endif

/* input[i] = scale X[order[start + i]] for the rows i of the batch; split by rows. */
#define GATHER(name, type, CONVERT, convert)                                                      \
    static int64_t gather_##name(struct context *ctx, int64_t part, int64_t parts)                \
    {                                                                                             \
        const int64_t n = ctx->n_inputs;                                                          \
        const struct range mine = rows_of_part(ctx, part, parts);                                 \
        const real factor = (real)ctx->input_scale;                                               \
        const int64_t size = n * (int64_t)sizeof(type);                                           \
        const bool prefetches =                                                                   \
            size >= PREFETCHED_ROW && ctx->batch_size * size <= PREFETCHED_BATCH;                 \
        for (int64_t i = mine.begin; i < mine.end; i++) {                                         \
            const int64_t sample = sample_of(ctx, i);                                             \
            if (sample < 0) return STATUS_BAD_INDEX;                                              \
            if (prefetches) prefetch_next_row(ctx, i, size);                                      \
            const type *restrict x = (const type *)ctx->X + sample * n;                           \
            real *restrict y = (real *)ctx->input + i * n;                                        \
            CONVERT(convert);                                                                     \
        }                                                                                         \
        return STATUS_OK;                                                                         \
    }

GATHER(float32, float, CONVERT_float, ITSELF)
GATHER(float64, double, CONVERT_double, ITSELF)
GATHER(float16, uint16_t, CONVERT_EACH, single_of_half)
GATHER(bool, uint8_t, CONVERT_EACH, ITSELF)
GATHER(uint8, uint8_t, CONVERT_EACH, ITSELF)
GATHER(int8, int8_t, CONVERT_EACH, ITSELF)
GATHER(uint16, uint16_t, CONVERT_EACH, ITSELF)
GATHER(int16, int16_t, CONVERT_EACH, ITSELF)
GATHER(uint32, uint32_t, CONVERT_EACH, ITSELF)
GATHER(int32, int32_t, CONVERT_EACH, ITSELF)
GATHER(uint64, uint64_t, CONVERT_EACH, ITSELF)
GATHER(int64, int64_t, CONVERT_EACH, ITSELF)

/* Prefetch into L2 the cache lines of `size` bytes. */
INLINE void prefetch_range(const void *begin, int64_t size)
{
    for (int64_t at = 0; at < size; at += CACHE_LINE)
        __builtin_prefetch((const char *)begin + at, 0, 2);
    __builtin_prefetch((const char *)begin + size - 1, 0, 2); /* it may begin within a line */
}

/* input[i] = scale X[order[start + i]] for the rows i of the batch of a sparse X: all of a row
   becomes scale 0, then its stored values are put in their columns; split by rows.

   + 0 makes a stored -0 what it is in a dense matrix, to whose zeros it is added. */
#define GATHER_SPARSE(name, type, index_type)                                                     \
    /* Prefetch what is stored of row i of the batch or, beyond its end, of the next one; rows in \
       random order are cache misses, of which each is two here, one after the other. */          \
    INLINE void prefetch_stored_##name(const struct context *ctx, int64_t i)                      \
    {                                                                                             \
        if (!ctx->order || ctx->start + i + STORED_AHEAD >= ctx->n_rows) return;                  \
        const index_type *indptr = (const index_type *)ctx->indptr;                               \
        const int64_t sample = sample_of(ctx, i), later = sample_of(ctx, i + STORED_AHEAD);       \
        if (sample < 0 || later < 0) return;                                                      \
        __builtin_prefetch(indptr + later, 0, 2);                                                 \
        const int64_t begin = indptr[sample];                                                     \
        const int64_t count = smaller_of(indptr[sample + 1] - begin, PREFETCHED_STORED);          \
        prefetch_range((const type *)ctx->X + begin, count * (int64_t)sizeof(type));              \
        prefetch_range((const index_type *)ctx->indices + begin,                                  \
                       count * (int64_t)sizeof(index_type));                                      \
    }                                                                                             \
                                                                                                  \
    static int64_t gather_sparse_##name(struct context *ctx, int64_t part, int64_t parts)         \
    {                                                                                             \
        const int64_t n = ctx->n_inputs;                                                          \
        const struct range mine = rows_of_part(ctx, part, parts);                                 \
        const real factor = (real)ctx->input_scale, zero = factor * 0;                            \
        const type *restrict values = (const type *)ctx->X;                                       \
        const index_type *restrict indices = (const index_type *)ctx->indices;                    \
        const index_type *restrict indptr = (const index_type *)ctx->indptr;                      \
        for (int64_t i = mine.begin; i < mine.end; i++) {                                         \
            const int64_t sample = sample_of(ctx, i);                                             \
            if (sample < 0) return STATUS_BAD_INDEX;                                              \
            const int64_t begin = indptr[sample], end = indptr[sample + 1];                       \
            if (begin < 0 || begin > end || end > ctx->n_stored) return STATUS_BAD_INDEX;         \
            prefetch_stored_##name(ctx, i + STORED_AHEAD);                                        \
            real *restrict y = (real *)ctx->input + i * n;                                        \
            FOR_VECTORS(j, some, n, put(y + j, set(zero), some););                                \
            for (int64_t k = begin; k < end; k++) {                                               \
                const int64_t column = indices[k];                                                \
                if (column < 0 || column >= n) return STATUS_BAD_INDEX;                           \
                y[column] = factor * (real)(values[k] + 0);                                       \
            }                                                                                     \
        }                                                                                         \
        return STATUS_OK;                                                                         \
    }

GATHER_SPARSE(float32_int32, float, int32_t)
GATHER_SPARSE(float32_int64, float, int64_t)
GATHER_SPARSE(float64_int32, double, int32_t)
GATHER_SPARSE(float64_int64, double, int64_t)

/* targets[i] = Y[order[start + i]], or the one-hot code of the label; split by rows.

   A single output takes the labels 0 and 1 as they are. */
static int64_t gather_targets(struct context *ctx, int64_t part, int64_t parts)
{
    const int64_t n = ctx->n_outputs, n_classes = larger_of(n, 2);
    real *targets = buffer(ctx, ctx->targets);
    const struct range mine = rows_of_part(ctx, part, parts);
    const int64_t rows = mine.end - mine.begin;
    if (ctx->labels) memset(targets + mine.begin * n, 0, (size_t)(rows * n) * sizeof(real));
    for (int64_t i = mine.begin; i < mine.end; i++) {
        const int64_t sample = sample_of(ctx, i);
        if (sample < 0) return STATUS_BAD_INDEX;
        if (!ctx->labels) {
            copy_to(targets + i * n, (const real *)ctx->Y + sample * n, n);
            continue;
        }
        const int32_t label = ctx->labels[sample];
        if (label < 0 || label >= n_classes) return STATUS_BAD_INDEX;
        if (n == 1)
            targets[i] = (real)label;
        else
            targets[i * n + label] = 1;
    }
    return STATUS_OK;
}

/* Unless the batch is a piece: weight_sum and the scales, in every thread's context. */
static int64_t sum_weights(struct context *ctx, int64_t thread, int64_t threads)
{
    (void)thread, (void)threads;
    if (ctx->accumulates) return STATUS_OK;
    double weight_sum = 0.0;
    for (int64_t i = 0; i < ctx->m; i++) {
        const int64_t sample = sample_of(ctx, i);
        if (sample < 0) return STATUS_BAD_INDEX;
        weight_sum += ctx->weights[sample];
    }
    ctx->weight_sum = weight_sum;
    if (ctx->mean) ctx->scale = weight_sum > 0.0 ? 1.0 / weight_sum : 0.0;
    if (ctx->penalty_is_row) ctx->penalty_scale = ctx->scale;
    return STATUS_OK;
}

/* A part's rows of the output: where they are, where they go, and how many elements. */
struct stored {
    const real *output;
    real *out;
    int64_t rows, count;
};

static inline struct stored stored_rows(const struct context *ctx, int64_t part, int64_t parts)
{
    const int64_t n = ctx->n_outputs;
    const struct range mine = rows_of_part(ctx, part, parts);
    const int64_t rows = mine.end - mine.begin;
    return (struct stored){buffer(ctx, ctx->output) + mine.begin * n,
                           (real *)ctx->out + (ctx->start + mine.begin) * n, rows, rows * n};
}

/* out[start + i] = row i of the output; split by rows. */
static int64_t store_output(struct context *ctx, int64_t part, int64_t parts)
{
    const struct stored s = stored_rows(ctx, part, parts);
    copy_to(s.out, s.output, s.count);
    return STATUS_OK;
}

/* out[start + i] = sigmoid of row i of the output; split by rows. */
static int64_t store_sigmoid(struct context *ctx, int64_t part, int64_t parts)
{
    const struct stored s = stored_rows(ctx, part, parts);
    FOR_VECTORS(i, n, s.count, put(s.out + i, OF_REAL(sigmoid_of)(take(s.output + i, n)), n););
    return STATUS_OK;
}

/* out[start + i] = softmax of row i of the output; split by rows. */
static int64_t store_softmax(struct context *ctx, int64_t part, int64_t parts)
{
    const struct stored s = stored_rows(ctx, part, parts);
    softmax_of_rows(pack_of(ctx, part), s.output, s.out, s.rows, ctx->n_outputs);
    return STATUS_OK;
}

/* out[start + i] = the exponentials of row i of the output; split by rows. */
static int64_t store_exp(struct context *ctx, int64_t part, int64_t parts)
{
    const struct stored s = stored_rows(ctx, part, parts);
    FOR_VECTORS(i, n, s.count, put(s.out + i, OF_REAL(exp_of)(take(s.output + i, n)), n););
    return STATUS_OK;
}

/* out[start + i] = row i of the output, with the exponentials of its second half; split by rows. */
static int64_t store_mean_variance(struct context *ctx, int64_t part, int64_t parts)
{
    const struct stored s = stored_rows(ctx, part, parts);
    const int64_t half = ctx->n_outputs / 2;
    FOR_VECTORS(i, n, s.count, put(s.out + i, OF_REAL(exp_of)(take(s.output + i, n)), n););
    for (int64_t i = 0; i < s.count; i += 2 * half) copy_to(s.out + i, s.output + i, half);
    return STATUS_OK;
}

/* place_of_maximum for at most FEW elements, by comparing one after another. */
INLINE int64_t place_of_few(const real *x, int64_t n)
{
    int64_t first = 0;
    real largest = x[0];
    for (int64_t i = 1; i < n; i++) {
        first = x[i] > largest ? i : first;
        largest = x[i] > largest ? x[i] : largest;
    }
    return first;
}

/* The first i < n with the largest x[i]. NaN is skipped, except in x[0] of at most SUM_LANES. */
static inline int64_t place_of_maximum(const real *x, int64_t n)
{
    if (n <= FEW) return place_of_few(x, n);
    if (n <= SUM_LANES && x[0] != x[0]) return 0;
    return smaller_of(n - 1, first_at_least(x, maximum_of(x, n), n));
}

/* row_correct[i] = 1 where the largest output is at the largest target; split by rows.

   The largest of the targets made from a label is at the label; for few, comparing is faster. */
static int64_t mark_correct_by_class(struct context *ctx, int64_t part, int64_t parts)
{
    const int64_t n = ctx->n_outputs;
    const real *output = buffer(ctx, ctx->output), *targets = buffer(ctx, ctx->targets);
    double *correct = ctx->row_correct;
    const struct range mine = rows_of_part(ctx, part, parts);
    if (n <= FEW) {
        for (int64_t i = mine.begin; i < mine.end; i++)
            correct[i] = place_of_few(output + i * n, n) == place_of_few(targets + i * n, n);
        return STATUS_OK;
    }
    for (int64_t i = mine.begin; i < mine.end; i++) {
        const int64_t sample = sample_of(ctx, i);
        if (sample < 0) return STATUS_BAD_INDEX;
        const int64_t place =
            ctx->labels ? ctx->labels[sample] : place_of_maximum(targets + i * n, n);
        correct[i] = place_of_maximum(output + i * n, n) == place;
    }
    return STATUS_OK;
}

/* row_correct[i] = 1 where exactly the logits of targets above 1/2 are positive; split by rows. */
static int64_t mark_correct_by_sign(struct context *ctx, int64_t part, int64_t parts)
{
    const int64_t n = ctx->n_outputs;
    const real *output = buffer(ctx, ctx->output), *targets = buffer(ctx, ctx->targets);
    const struct range mine = rows_of_part(ctx, part, parts);
    for (int64_t i = mine.begin; i < mine.end; i++) {
        double correct = 1.0;
        for (int64_t j = i * n; j < i * n + n; j++)
            correct = (output[j] > 0) == (targets[j] > (real)0.5) ? correct : 0.0;
        ctx->row_correct[i] = correct;
    }
    return STATUS_OK;
}

#define BATCHES_SYMBOLS                                                                           \
    SYMBOL(gather_float32)                                                                        \
    SYMBOL(gather_float64)                                                                        \
    SYMBOL(gather_float16)                                                                        \
    SYMBOL(gather_bool)                                                                           \
    SYMBOL(gather_uint8)                                                                          \
    SYMBOL(gather_int8)                                                                           \
    SYMBOL(gather_uint16)                                                                         \
    SYMBOL(gather_int16)                                                                          \
    SYMBOL(gather_uint32)                                                                         \
    SYMBOL(gather_int32)                                                                          \
    SYMBOL(gather_uint64)                                                                         \
    SYMBOL(gather_int64)                                                                          \
    SYMBOL(gather_sparse_float32_int32)                                                           \
    SYMBOL(gather_sparse_float32_int64)                                                           \
    SYMBOL(gather_sparse_float64_int32)                                                           \
    SYMBOL(gather_sparse_float64_int64)                                                           \
    SYMBOL(gather_targets)                                                                        \
    SYMBOL(sum_weights)                                                                           \
    SYMBOL(store_output)                                                                          \
    SYMBOL(store_sigmoid)                                                                         \
    SYMBOL(store_softmax)                                                                         \
    SYMBOL(store_exp)                                                                             \
    SYMBOL(store_mean_variance)                                                                   \
    SYMBOL(mark_correct_by_class)                                                                 \
    SYMBOL(mark_correct_by_sign)
