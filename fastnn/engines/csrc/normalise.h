/* Columns shifted and scaled, z = (x - mean) scale + shift, in the network's type: what a
   normalisation does once its statistics are known. */

/* mean, scale and shift of some columns. */
struct affine {
    const real *mean, *scale, *shift;
};

/* z = (x - mean) scale + shift for the columns of some vectors, which stay in registers, or for the
   first n of a single one. z may be x. */
INLINE void normalise_vectors(const int vectors, const struct affine *by, const real *x, real *z,
                              int64_t rows, int64_t stride, int64_t n)
{
    vec mean[4], scale[4], shift[4];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        mean[v] = take(by->mean + v * LANES, n);
        scale[v] = take(by->scale + v * LANES, n);
        shift[v] = take(by->shift + v * LANES, n);
    }
    for (int64_t i = 0; i < rows; i++, x += stride, z += stride)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            put(z + v * LANES, (take(x + v * LANES, n) - mean[v]) * scale[v] + shift[v], n);
}

/* z = (x - mean) scale + shift for `columns` columns, whose rows begin `stride` elements apart. */
static void normalise_rows(const struct affine *by, const real *x, real *z, int64_t rows,
                           int64_t columns, int64_t stride)
{
    int64_t j = 0;
    while (j < columns) {
        const struct affine at = {by->mean + j, by->scale + j, by->shift + j};
        const int64_t left = columns - j;
        if (left >= 4 * LANES) {
            normalise_vectors(4, &at, x + j, z + j, rows, stride, LANES);
            j += 4 * LANES;
        } else if (left >= 2 * LANES) {
            normalise_vectors(2, &at, x + j, z + j, rows, stride, LANES);
            j += 2 * LANES;
        } else {
            normalise_vectors(1, &at, x + j, z + j, rows, stride, smaller_of(LANES, left));
            j += LANES;
        }
    }
}

/* What an operation prepared for predictions, for at most NC columns from column j on. */
INLINE struct affine prepared(const struct context *ctx, const struct op *op, int64_t j)
{
    const real *mean = (const real *)(ctx->batch + op->batch) + j;
    const real *shift = op->b == NONE ? ctx->zeros : (const real *)ctx->params + op->b + j;
    return (struct affine){mean, mean + op->n_out, shift};
}

/* Compute the operation that is folded into this one, in place, for a block of its output that
   begins with column j. */
static inline void normalise_block(const struct context *ctx, real *a, int64_t rows,
                                   int64_t columns, int64_t j)
{
    const struct op *folded = ctx->ops + ctx->op->fold;
    const struct affine by = prepared(ctx, folded, j);
    normalise_rows(&by, a, a, rows, columns, folded->n_out);
}
