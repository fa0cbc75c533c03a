/* Short rows side by side: a block of rows is transposed, so that each row has its own lane.

   A row of few classes is shorter than a vector, and its maximum, sums and logarithm would leave
   most lanes idle. Here element j of all rows of a block is a column of COLUMN consecutive
   elements, and every step works on a whole column. The sums have the bits of reductions.h, row by
   row. */

enum {
    COLUMN = 16,                     /* rows of a block */
    SHORT = 16,                      /* a row of at most so many elements is short */
    COLUMN_VECTORS = COLUMN / LANES, /* vectors of a column of reals, and ... */
    WIDE_COLUMN = COLUMN / LANES_d,  /* ... of one of doubles */
};

/* columns[j*COLUMN + i] = in[i*n + j], and 0 for the missing rows of a last block. */
static inline void to_columns(real *columns, const real *in, int64_t rows, int64_t n)
{
    if (rows < COLUMN) memset(columns, 0, (size_t)(n * COLUMN) * sizeof(real));
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < rows; i++) columns[j * COLUMN + i] = in[i * n + j];
}

/* The inverse: out[i*n + j] = columns[j*COLUMN + i]. */
static inline void from_columns(real *out, const real *columns, int64_t rows, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < rows; i++) out[i * n + j] = columns[j * COLUMN + i];
}

/* Subtract from every element the largest of its row. */
static inline void subtract_maximum(real *x, int64_t n)
{
    for (int v = 0; v < COLUMN_VECTORS; v++) {
        real *column = x + v * LANES;
        vec highest = load(column);
        for (int64_t j = 1; j < n; j++) highest = larger(load(column + j * COLUMN), highest);
        for (int64_t j = 0; j < n; j++)
            store(column + j * COLUMN, load(column + j * COLUMN) - highest);
    }
}

/* Add columns l and l + 8, then l and l + 4, and so on, as far as they exist. */
static inline void join_columns(double *sums, int64_t n)
{
    for (int64_t half = SHORT / 2; half > 0; half /= 2)
        for (int64_t j = 0; j < smaller_of(half, n - half) * COLUMN; j += LANES_d)
            store_d(sums + j, load_d(sums + j) + load_d(sums + half * COLUMN + j));
}

/* sums[i] = the sum of row i of x; `sums` has room for n columns. */
static inline void sums_of_columns(double *sums, const real *x, int64_t n)
{
    if (n > FEW) {
        for (int64_t j = 0; j < n * COLUMN; j += LANES_d) store_d(sums + j, widen(x + j));
        join_columns(sums, n);
        return;
    }
    for (int v = 0; v < WIDE_COLUMN; v++) {
        vec_d total = set_d(0);
        for (int64_t j = 0; j < n; j++) total = total + widen(x + j * COLUMN + v * LANES_d);
        store_d(sums + v * LANES_d, total);
    }
}

/* sums[i] = the dot product of rows i of x and y; `sums` has room for n columns. */
static inline void dots_of_columns(double *sums, const real *x, const real *y, int64_t n)
{
    if (n > FEW) {
        for (int64_t j = 0; j < n * COLUMN; j += LANES_d)
            store_d(sums + j, widen(x + j) * widen(y + j));
        join_columns(sums, n);
        return;
    }
    for (int v = 0; v < WIDE_COLUMN; v++) {
        vec_d total = set_d(0);
        for (int64_t j = 0; j < n; j++) {
            const int64_t at = j * COLUMN + v * LANES_d;
            total = fma_d(widen(x + at), widen(y + at), total);
        }
        store_d(sums + v * LANES_d, total);
    }
}
