/* Transposes, in registers. */

/* Rows i and i+s of a block exchange half of their lanes. */
#define LOW(lane, s) ((lane) & (s) ? LANES + (lane) - (s) : (lane))
#define HIGH(lane, s) ((lane) & (s) ? LANES + (lane) : (lane) + (s))
#define EXCHANGE(s)                                                                               \
    _Pragma("GCC unroll 16") for (int i = 0; i < LANES; i++) if (!(i & (s)))                      \
    {                                                                                             \
        const vec a = rows[i], b = rows[i + (s)];                                                 \
        rows[i] = SHUFFLE(bits, a, b, EACH_LANE(LOW, s));                                         \
        rows[i + (s)] = SHUFFLE(bits, a, b, EACH_LANE(HIGH, s));                                  \
    }

/* out[j*out_row + i] = in[i*in_row + j] for i < height, j < width, at most LANES each. */
INLINE void transpose_block(real *out, int64_t out_row, const real *in, int64_t in_row,
                            int64_t height, int64_t width)
{
    vec rows[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) rows[i] = i < height ? take(in + i * in_row, width) : set(0);
    EXCHANGE(1)
#if VECTOR_BYTES > 16 || !defined(REAL_IS_DOUBLE)
    EXCHANGE(2)
#endif
#if VECTOR_BYTES > 32 || (VECTOR_BYTES == 32 && !defined(REAL_IS_DOUBLE))
    EXCHANGE(4)
#endif
#if VECTOR_BYTES == 64 && !defined(REAL_IS_DOUBLE)
    EXCHANGE(8)
#endif
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        if (i < width) put(out + i * out_row, rows[i], height);
}

/* A block at the edge of a matrix. */
NOINLINE void transpose_edge(real *out, int64_t out_row, const real *in, int64_t in_row,
                             int64_t height, int64_t width)
{
    transpose_block(out, out_row, in, in_row, height, width);
}

/* out[j, i] = in[i, j] for i < rows, j < columns. */
static void transpose(real *out, int64_t out_row, const real *in, int64_t in_row, int64_t rows,
                      int64_t columns)
{
    for (int64_t i = 0; i < rows; i += LANES)
        for (int64_t j = 0; j < columns; j += LANES) {
            real *to = out + j * out_row + i;
            const real *from = in + i * in_row + j;
            const int64_t height = smaller_of(LANES, rows - i);
            const int64_t width = smaller_of(LANES, columns - j);
            if (height == LANES && width == LANES)
                transpose_block(to, out_row, from, in_row, LANES, LANES);
            else
                transpose_edge(to, out_row, from, in_row, height, width);
        }
}
