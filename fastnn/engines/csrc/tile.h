/* The micro-kernel, for the vectors that TILE(name) names: whole ones or half ones.

   For r < mr and all columns j of `vectors` vectors,

       t[r, j] = fma(a[r, p], b[p, j], t[r, j])

   for p = 0, 1, ... k-1 in that order, in registers. The chain starts with first[r, j]; its end is
   stored as c[r, j], or added to it if g->adds.

   masked      the last vector ends with column g->n - 1; the lanes behind are neither read nor
               written
   packs       the rows of b are also written to `other`, one after another
   prefetches  prefetches other + p*other_row for every p, and the tile of c at next_c unless that
               is c
   Reads a, b, first and, with adds, c; writes c, which may overlap first alone. */
INLINE void TILE(micro_kernel)(const int mr, const int vectors, const bool masked,
                               const bool packs, const bool prefetches, const struct gemm *g,
                               real *other, int64_t other_row, const real *next_c)
{
    enum { L = TILE(LANES) };
    TILE(vec) t[MOST_ROWS][ROW_VECTORS];
    const int last = masked ? vectors - 1 : vectors;
    const int64_t rest = masked ? g->n - last * L : L;
    const real *first = g->first, *b = g->b;
    real *c = g->c;
#pragma GCC unroll 8
    for (int r = 0; r < mr; r++, first += g->first_row)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            t[r][v] = v < last ? TILE(load)(first + v * L) : TILE(load_some)(first + v * L, rest);
    if (prefetches && next_c != c)
        for (int r = 0; r < mr; r++)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                __builtin_prefetch(next_c + r * g->c_row + v * L, 0, 2);
    /* In bytes, so that an address needs no scale of its own: rows 0 to 3, and 4 to 7. */
    int64_t once = g->a_row * (int64_t)sizeof(real), twice = 2 * once, thrice = 3 * once;
    const int64_t next_a = g->a_col * (int64_t)sizeof(real);
    const char *low = (const char *)g->a, *high = low + 4 * once;
    HIDE(once);
    HIDE(twice);
    HIDE(thrice);
    for (int64_t left = g->k; left > 0; left--) {
        TILE(vec) row[ROW_VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            row[v] = v < last ? TILE(load)(b + v * L) : TILE(load_some)(b + v * L, rest);
            if (mr > 1) HIDE_VECTOR(row[v]);
            if (packs) TILE(store)(other + v * L, row[v]);
        }
        if (prefetches) __builtin_prefetch(other, 0, 2);
#pragma GCC unroll 8
        for (int r = 0; r < mr; r++) {
            const char *p = r < 4 ? low : high;
            p += r % 4 == 0 ? 0 : r % 4 == 1 ? once : r % 4 == 2 ? twice : thrice;
            const TILE(vec) factor = TILE(set)(*(const real *)p);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) t[r][v] = TILE(fused)(factor, row[v], t[r][v]);
        }
        low += next_a;
        high += next_a;
        b += g->b_row;
        other += packs ? vectors * L : other_row;
    }
#pragma GCC unroll 8
    for (int r = 0; r < mr; r++, c += g->c_row)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            real *out = c + v * L;
            const bool whole = v < last;
            if (g->adds) t[r][v] = (whole ? TILE(load)(out) : TILE(load_some)(out, rest)) + t[r][v];
            if (whole)
                TILE(store)(out, t[r][v]);
            else
                TILE(store_some)(out, t[r][v], rest);
        }
}
