/* Maxout: a_j = the largest x_(k n + j) over the pieces k. (I. Goodfellow et al., 2013.)

   The first of equal pieces wins. A NaN in any piece makes a NaN, and then no piece has a
   gradient. */

/* The largest of all pieces of n units from x on; columns of a piece are `units` apart. */
INLINE vec largest_piece(const real *x, int64_t pieces, int64_t units, int64_t n)
{
    vec best = take(x, n);
    for (int64_t k = 1; k < pieces; k++) {
        const vec piece = take(x + k * units, n);
        const vec other = choose(at_most(piece, piece), best, piece);
        best = choose(less(best, piece), piece, other);
    }
    return best;
}

/* a = the largest piece; x is (m, pieces n) and a is (m, n); split by rows of the batch. */
static int64_t maxout_forward(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t units = op->n_out, pieces = (int64_t)op->arg1;
    const struct range mine = rows_of_part(ctx, part, parts);
    for (int64_t i = mine.begin; i < mine.end; i++) {
        const real *x = buffer(ctx, op->x) + i * op->n_in;
        real *a = buffer(ctx, op->a) + i * units;
        FOR_VECTORS(j, n, units, put(a + j, largest_piece(x + j, pieces, units, n), n););
    }
    return STATUS_OK;
}

/* dx = da for the piece that won and 0 for the others, or dx + that, then times the derivative
   below by the epilogue; x and dx are (m, pieces n), da is (m, n); split by rows of the batch. */
static int64_t maxout_inputs(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t units = op->n_out, pieces = (int64_t)op->arg1;
    const struct range mine = rows_of_part(ctx, part, parts);
    const vec zero = set(0);
    for (int64_t i = mine.begin; i < mine.end; i++) {
        const real *x = buffer(ctx, op->x) + i * op->n_in, *da = buffer(ctx, op->da) + i * units;
        real *dx = buffer(ctx, op->dx) + i * op->n_in;
        FOR_VECTORS(j, n, units, const vec best = largest_piece(x + j, pieces, units, n);
                    vec left = take(da + j, n);
                    for (int64_t at = j; at < op->n_in; at += units) {
                        const mask wins = at_most(best, take(x + at, n));
                        put_or_add(dx + at, choose(wins, left, zero), n, op->adds);
                        left = choose(wins, zero, left);
                    });
    }
    apply_derivative(ctx, op->below, buffer(ctx, op->dx), op->n_in, mine);
    return STATUS_OK;
}

#define MAXOUT_SYMBOLS                                                                            \
    SYMBOL(maxout_forward)                                                                        \
    SYMBOL(maxout_inputs)
