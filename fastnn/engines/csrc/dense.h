/* The dense operation, z = x W + b and a = act(z). */

#include "normalise.h"
#include "penalties.h"

/* The biases from column j on; zeros if there are none. */
INLINE const real *biases_at(const struct context *ctx, int64_t j)
{
    if (ctx->op->b == NONE) return ctx->zeros;
    return (const real *)ctx->params + ctx->op->b + j;
}

/* How many of some rows of a product with k steps are computed before their epilogue.

   Where B stays in L1, so few that their part of C does too. */
INLINE int64_t rows_of_block(const struct context *ctx, int64_t rows, int64_t columns, int64_t k)
{
    const bool is_small = rows * columns <= L1_ELEMENTS; /* spares small networks the division */
    const bool passes = ctx->inner || ctx->op->fold != NONE;
    if (!passes || is_small || k * columns > L1_ELEMENTS) return BLOCK_ROWS;
    return larger_of(4 * MR, L1_ELEMENTS / columns / MR * MR);
}

/* z = x W + b, then a = act(z) by the epilogue, block by block. An operation that is folded in is
   computed before that, or after it if arg3 is not 0.

   x (m, n_in), W (n_in, n_out), b (n_out); writes z and a (m, n_out). */
static int64_t dense_forward(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n_in = op->n_in, n_out = op->n_out;
    const real *x = buffer(ctx, op->x), *w = (const real *)ctx->params + op->w;
    real *z = buffer(ctx, op->z), *a = buffer(ctx, op->a);
    const struct area mine = rows_or_columns(ctx, n_out, part, parts);
    for (int64_t j = mine.j; j < mine.j_end; j += NC) {
        const int64_t columns = smaller_of(NC, mine.j_end - j);
        const int64_t most_rows = rows_of_block(ctx, mine.i_end - mine.i, columns, n_in);
        for (int64_t i = mine.i; i < mine.i_end; i += most_rows) {
            const int64_t rows = smaller_of(most_rows, mine.i_end - i), at = i * n_out + j;
            const struct gemm g = {
                .c = z + at, .c_row = n_out, .first = biases_at(ctx, j), .first_row = 0,
                .a = x + i * n_in, .a_row = n_in, .a_col = 1, .b = w + j, .b_row = n_out,
                .m = rows, .n = columns, .k = n_in, .adds = 0, .pack = pack_of(ctx, part),
            };
            product(&g);
            if (op->fold != NONE && op->arg3 == 0.0) normalise_block(ctx, z + at, rows, columns, j);
            if (op->z != op->a)
                for (int64_t r = 0; r < rows; r++)
                    copy_to(a + at + r * n_out, z + at + r * n_out, columns);
            epilogue(ctx, z + at, a + at, a + at, rows, columns, n_out, op);
            if (op->fold != NONE && op->arg3 != 0.0) normalise_block(ctx, a + at, rows, columns, j);
        }
    }
    return STATUS_OK;
}

/* Where the sums over the rows first, ..., last-1 of a batch go. */
struct gradient {
    real *dw, *db;       /* (n_in, n_out); (n_out,) or NULL */
    bool adds_w, adds_b; /* they are added to what dw and db hold */
    int64_t first, last;
};

/* The operation's part of the flat gradient, for all rows of the batch. A continued piece adds to
   it, and the first adds to the derivative of the penalties. */
static inline struct gradient gradient_of_batch(const struct context *ctx)
{
    const struct op *op = ctx->op;
    const bool continued = is_continued(ctx);
    return (struct gradient){
        .dw = (real *)ctx->grad + op->w,
        .db = op->b == NONE ? NULL : (real *)ctx->grad + op->b,
        .adds_w = continued || is_penalised(op), .adds_b = continued, .last = ctx->m,
    };
}

/* c[i, j] = sum of a[i, p] b[p, j] over the rows p = first, ..., last-1 of a batch.

   They are summed in blocks of KC, and the blocks in order. If g->adds, the first block is added
   to c too. Uses g->k; leaves the rest of g as it was. */
static void sum_over_rows(struct gemm *g, int64_t first, int64_t last)
{
    const real *a = g->a, *b = g->b;
    const int64_t adds = g->adds;
    for (int64_t p = first; p < last; p += KC) {
        g->a = a + p * g->a_col;
        g->b = b + p * g->b_row;
        g->k = smaller_of(KC, last - p);
        g->adds = adds || p > first;
        product(g);
    }
    g->a = a;
    g->b = b;
    g->adds = adds;
}

/* Whether a block of dW is computed as its transpose, which leaves fewer lanes idle, and that pays
   for transposing the block. */
static inline bool sums_transposed(int64_t rows, int64_t columns, int64_t depth)
{
    const int64_t direct = rows * whole_lanes(columns) * depth;
    const int64_t transposes = columns > 1 ? rows * columns * LANES : 0;
    return columns < PACKING_ROWS && columns * whole_lanes(rows) * depth + transposes < direct;
}

/* A block of dW (rows, columns) as the transpose of dWt = dzt x, from some rows of the batch.

   g is the product that computes the block itself. */
NOINLINE void transposed_weights_of_rows(struct gemm g, const struct gradient *to)
{
    const int64_t rows = g.m, columns = g.n, n_in = g.a_col, n_out = g.c_row;
    const real *x = g.a, *dz = g.b;
    real *dw = g.c, *dwt = g.pack; /* the room for B, which so few rows do not pack */
    const bool is_column = columns == 1 && n_out == 1; /* its own transpose */
    g.a = dz;
    g.a_col = n_out;
    g.b_row = n_in;
    g.m = columns;
    for (int64_t k = 0; k < rows; k += NC, dw += NC * n_out) {
        g.b = x + k;
        g.c_row = g.n = smaller_of(NC, rows - k);
        g.c = is_column ? dw : dwt;
        if (!is_column && g.adds) transpose(dwt, g.n, dw, n_out, g.n, columns);
        sum_over_rows(&g, to->first, to->last);
        if (!is_column) transpose(dw, n_out, dwt, g.n, columns, g.n);
    }
}

/* A block of dW, and with its first rows the same columns of db, from some rows of the batch. */
static void weights_of_rows(const struct context *ctx, int64_t part, const struct gradient *to,
                            struct area mine)
{
    const struct op *op = ctx->op;
    const int64_t n_in = op->n_in, n_out = op->n_out;
    const real *x = buffer(ctx, op->x), *dz = buffer(ctx, op->da);
    for (int64_t j = mine.j; j < mine.j_end; j += NC) {
        struct gemm g = {
            .c = NULL, .c_row = n_out, .first = ctx->zeros, .first_row = 0, .a = NULL, .a_row = 1,
            .a_col = n_in, .b = dz + j, .b_row = n_out, .m = 0,
            .n = smaller_of(NC, mine.j_end - j), .k = 0, .adds = to->adds_w,
            .pack = pack_of(ctx, part),
        };
        for (int64_t k = mine.i; k < mine.i_end; k += BLOCK_ROWS) {
            g.c = to->dw + k * n_out + j;
            g.a = x + k;
            g.m = smaller_of(BLOCK_ROWS, mine.i_end - k);
            if (sums_transposed(g.m, g.n, to->last - to->first))
                transposed_weights_of_rows(g, to);
            else
                sum_over_rows(&g, to->first, to->last);
        }
        if (mine.i == 0 && mine.i_end > 0 && to->db) {
            g.c = to->db + j;
            g.a = ctx->one;
            g.a_col = 0;
            g.m = 1;
            g.adds = to->adds_b;
            sum_over_rows(&g, to->first, to->last);
        }
    }
}

/* dW = xt dz and db = the column sums of dz, both summed over the rows of the batch.

   x (m, n_in), dz (m, n_out); writes the gradient's W (n_in, n_out) and b (n_out). dW begins with
   the derivative of the penalties. */
static int64_t dense_weights(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const struct area mine = block_of_part(ctx, op->n_in, op->n_out, part, parts);
    if (is_penalised(op) && !is_continued(ctx))
        penalty_derivative(ctx, mine.i * op->n_out + mine.j, mine.i_end - mine.i,
                           mine.j_end - mine.j);
    const struct gradient to = gradient_of_batch(ctx);
    weights_of_rows(ctx, part, &to, mine);
    return STATUS_OK;
}

#include "narrow.h"
#include "slabs.h"

/* Wt (n_out, n_in) into the scratch, so that dx can read it along its rows; split by rows of W. */
static int64_t transpose_weights(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n_in = op->n_in, n_out = op->n_out;
    const real *w = (const real *)ctx->params + op->w;
    real *wt = ctx->scratch;
    const struct range k = share_of(n_in, 16, part, parts);
    transpose(wt + k.begin, n_in, w + k.begin * n_out, n_out, k.end - k.begin, n_out);
    return STATUS_OK;
}

/* dx = dz Wt or dx + dz Wt, then times the derivative below by the epilogue, block by block.

   dz (m, n_out), Wt (n_out, n_in) in the scratch; writes dx (m, n_in). A sum starts with the old
   dx. */
static int64_t dense_inputs(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op, *below = ctx->ops + op->below;
    const int64_t n_in = op->n_in, n_out = op->n_out;
    const real *dz = buffer(ctx, op->da), *wt = ctx->scratch, *z = buffer(ctx, below->z);
    real *dx = buffer(ctx, op->dx), *a = buffer(ctx, below->a);
    const struct area mine = rows_or_columns(ctx, n_in, part, parts);
    for (int64_t k = mine.j; k < mine.j_end; k += NC) {
        const int64_t columns = smaller_of(NC, mine.j_end - k);
        const int64_t most_rows = rows_of_block(ctx, mine.i_end - mine.i, columns, n_out);
        for (int64_t i = mine.i; i < mine.i_end; i += most_rows) {
            const int64_t rows = smaller_of(most_rows, mine.i_end - i), at = i * n_in + k;
            const struct gemm g = {
                .c = dx + at, .c_row = n_in, .first = op->adds ? dx + at : (real *)ctx->zeros,
                .first_row = op->adds ? n_in : 0, .a = dz + i * n_out, .a_row = n_out, .a_col = 1,
                .b = wt + k, .b_row = n_in, .m = rows, .n = columns, .k = n_out, .adds = 0,
                .pack = pack_of(ctx, part),
            };
            product(&g);
            epilogue(ctx, z + at, a + at, dx + at, rows, columns, n_in, below);
        }
    }
    return STATUS_OK;
}

/* dzt (n_out, m) into the scratch, where dz and dx are smaller than W; split by columns of dz. */
static int64_t transpose_gradient(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n_out = op->n_out, m = ctx->m;
    const real *dz = buffer(ctx, op->da);
    real *dzt = ctx->scratch;
    const struct range j = share_of(n_out, 16, part, parts);
    transpose(dzt + j.begin * m, m, dz + j.begin, n_out, m, j.end - j.begin);
    return STATUS_OK;
}

/* dxt = W dzt, block by block transposed into dx and multiplied by the derivative below: the bits
   of dense_inputs, where nothing is added to dx.

   W (n_in, n_out), dzt (n_out, m) in the scratch, and dxt (n_in, m) behind it; writes dx
   (m, n_in). Split by rows of W. */
static int64_t dense_inputs_transposed(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op, *below = ctx->ops + op->below;
    const int64_t n_in = op->n_in, n_out = op->n_out, m = ctx->m;
    const real *w = (const real *)ctx->params + op->w, *z = buffer(ctx, below->z);
    const real *dzt = ctx->scratch;
    real *dxt = (real *)ctx->scratch + n_out * ctx->capacity;
    real *dx = buffer(ctx, op->dx), *a = buffer(ctx, below->a);
    const struct range mine = share_of(n_in, MR, part, parts);
    for (int64_t k = mine.begin; k < mine.end; k += BLOCK_ROWS) {
        const int64_t some = smaller_of(BLOCK_ROWS, mine.end - k);
        for (int64_t i = 0; i < m; i += NC) {
            const int64_t rows = smaller_of(NC, m - i), at = i * n_in + k;
            const struct gemm g = {
                .c = dxt + k * m + i, .c_row = m, .first = ctx->zeros, .first_row = 0,
                .a = w + k * n_out, .a_row = n_out, .a_col = 1, .b = dzt + i, .b_row = m,
                .m = some, .n = rows, .k = n_out, .adds = 0, .pack = pack_of(ctx, part),
            };
            product(&g);
            transpose(dx + at, n_in, g.c, m, some, rows);
            epilogue(ctx, z + at, a + at, dx + at, rows, some, n_in, below);
        }
    }
    return STATUS_OK;
}

#define DENSE_SYMBOLS                                                                             \
    SYMBOL(dense_forward)                                                                         \
    SYMBOL(narrow_forward)                                                                        \
    SYMBOL(dense_weights)                                                                         \
    SYMBOL(narrow_weights)                                                                        \
    SYMBOL(slab_weights)                                                                          \
    SYMBOL(add_slabs)                                                                             \
    SYMBOL(transpose_weights)                                                                     \
    SYMBOL(transpose_gradient)                                                                    \
    SYMBOL(dense_inputs)                                                                          \
    SYMBOL(dense_inputs_transposed)                                                               \
    SYMBOL(penalise)                                                                              \
    SYMBOL(add_penalty)                                                                           \
    SYMBOL(limit_norms)
