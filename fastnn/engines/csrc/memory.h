/* How leaves find their arrays, and which share of the work is theirs. */

/* The workspace buffer with a per-sample offset, or the batch itself. */
INLINE real *buffer(const struct context *ctx, int64_t offset)
{
    return offset == INPUT ? (real *)ctx->input : (real *)ctx->work + offset * ctx->capacity;
}

INLINE const struct row *row_below(const struct context *ctx, const struct row *row)
{
    return ctx->rows + row->below;
}

INLINE int64_t smaller_of(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t larger_of(int64_t a, int64_t b) { return a > b ? a : b; }

/* The first of `count` items that belong to a part, a multiple of `step` but for the end. */
INLINE int64_t share(int64_t count, int64_t step, int64_t part, int64_t parts)
{
    if (part == 0) return 0; /* a small network need not wait for divisions */
    if (part == parts) return count;
    const int64_t steps = (count + step - 1) / step;
    return smaller_of(count, steps * part / parts * step);
}

/* target = source. */
static inline void copy_to(real *target, const real *source, int64_t count)
{
    if (count > 0) memcpy(target, source, (size_t)count * sizeof(real));
}

/* target += source. */
static inline void add_to(real *target, const real *source, int64_t count)
{
    FOR_VECTORS(i, n, count, put(target + i, take(target + i, n) + take(source + i, n), n););
}

/* Replaces the weighted sums in a by act(z), or turns da into dz. */
typedef int64_t inner_function(const real *z, real *a, real *da, int64_t count,
                               const struct row *row);

/* Call the call's elementwise function, if it has one, on a tile of z, a and da.

   The tile has `rows` rows of `columns` elements that begin `stride` elements apart. */
static inline void epilogue(const struct context *ctx, const real *z, real *a, real *da,
                            int64_t rows, int64_t columns, int64_t stride, const struct row *row)
{
    inner_function *inner = (inner_function *)ctx->inner;
    if (!inner) return;
    if (columns == stride) {
        columns *= rows;
        rows = 1;
    }
    for (int64_t r = 0; r < rows; r++)
        inner(z + r * stride, a + r * stride, da + r * stride, columns, row);
}
