/* Where kernels find their arrays, and which share of the work is theirs. */

/* The workspace buffer with a per-sample offset, or the batch itself. */
INLINE real *buffer(const struct context *ctx, int64_t offset)
{
    return offset == INPUT ? (real *)ctx->input : (real *)ctx->work + offset * ctx->capacity;
}

/* The packing buffers of a part. */
INLINE real *pack_of(const struct context *ctx, int64_t part)
{
    return (real *)(ctx->pack + part * PACK_BYTES);
}

/* Whether the batch continues the sums of the pieces before it. */
INLINE bool is_continued(const struct context *ctx) { return ctx->accumulates && ctx->start > 0; }

/* Whether the sums over rows are complete with this batch. */
INLINE bool is_last_piece(const struct context *ctx)
{
    return !ctx->accumulates || ctx->start + ctx->m == ctx->n_rows;
}

/* The number of row i within its batch, of which this may be a piece. */
INLINE int64_t row_in_batch(const struct context *ctx, int64_t i)
{
    return ctx->accumulates ? ctx->start + i : i;
}

/* The operation's own hyperparameter of this step, or another number if it has none. */
INLINE double own_hyper(const struct context *ctx, double otherwise)
{
    const int64_t from_end = ctx->op->hyper;
    return from_end == NONE || !ctx->hyper ? otherwise : ctx->hyper[ctx->hyper_columns - from_end];
}

/* The sample that row i of the batch is, or -1 if the order's entry is out of range. */
INLINE int64_t sample_of(const struct context *ctx, int64_t i)
{
    if (!ctx->order) return ctx->start + i;
    const int64_t sample = ctx->order[ctx->start + i];
    return sample < 0 || sample >= ctx->n_samples ? -1 : sample;
}

INLINE int64_t smaller_of(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t larger_of(int64_t a, int64_t b) { return a > b ? a : b; }

/* The first of `count` items that belong to a part, a multiple of `step` except at the end. */
INLINE int64_t share(int64_t count, int64_t step, int64_t part, int64_t parts)
{
    if (part == 0) return 0; /* spares small networks the divisions */
    if (part == parts) return count;
    const int64_t steps = (count + step - 1) / step;
    return smaller_of(count, steps * part / parts * step);
}

/* The items begin, ..., end-1. */
struct range {
    int64_t begin, end;
};

enum { ROW_STEP = 8 }; /* rows of a batch are split at multiples of it if there are enough */

/* The items of a part. */
INLINE struct range share_of(int64_t count, int64_t step, int64_t part, int64_t parts)
{
    return (struct range){share(count, step, part, parts), share(count, step, part + 1, parts)};
}

/* The rows of the batch that belong to a part: the same ones in all calls that are split by rows,
   which therefore need no meeting in between. */
INLINE struct range rows_of_part(const struct context *ctx, int64_t part, int64_t parts)
{
    return share_of(ctx->m, ctx->m >= 2 * ROW_STEP * parts ? ROW_STEP : 1, part, parts);
}

/* out = source. */
static inline void copy_to(real *out, const real *source, int64_t count)
{
    if (count > 0) memcpy(out, source, (size_t)count * sizeof(real));
}

/* out += source. */
static inline void add_to(real *out, const real *source, int64_t count)
{
    FOR_VECTORS(i, n, count, put(out + i, take(out + i, n) + take(source + i, n), n););
}

/* Put a vector, or if `adds` its sum with what is there. */
INLINE void put_or_add(real *p, vec v, int64_t n, bool adds)
{
    if (adds) v = take(p, n) + v;
    put(p, v, n);
}

/* out += source if `adds`, else out = source. */
static inline void copy_or_add(real *out, const real *source, int64_t count, bool adds)
{
    if (adds)
        add_to(out, source, count);
    else
        copy_to(out, source, count);
}

/* An elementwise epilogue: replaces the sums z in a by act(z), or turns da into dz. */
typedef int64_t inner_function(const real *z, real *a, real *da, int64_t count,
                               const struct op *op);

/* Apply the call's epilogue, if it has one, to a block of z, a and da.

   The block has `rows` rows of `columns` elements that begin `stride` elements apart. */
static inline void epilogue(const struct context *ctx, const real *z, real *a, real *da,
                            int64_t rows, int64_t columns, int64_t stride, const struct op *op)
{
    inner_function *inner = (inner_function *)ctx->inner;
    if (!inner) return;
    if (columns == stride) {
        columns *= rows;
        rows = 1;
    }
    for (int64_t r = 0; r < rows; r++)
        inner(z + r * stride, a + r * stride, da + r * stride, columns, op);
}

/* Turn some rows of da (m, n), the gradient of the output of operation number `index`, into its dz,
   if the call has an epilogue. */
static inline void apply_derivative(const struct context *ctx, int64_t index, real *da, int64_t n,
                                    struct range rows)
{
    if (!ctx->inner) return;
    const struct op *op = ctx->ops + index;
    const int64_t at = rows.begin * n;
    epilogue(ctx, buffer(ctx, op->z) + at, buffer(ctx, op->a) + at, da + at,
             rows.end - rows.begin, n, n, op);
}

/* Pass some rows of the operation's da (m, n_out) on, unchanged, to the gradient at the offset dx
   of operation number `below`, then apply its derivative. */
static inline void pass_gradient(const struct context *ctx, int64_t dx, bool adds, int64_t below,
                                 struct range rows)
{
    const int64_t n = ctx->op->n_out, at = rows.begin * n;
    copy_or_add(buffer(ctx, dx) + at, buffer(ctx, ctx->op->da) + at, (rows.end - rows.begin) * n,
                adds);
    apply_derivative(ctx, below, buffer(ctx, dx), n, rows);
}
