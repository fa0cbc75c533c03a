/* The register tiles of a matrix product and of a transpose.

   Their width is that of the level's vectors; the bits of a result do not depend on it. */

enum {
    TILE_WIDTH = 3, /* vectors of the widest tile */
    DOTS = VECTOR_REGISTERS / 2 / REAL_VECTORS,
    DOT_ROWS = DOTS < 1 ? 1 : DOTS > 8 ? 8 : DOTS, /* rows whose dot products go side by side */
};

/* These keep from the compiler where a value comes from: it would keep a register for every row of
   a, more than there are, and read a vector of b again for every row of a. */
#define HIDE(value) __asm__("" : "+r"(value))
#if defined(__x86_64__)
#define HIDE_VECTOR(value) __asm__("" : "+v"(value))
#elif defined(__aarch64__)
#define HIDE_VECTOR(value) __asm__("" : "+w"(value))
#else
#define HIDE_VECTOR(value)
#endif

/* A register tile of a matrix product: for r < height and all columns j of `width` vectors,

       t[r, j] = fma(a[r*a_row + k*a_k], b[k*b_row + j], t[r, j])

   for k = 0, 1, ... depth-1 in that order, in registers. The chain starts as first[r*first_row +
   j]; its end is stored as c[r*c_row + j], or added to it if `adds` is 1.

   masked   only the first `columns` lanes of the last vector are read and written
   copies   the rows of b are also written to `other`, one after another
   fetches  asks the memory for other[k*other_row], which will be read soon, and for the tile of c
            at next_c, unless that is c
   Reads a, b, first and, with adds, c; writes c, which may overlap first alone. */
INLINE void tile(const int height, const int width, const bool masked, const bool copies,
                 const bool fetches, real *c, int64_t c_row, const real *first,
                 int64_t first_row, const real *a, int64_t a_row, int64_t a_k, const real *b,
                 int64_t b_row, int64_t depth, int64_t columns, int64_t adds, real *other,
                 int64_t other_row, const real *next_c)
{
    vec t[TILE_ROWS][TILE_WIDTH];
#pragma GCC unroll 8
    for (int r = 0; r < height; r++, first += first_row)
#pragma GCC unroll 3
        for (int v = 0; v < width; v++) {
            const real *p = first + v * LANES;
            t[r][v] = masked && v == width - 1 ? load_some(p, columns) : load(p);
        }
    if (fetches && next_c != c)
        for (int r = 0; r < height; r++)
#pragma GCC unroll 3
            for (int v = 0; v < width; v++)
                __builtin_prefetch(next_c + r * c_row + v * LANES, 0, 2);
    /* In bytes, so that an address needs no scale of its own: rows 0 to 3, and 4 to 7. */
    int64_t once = a_row * (int64_t)sizeof(real), twice = 2 * once, thrice = 3 * once;
    const int64_t next_a = a_k * (int64_t)sizeof(real);
    const char *low = (const char *)a, *high = low + 4 * once;
    HIDE(once);
    HIDE(twice);
    HIDE(thrice);
    for (int64_t left = depth; left > 0; left--) {
        vec row[TILE_WIDTH];
#pragma GCC unroll 3
        for (int v = 0; v < width; v++) {
            const real *p = b + v * LANES;
            row[v] = masked && v == width - 1 ? load_some(p, columns) : load(p);
            if (height > 1) HIDE_VECTOR(row[v]);
            if (copies) store(other + v * LANES, row[v]);
        }
        if (fetches) __builtin_prefetch(other, 0, 2);
#pragma GCC unroll 8
        for (int r = 0; r < height; r++) {
            const char *p = r < 4 ? low : high;
            p += r % 4 == 0 ? 0 : r % 4 == 1 ? once : r % 4 == 2 ? twice : thrice;
            const vec factor = set(*(const real *)p);
#pragma GCC unroll 3
            for (int v = 0; v < width; v++) t[r][v] = fused(factor, row[v], t[r][v]);
        }
        low += next_a;
        high += next_a;
        b += b_row;
        other += copies ? width * LANES : other_row;
    }
#pragma GCC unroll 8
    for (int r = 0; r < height; r++, c += c_row)
#pragma GCC unroll 3
        for (int v = 0; v < width; v++) {
            const int64_t n = masked && v == width - 1 ? columns : LANES;
            if (adds) t[r][v] = take(c + v * LANES, n) + t[r][v];
            put(c + v * LANES, t[r][v], n);
        }
}

/* Dot products of some rows with one vector: continues, for r < height and lanes l < SUM_LANES,

       sums[r*SUM_LANES + l] = fma(a[r*a_row + k], w[k], sums[r*SUM_LANES + l])

   over k = l, l + SUM_LANES, ... < depth, in that order. Reads a and w, writes sums. */
INLINE void dots(const int height, real *sums, const real *a, int64_t a_row, const real *w,
                 int64_t depth)
{
    vec t[DOT_ROWS][REAL_VECTORS];
    for (int r = 0; r < height; r++)
        for (int v = 0; v < REAL_VECTORS; v++) t[r][v] = load(sums + r * SUM_LANES + v * LANES);
    int64_t k = 0;
    for (; k + SUM_LANES <= depth; k += SUM_LANES)
#pragma GCC unroll 8
        for (int v = 0; v < REAL_VECTORS; v++) {
            const vec factor = load(w + k + v * LANES);
#pragma GCC unroll 8
            for (int r = 0; r < height; r++)
                t[r][v] = fused(load(a + r * a_row + k + v * LANES), factor, t[r][v]);
        }
    if (k < depth)
#pragma GCC unroll 8
        for (int v = 0; v < REAL_VECTORS; v++) {
            /* Lanes that are not there take zeros, and those of a whole vector too. */
            const int64_t n = part_of(depth - k, v * LANES, LANES);
            const int64_t at = n ? k + v * LANES : k;
            const vec factor = load_some(w + at, n);
#pragma GCC unroll 8
            for (int r = 0; r < height; r++)
                t[r][v] = fused(load_some(a + r * a_row + at, n), factor, t[r][v]);
        }
    for (int r = 0; r < height; r++)
        for (int v = 0; v < REAL_VECTORS; v++) store(sums + r * SUM_LANES + v * LANES, t[r][v]);
}

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

/* target[j*target_row + i] = source[i*source_row + j] for a block of at most LANES squared. */
INLINE void transpose_block(real *target, int64_t target_row, const real *source,
                            int64_t source_row, int64_t height, int64_t width)
{
    vec rows[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        rows[i] = i < height ? take(source + i * source_row, width) : set(0);
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
        if (i < width) put(target + i * target_row, rows[i], height);
}
