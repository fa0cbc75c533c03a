/* Leaves that move rows: into the workspace before a batch, and results out of it. */

/* The row of X that row i of the batch is, or -1 if the order names one that is not there. */
INLINE int64_t sample_of(const struct context *ctx, int64_t i)
{
    if (!ctx->order) return ctx->start + i;
    const int64_t sample = ctx->order[ctx->start + i];
    return sample < 0 || sample >= ctx->n_samples ? -1 : sample;
}

/* The number equal to a float16, from its bits alone: all are exact.

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
        const int64_t n = ctx->n_inputs, end = share(ctx->m, 1, part + 1, parts);                 \
        const real factor = (real)ctx->input_scale;                                               \
        for (int64_t i = share(ctx->m, 1, part, parts); i < end; i++) {                           \
            const int64_t sample = sample_of(ctx, i);                                             \
            if (sample < 0) return STATUS_BAD_CALL;                                               \
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

/* target[i] = Y[order[start + i]], or the one-hot code of the label; split by rows. */
static int64_t gather_targets(struct context *ctx, int64_t part, int64_t parts)
{
    const int64_t n = ctx->n_outputs, end = share(ctx->m, 1, part + 1, parts);
    real *target = buffer(ctx, ctx->target);
    for (int64_t i = share(ctx->m, 1, part, parts); i < end; i++) {
        const int64_t sample = sample_of(ctx, i);
        if (sample < 0) return STATUS_BAD_CALL;
        real *t = target + i * n;
        if (!ctx->labels) {
            copy_to(t, (const real *)ctx->Y + sample * n, n);
            continue;
        }
        const int32_t label = ctx->labels[sample];
        if (n == 1) {
            t[0] = (real)label;
        } else {
            if (label < 0 || label >= n) return STATUS_BAD_CALL;
            memset(t, 0, (size_t)n * sizeof(real));
            t[label] = 1;
        }
    }
    return STATUS_OK;
}

/* row_weight[i] = weights[order[start + i]], their sum, and the scale; part 0 works. */
static int64_t gather_weights(struct context *ctx, int64_t part, int64_t parts)
{
    (void)parts;
    if (part > 0) return STATUS_OK;
    double mass = 0.0;
    for (int64_t i = 0; i < ctx->m; i++) {
        const int64_t sample = sample_of(ctx, i);
        if (sample < 0) return STATUS_BAD_CALL;
        ctx->row_weight[i] = ctx->weights[sample];
        mass += ctx->row_weight[i];
    }
    ctx->mass = mass;
    if (ctx->mean) ctx->scale = mass > 0.0 ? 1.0 / mass : 0.0;
    return STATUS_OK;
}

/* The output buffer's rows of a part, where they go, and how many. */
struct stored {
    const real *source;
    real *target;
    int64_t rows;
};

static inline struct stored stored_rows(const struct context *ctx, int64_t part, int64_t parts)
{
    const int64_t n = ctx->n_outputs, begin = share(ctx->m, 1, part, parts);
    return (struct stored){
        buffer(ctx, ctx->source) + begin * n, (real *)ctx->out + (ctx->start + begin) * n,
        share(ctx->m, 1, part + 1, parts) - begin};
}

/* out[start + i] = the output buffer's row i; split by rows. */
static int64_t store_output(struct context *ctx, int64_t part, int64_t parts)
{
    const struct stored s = stored_rows(ctx, part, parts);
    copy_to(s.target, s.source, s.rows * ctx->n_outputs);
    return STATUS_OK;
}

/* out[start + i] = sigmoid of the output buffer's row i; split by rows. */
static int64_t store_sigmoid(struct context *ctx, int64_t part, int64_t parts)
{
    const struct stored s = stored_rows(ctx, part, parts);
    FOR_VECTORS(i, n, s.rows * ctx->n_outputs,
                put(s.target + i, OF_REAL(sigmoid_of)(take(s.source + i, n)), n););
    return STATUS_OK;
}

/* out[start + i] = softmax of the output buffer's row i; split by rows. */
static int64_t store_softmax(struct context *ctx, int64_t part, int64_t parts)
{
    const struct stored s = stored_rows(ctx, part, parts);
    softmax_of_rows(pack_of(ctx, part), s.source, s.target, s.rows, ctx->n_outputs);
    return STATUS_OK;
}

/* The first i < n with the largest x[i]. */
static inline int64_t place_of_maximum(const real *x, int64_t n)
{
    if (n > SUM_LANES) {
        const real largest = maximum_of(x, n);
        int64_t i = 0;
        while (i + LANES <= n && !any(at_most(set(largest), load(x + i)))) i += LANES;
        for (; i < n; i++)
            if (x[i] == largest) return i;
        return n - 1;
    }
    int64_t first = 0;
    real largest = x[0];
    for (int64_t i = 1; i < n; i++) {
        first = x[i] > largest ? i : first;
        largest = x[i] > largest ? x[i] : largest;
    }
    return first;
}

/* row_hit[i] = 1 where the largest output is that of the largest target; split by rows. */
static int64_t mark_hits_by_class(struct context *ctx, int64_t part, int64_t parts)
{
    const int64_t n = ctx->n_outputs, end = share(ctx->m, 1, part + 1, parts);
    const real *output = buffer(ctx, ctx->source), *target = buffer(ctx, ctx->target);
    for (int64_t i = share(ctx->m, 1, part, parts); i < end; i++)
        ctx->row_hit[i] =
            place_of_maximum(output + i * n, n) == place_of_maximum(target + i * n, n);
    return STATUS_OK;
}

/* row_hit[i] = 1 where every logit is positive just where its target is above a half. */
static int64_t mark_hits_by_sign(struct context *ctx, int64_t part, int64_t parts)
{
    const int64_t n = ctx->n_outputs, end = share(ctx->m, 1, part + 1, parts);
    const real *output = buffer(ctx, ctx->source), *target = buffer(ctx, ctx->target);
    for (int64_t i = share(ctx->m, 1, part, parts); i < end; i++) {
        double right = 1.0;
        for (int64_t j = i * n; j < i * n + n; j++)
            right = (output[j] > 0) == (target[j] > (real)0.5) ? right : 0.0;
        ctx->row_hit[i] = right;
    }
    return STATUS_OK;
}
