/* The matrix product that every dense row is made of.

   All three products of a dense row, X W, Xt dZ and dZ Wt, are calls of one function. It reads its
   left operand element by element, so that operand's strides are free and X need not be
   transposed; its right operand and its result are read along their rows. Each element of the
   result is a chain of fused multiply-adds over ascending k, whatever the tile it falls into, so a
   row of a forward pass has the same bits alone and in any batch. */

enum {
    DEPTH = 512,      /* steps of k between two passes over the result */
    FETCH_ROWS = 64,  /* with so few rows k is passed in halves */
    NEAR_ROWS = 128,  /* rows that meet every panel of b before the next rows do */
    /* A result of more elements does not stay in the second cache: its next tile is asked for
       ahead, unless a tile has fewer steps and is done before the memory could answer. */
    FAR = 1 << 17,
    FETCH_DEPTH = 128,
    BLOCK_ROWS = 1024, /* the block of a result that one call computes: rows, and ... */
    BLOCK_PANELS = 16, /* ... panels of TILE_WIDTH vectors */
    PANEL = TILE_WIDTH * LANES,
    BLOCK_COLUMNS = BLOCK_PANELS * PANEL,
    GROUP = LANES + 0 > TILE_ROWS + 0 ? LANES + 0 : TILE_ROWS + 0, /* rows of a that are packed together */
};

/* How a panel meets its columns of b: where they are; copying them together on the way, if they
   lie far apart; as copied before, for the rows above. */
enum { IN_PLACE, COPIES, COPIED };

/* What the panels of a product share; c, first, b and pack are those of the panel. */
struct panel {
    real *c;
    int64_t c_row;
    const real *first;
    int64_t first_row;
    const real *a;
    int64_t a_row, a_k;
    const real *a_pack; /* the first `packed` rows of a, as pack_rows left them */
    int64_t packed;
    const real *b;
    int64_t b_row, rows, depth, columns, adds;
    real *pack;
    int state;
    bool far;
};

/* The product for one panel of columns: `width` vectors, or with `masked` a part of one. */
INLINE void panel(const int width, const bool masked, const struct panel *p)
{
    const bool copied = width > 1 && p->state == COPIED;
    const real *b = copied ? p->pack : p->b;
    int64_t b_row = copied ? width * LANES : p->b_row;
    /* All tiles together ask for the next panel once: as copied, or line by line where it is. It
       is only asked for, and may lie outside of everything. */
    real *ahead = (real *)p->b + (masked ? 0 : width * LANES);
    int64_t ahead_row = p->b_row;
    const int64_t share_of_next = width * LANES * TILE_ROWS / p->rows;
    int64_t i = 0;
    for (; i + TILE_ROWS <= p->rows; i += TILE_ROWS) {
        real *c = p->c + i * p->c_row;
        const real *first = p->first + i * p->first_row, *a = p->a + i * p->a_row;
        int64_t a_row = p->a_row, a_k = p->a_k;
        if (i < p->packed) {
            a = p->a_pack + (i / GROUP * DEPTH * GROUP + i % GROUP);
            a_row = 1;
            a_k = GROUP;
        }
        const real *next_c = c;
        if (p->far)
            next_c = i + 2 * TILE_ROWS <= p->rows ? c + TILE_ROWS * p->c_row : p->c + width * LANES;
        if (width > 1 && p->state == COPIES && i == 0) {
            tile(TILE_ROWS, width, false, true, false, c, p->c_row, first, p->first_row, a, a_row,
                 a_k, b, b_row, p->depth, p->columns, p->adds, p->pack, 0, next_c);
            b = p->pack;
            b_row = width * LANES;
        } else {
            real *other = ahead + i / TILE_ROWS % width * LANES;
            int64_t other_row = ahead_row;
            if (copied) {
                other = p->pack + width * LANES * DEPTH + i / TILE_ROWS * p->depth * share_of_next;
                other_row = share_of_next;
            }
            tile(TILE_ROWS, width, masked, false, true, c, p->c_row, first, p->first_row, a, a_row,
                 a_k, b, b_row, p->depth, p->columns, p->adds, other, other_row, next_c);
            if (i >= width * TILE_ROWS) ahead_row = 0;
        }
    }
#define REST(height)                                                                              \
    tile(height, width, masked, false, false, p->c + i * p->c_row, p->c_row,                      \
         p->first + i * p->first_row, p->first_row, p->a + i * p->a_row, p->a_row, p->a_k, b,     \
         b_row, p->depth, p->columns, p->adds, ahead, 0, p->c);                                   \
    i += height
    if (TILE_ROWS > 4 && p->rows - i >= 4) {
        REST(4);
    }
    if (p->rows - i >= 2) {
        REST(2);
    }
    if (p->rows - i >= 1) {
        REST(1);
    }
#undef REST
}

NOINLINE void panel_of_3(const struct panel *p) { panel(3, false, p); }
NOINLINE void panel_of_2(const struct panel *p) { panel(2, false, p); }
NOINLINE void panel_of_1(const struct panel *p) { panel(1, false, p); }
NOINLINE void panel_of_part(const struct panel *p) { panel(1, true, p); }

/* Copy `rows` rows of a, in groups whose columns then lie one after another.

   to[i*DEPTH + k*GROUP + r] = a[i + r + k*a_k] for i = 0, GROUP, ..., r < GROUP, k < depth. */
static inline void pack_rows(real *to, const real *a, int64_t a_k, int64_t rows, int64_t depth)
{
    for (int64_t i = 0; i < rows; i += GROUP)
        for (int64_t k = 0; k < depth; k++)
            memcpy(to + i * DEPTH + k * GROUP, a + i + k * a_k, GROUP * sizeof(real));
}

/* c[i, j] = first[i, j] + sum over k of a[i, k] b[k, j], for i < rows, k < depth, j < columns.

   The sum is a chain over ascending k that starts from `first`. If `adds` is 1, its end is added
   to c; then depth is DEPTH at most.

   c_row, b_row  elements from one row of c or b to the next
   first_row     the same for first; 0 repeats one row
   a_row, a_k    elements from a[i, k] to a[i+1, k] and to a[i, k+1]; one of them is 1
   pack          PACK_BYTES of room; columns is BLOCK_COLUMNS at most
   Reads a, b, first and c; writes c and pack; c may overlap first, but not a or b. */
static void product(real *c, int64_t c_row, const real *first, int64_t first_row, const real *a,
                    int64_t a_row, int64_t a_k, const real *b, int64_t b_row, int64_t rows,
                    int64_t depth, int64_t columns, int64_t adds, real *pack)
{
    real *a_pack = pack + DEPTH * BLOCK_COLUMNS;
    const bool packs = columns >= 4 * PANEL && a_k != 1;
    const bool copies = rows >= 3 * TILE_ROWS && b_row > PANEL;
    const bool far = rows * c_row > FAR && depth >= FETCH_DEPTH;
    const int64_t deep = rows <= FETCH_ROWS && !adds ? DEPTH / 2 : DEPTH;
    for (int64_t k = 0; k == 0 || k < depth; k += deep) {
        const int64_t some = smaller_of(deep, depth - k);
        for (int64_t i = 0; i < rows; i += NEAR_ROWS) {
            struct panel p = {
                .c_row = c_row, .first_row = first_row, .a = a + i * a_row + k * a_k,
                .a_row = a_row, .a_k = a_k, .a_pack = a_pack, .b_row = b_row,
                .rows = smaller_of(NEAR_ROWS, rows - i), .depth = some, .adds = adds,
                .state = !copies ? IN_PLACE : i == 0 ? COPIES : COPIED, .far = far,
            };
            p.packed = packs ? p.rows / GROUP * GROUP : 0;
            pack_rows(a_pack, p.a, a_k, p.packed, some);
            for (int64_t j = 0; j < columns;) {
                const int64_t left = columns - j;
                p.c = c + i * c_row + j;
                p.first = first + i * first_row + j;
                p.b = b + k * b_row + j;
                p.pack = pack + j * DEPTH;
                p.columns = left;
                if (left >= 3 * LANES && left != 4 * LANES) {
                    panel_of_3(&p);
                    j += 3 * LANES;
                } else if (left >= 2 * LANES) {
                    panel_of_2(&p);
                    j += 2 * LANES;
                } else if (left >= LANES) {
                    panel_of_1(&p);
                    j += LANES;
                } else {
                    panel_of_part(&p);
                    j += LANES;
                }
            }
        }
        first = c;
        first_row = c_row;
    }
}

/* The panels' room of a part. */
INLINE real *pack_of(const struct context *ctx, int64_t part)
{
    return (real *)(ctx->pack + part * PACK_BYTES);
}

struct area {
    int64_t i, i_end, j, j_end;
};

/* The part of a result (rows, columns) that a part computes.

   By columns where there are enough for wide panels, so that each element of b is read by one part
   only; else by rows; a matrix with few of both by columns again. */
static inline struct area share_of_matrix(int64_t rows, int64_t columns, int64_t part,
                                          int64_t parts)
{
    if (columns >= 2 * PANEL * parts || rows < TILE_ROWS * parts) {
        const int64_t step = columns >= 8 * PANEL * parts ? PANEL : LANES;
        return (struct area){0, rows, share(columns, step, part, parts),
                             share(columns, step, part + 1, parts)};
    }
    return (struct area){share(rows, TILE_ROWS, part, parts),
                         share(rows, TILE_ROWS, part + 1, parts), 0, columns};
}

/* A block at the edge of a matrix. */
NOINLINE void transpose_part(real *target, int64_t target_row, const real *source,
                             int64_t source_row, int64_t height, int64_t width)
{
    transpose_block(target, target_row, source, source_row, height, width);
}

/* target[j, i] = source[i, j] for i < rows, j < columns. */
static void transpose(real *target, int64_t target_row, const real *source, int64_t source_row,
                      int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i += LANES)
        for (int64_t j = 0; j < columns; j += LANES) {
            real *to = target + j * target_row + i;
            const real *from = source + i * source_row + j;
            const int64_t height = smaller_of(LANES, rows - i);
            const int64_t width = smaller_of(LANES, columns - j);
            if (height == LANES && width == LANES)
                transpose_block(to, target_row, from, source_row, LANES, LANES);
            else
                transpose_part(to, target_row, from, source_row, height, width);
        }
}
