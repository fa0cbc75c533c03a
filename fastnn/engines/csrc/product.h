/* The matrix product that every dense operation is made of.

   X W, Xt dZ and dZ Wt are all calls of one function. It reads A element by element, so A may have
   any strides and X is never transposed; B and C are read along their rows. Each element of C is
   one chain of fused multiply-adds over ascending k, whatever tile it falls into, so a row of a
   forward pass has the same bits alone and in any batch. */

enum {
    NC = NC_PANELS * NR,   /* most columns of a product */
    BLOCK_ROWS = 1024,     /* rows of C that kernels compute with one call */
    PACKING_ROWS = 3 * MR, /* with fewer rows of C, B is not packed */
    L1_ELEMENTS = (1 << 14) / sizeof(real), /* half of L1 */
    PREFETCH_ROWS = 64,    /* with no more rows of C, k-blocks are half as long */
    /* A larger C does not stay in L2: its next tile is prefetched, unless k is so short that the
       current tile is done before the memory answers. */
    L2_ELEMENTS = 1 << 17,
    PREFETCH_K = 128,
    PACK_ROWS = LANES + 0 > MR + 0 ? LANES + 0 : MR + 0, /* rows of a packed micro-panel of A */
};

/* How a micro-panel of B is read: in place; in place and packed on the way, where its rows lie far
   apart; or as packed for the rows of A before. */
enum { IN_PLACE, PACKS, PACKED };

/* At most MC rows of A times one micro-panel of B. */
struct micro_panel {
    const struct gemm *whole; /* the product: what is not here is as there */
    real *c;                  /* these begin with the columns of this micro-panel: n are left */
    const real *first;
    int64_t first_row;
    const real *a, *b;
    int64_t m, n, k;
    real *pack;               /* the place of this micro-panel in the packing buffer */
    const real *a_pack;       /* the first `packed` rows of A, as pack_rows left them */
    int64_t packed;
    int b_is;                 /* IN_PLACE, PACKS or PACKED */
    int far;                  /* 1: C does not stay in L2 */
};

/* Let a tile begin at row i of A and C. */
INLINE void move_to(struct gemm *tile, const struct micro_panel *p, int64_t i)
{
    tile->c = p->c + i * p->whole->c_row;
    tile->first = p->first + i * p->first_row;
    tile->a = p->a + i * p->whole->a_row;
    tile->a_row = p->whole->a_row;
    tile->a_col = p->whole->a_col;
}

/* Multiply `rows` of the last rows, from row i on, if there are so many; the next row. */
INLINE int64_t multiply_rest(const int rows, const int vectors, const bool masked,
                             const struct micro_panel *p, struct gemm *tile, int64_t i)
{
    if (rows >= MR || p->m - i < rows) return i;
    move_to(tile, p, i);
    micro_kernel(rows, vectors, masked, false, false, tile, tile->c, 0, tile->c);
    return i + rows;
}

/* Multiply with a micro-panel of two or more `vectors`, the last of which may be `masked`.

   Together the tiles prefetch the next micro-panel once: as packed, or line by line in place. That
   may lie outside of B. */
INLINE void multiply(const int vectors, const bool masked, const struct micro_panel *p)
{
    const int width = vectors * LANES;
    const bool packed = p->b_is == PACKED;
    const int64_t share_of_next = width * MR / p->m;
    real *ahead = (real *)p->b + (masked ? 0 : width);
    int64_t ahead_row = p->whole->b_row, i = 0;
    struct gemm tile = {.c_row = p->whole->c_row, .first_row = p->first_row,
                        .b = packed ? p->pack : p->b, .b_row = packed ? width : ahead_row,
                        .n = p->n, .k = p->k, .adds = p->whole->adds};
    for (; i + MR <= p->m; i += MR) {
        move_to(&tile, p, i);
        if (i < p->packed) {
            tile.a = p->a_pack + (i / PACK_ROWS * KC * PACK_ROWS + i % PACK_ROWS);
            tile.a_row = 1;
            tile.a_col = PACK_ROWS;
        }
        const real *next_c = tile.c;
        if (p->far) next_c = i + 2 * MR <= p->m ? tile.c + MR * tile.c_row : p->c + width;
        if (p->b_is == PACKS && i == 0) {
            micro_kernel(MR, vectors, masked, true, false, &tile, p->pack, 0, next_c);
            tile.b = p->pack;
            tile.b_row = width;
            continue;
        }
        real *other = ahead + i / MR % vectors * LANES;
        int64_t other_row = ahead_row;
        if (packed) {
            other = p->pack + width * KC + i / MR * tile.k * share_of_next;
            other_row = share_of_next;
        }
        micro_kernel(MR, vectors, masked, false, true, &tile, other, other_row, next_c);
        if (i >= vectors * MR) ahead_row = 0;
    }
    i = multiply_rest(4, vectors, masked, p, &tile, i);
    i = multiply_rest(2, vectors, masked, p, &tile, i);
    multiply_rest(1, vectors, masked, p, &tile, i);
}

NOINLINE void multiply_3(const struct micro_panel *p) { multiply(3, false, p); }
NOINLINE void multiply_2(const struct micro_panel *p) { multiply(2, false, p); }

/* Multiply `rows` rows with part of a vector, from row i on; the next row. */
INLINE int64_t multiply_few(const int rows, const bool half, const struct micro_panel *p,
                            struct gemm *tile, int64_t i)
{
    move_to(tile, p, i);
#ifdef HALF_VECTORS
    if (half) {
        half_micro_kernel(rows, 1, true, false, false, tile, tile->c, 0, tile->c);
        return i + rows;
    }
#endif
    (void)half;
    micro_kernel(rows, 1, true, false, false, tile, tile->c, 0, tile->c);
    return i + rows;
}

/* Multiply with a micro-panel of one vector or part of one, or with `half` of half a vector.

   A tile of fewer than four rows waits for its sums, so the last rows are split into tiles of at
   least so many where this is possible: 9 rows into 5 and 4, 15 into three times 5. */
INLINE void multiply_narrow(const bool half, const struct micro_panel *p)
{
    const int64_t m = p->m, n = half ? p->n : smaller_of(LANES, p->n);
    struct gemm tile = {.c_row = p->whole->c_row, .first_row = p->first_row, .b = p->b,
                        .b_row = p->whole->b_row, .n = n, .k = p->k, .adds = p->whole->adds};
    int64_t i = 0;
    while (m - i >= 12 ? m - i != 15 : m - i == 8) i = multiply_few(8, half, p, &tile, i);
    if (m - i == 6 || m - i == 11) i = multiply_few(6, half, p, &tile, i);
    while (m - i >= 5) i = multiply_few(5, half, p, &tile, i);
    if (m - i >= 4) i = multiply_few(4, half, p, &tile, i);
    if (m - i >= 2) i = multiply_few(2, half, p, &tile, i);
    if (m - i >= 1) multiply_few(1, half, p, &tile, i);
}

NOINLINE void multiply_1(const struct micro_panel *p) { multiply_narrow(false, p); }
#ifdef HALF_VECTORS
NOINLINE void multiply_half(const struct micro_panel *p) { multiply_narrow(true, p); }
#else
NOINLINE void multiply_part_of_2(const struct micro_panel *p) { multiply(2, true, p); }
#endif

/* A single row, whose chains of few vectors would wait for each sum. */
NOINLINE void multiply_row(const struct micro_panel *p)
{
    struct gemm tile = {.c_row = 0, .first_row = 0, .b = p->b, .b_row = p->whole->b_row, .k = p->k,
                        .adds = p->whole->adds};
    move_to(&tile, p, 0);
    micro_kernel(1, ROW_VECTORS, false, false, false, &tile, tile.c, 0, tile.c);
}

/* Pack `rows` rows of A into micro-panels of PACK_ROWS rows, each column by column.

   out[i*KC + p*PACK_ROWS + r] = a[i + r + p*a_col] for i = 0, PACK_ROWS, ..., r < PACK_ROWS,
   p < k. */
static inline void pack_rows(real *out, const real *a, int64_t a_col, int64_t rows, int64_t k)
{
    for (int64_t i = 0; i < rows; i += PACK_ROWS)
        for (int64_t p = 0; p < k; p++)
            memcpy(out + i * KC + p * PACK_ROWS, a + i + p * a_col, PACK_ROWS * sizeof(real));
}

/* The lanes that tiles of n columns take. */
INLINE int64_t whole_lanes(int64_t n)
{
#ifdef HALF_VECTORS
    const int64_t step = LANES / 2;
#else
    const int64_t step = LANES;
#endif
    return (n + step - 1) / step * step;
}

/* Multiply with one micro-panel of B; its columns.

   As few tiles as possible have one vector, since these wait for their loads and sums. */
INLINE int64_t multiply_some(const struct micro_panel *p)
{
    const int64_t n = p->n;
    if (p->m == 1 && n >= ROW_VECTORS * LANES) {
        multiply_row(p);
        return ROW_VECTORS * LANES;
    }
#ifdef HALF_VECTORS
    if (n <= LANES / 2) {
        multiply_half(p);
        return LANES / 2;
    }
    const bool three = n >= 3 * LANES && n != 4 * LANES, two = n >= 2 * LANES;
#else
    const int64_t vectors = (n + LANES - 1) / LANES;
    const bool masked = n % LANES > 0;
    const bool three = vectors >= 3 && vectors != 4 && !(vectors % 3 == 0 && vectors < 7 && masked);
    const bool two = vectors > 1;
    if (two && !three && n < 2 * LANES) {
        multiply_part_of_2(p);
        return 2 * LANES;
    }
#endif
    if (three)
        multiply_3(p);
    else if (two)
        multiply_2(p);
    else
        multiply_1(p);
    return three ? 3 * LANES : two ? 2 * LANES : LANES;
}

/* Multiply with all micro-panels of B, the first of which is p. */
static inline void multiply_panels(struct micro_panel *p)
{
    while (p->n > 0) {
        const int64_t width = multiply_some(p);
        p->c += width;
        p->first += width;
        p->b += width;
        p->pack += width * KC;
        p->n -= width;
    }
}

/* c[i, j] = first[i, j] + sum over p of a[i, p] b[p, j], for i < m, p < k, j < n.

   The sum is a chain over ascending p that starts with `first`. If `adds`, its end is added to c;
   then k is KC at most. One of a_row and a_col is 1, and n is NC at most.
   Reads a, b, first and c; writes c and pack; c may overlap first, but not a or b. */
static void product(const struct gemm *g)
{
    real *a_pack = g->pack + KC * NC;
    const bool packs_a = g->n >= 4 * NR && g->a_col != 1;
    const bool packs_b = g->m >= PACKING_ROWS && g->b_row > NR && g->k * g->n > L1_ELEMENTS;
    const bool far = g->m * g->c_row > L2_ELEMENTS && g->k >= PREFETCH_K;
    const int64_t kc = g->m <= PREFETCH_ROWS && !g->adds ? KC / 2 : KC;
    const real *first = g->first;
    int64_t first_row = g->first_row;
    for (int64_t k = 0; k == 0 || k < g->k; k += kc) {
        for (int64_t i = 0; i < g->m; i += MC) {
            /* A single row is multiplied by wider micro-panels, which no block before has packed. */
            const bool is_row = g->m - i == 1;
            struct micro_panel p = {
                .whole = g, .c = g->c + i * g->c_row, .first = first + i * first_row,
                .first_row = first_row, .a = g->a + i * g->a_row + k * g->a_col,
                .b = g->b + k * g->b_row, .m = smaller_of(MC, g->m - i), .n = g->n,
                .k = smaller_of(kc, g->k - k), .pack = g->pack, .a_pack = a_pack, .far = far,
                .b_is = !packs_b || is_row ? IN_PLACE : i == 0 ? PACKS : PACKED,
                .packed = packs_a ? smaller_of(MC, g->m - i) / PACK_ROWS * PACK_ROWS : 0,
            };
            pack_rows(a_pack, p.a, g->a_col, p.packed, p.k);
            multiply_panels(&p);
        }
        first = g->c;
        first_row = g->c_row;
    }
}

/* The part of product() on and above the diagonal of a matrix whose column number `diagonal` is
   column 0 of c: the same bits for i < diagonal + j / NR * NR + NR, and no other element. */
static void product_upper(const struct gemm *g, int64_t diagonal)
{
    real *a_pack = g->pack + KC * NC;
    const bool packs_a = g->n >= NR && g->a_col != 1;
    const bool packs_b = g->m >= PACKING_ROWS && g->b_row > NR && g->k * g->n > L1_ELEMENTS;
    const real *first = g->first;
    int64_t first_row = g->first_row;
    for (int64_t k = 0; k == 0 || k < g->k; k += KC) {
        for (int64_t i = 0; i < g->m && i < diagonal + g->n; i += MC) {
            const int64_t rows = smaller_of(MC, g->m - i), depth = smaller_of(KC, g->k - k);
            const int64_t packed = packs_a ? rows / PACK_ROWS * PACK_ROWS : 0;
            pack_rows(a_pack, g->a + i * g->a_row + k * g->a_col, g->a_col, packed, depth);
            const int64_t start = larger_of(0, i - diagonal) / NR * NR;
            for (int64_t j = start; j < g->n; j += NR) {
                struct micro_panel p = {
                    .whole = g, .c = g->c + i * g->c_row + j, .first = first + i * first_row + j,
                    .first_row = first_row, .a = g->a + i * g->a_row + k * g->a_col,
                    .b = g->b + k * g->b_row + j, .m = smaller_of(rows, diagonal + j + NR - i),
                    .n = smaller_of(NR, g->n - j), .k = depth, .pack = g->pack + j * KC,
                    .a_pack = a_pack, .far = false,
                    .b_is = !packs_b ? IN_PLACE : i == 0 ? PACKS : PACKED, .packed = packed,
                };
                multiply_panels(&p);
            }
        }
        first = g->c;
        first_row = g->c_row;
    }
}

/* A block of a matrix: rows i, ..., i_end-1 of the columns j, ..., j_end-1. */
struct area {
    int64_t i, i_end, j, j_end;
};

/* The columns of a matrix that belong to a part. */
INLINE struct range columns_of_part(int64_t columns, int64_t part, int64_t parts)
{
    return share_of(columns, columns >= 8 * NR * parts ? NR : LANES, part, parts);
}

/* The block of a matrix (rows, columns) that a part computes: some columns, if the call is split by
   them, so that one part alone touches an element of B; else some rows, or if there are too few of
   these, columns. */
static inline struct area block_of_part(const struct context *ctx, int64_t rows, int64_t columns,
                                        int64_t part, int64_t parts)
{
    if (ctx->split == SPLIT_columns || rows < MR * parts) {
        const struct range j = columns_of_part(columns, part, parts);
        return (struct area){0, rows, j.begin, j.end};
    }
    const struct range i = share_of(rows, MR, part, parts);
    return (struct area){i.begin, i.end, 0, columns};
}

/* The block of a value (m, columns) that a part computes: its rows, or its columns. */
static inline struct area rows_or_columns(const struct context *ctx, int64_t columns, int64_t part,
                                          int64_t parts)
{
    if (ctx->split == SPLIT_columns) {
        const struct range j = columns_of_part(columns, part, parts);
        return (struct area){0, ctx->m, j.begin, j.end};
    }
    const struct range i = rows_of_part(ctx, part, parts);
    return (struct area){i.begin, i.end, 0, columns};
}
