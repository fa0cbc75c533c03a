/* Embedding: columns of whole numbers are replaced by rows of learned tables. */

/* An embedded column, and the place of its table. */
struct embedded {
    int64_t column, n_values, dim;
    int64_t at; /* of the table (n_values, dim) in the flat vector */
};

/* Embedded column number `index`, given the one before it. */
INLINE struct embedded next_embedded(const struct context *ctx, int64_t index,
                                     struct embedded before)
{
    const double *numbers = ctx->constants + ctx->op->constants + 3 * index;
    return (struct embedded){(int64_t)numbers[0], (int64_t)numbers[1], (int64_t)numbers[2],
                             index ? before.at + before.n_values * before.dim : ctx->op->w};
}

/* The row of a table that x names, or -1 if there is none. */
INLINE int64_t row_of_table(const struct embedded *e, const real *x)
{
    const real value = x[e->column];
    return value >= 0 && value < (real)e->n_values ? (int64_t)value : -1;
}

/* a = the other columns of x, then a row of each table; split by rows of the batch.

   x (m, n_in), a (m, n_out). */
static int64_t embedding_forward(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n_in = op->n_in, n_tables = (int64_t)op->arg0;
    const real *params = ctx->params;
    const struct range mine = rows_of_part(ctx, part, parts);
    const real *x = buffer(ctx, op->x) + mine.begin * n_in;
    real *a = buffer(ctx, op->a) + mine.begin * op->n_out;
    for (int64_t i = mine.begin; i < mine.end; i++, x += n_in) {
        struct embedded e = {0};
        int64_t from = 0;
        for (int64_t t = 0; t < n_tables; t++, from = e.column + 1) {
            e = next_embedded(ctx, t, e);
            copy_to(a, x + from, e.column - from);
            a += e.column - from;
        }
        copy_to(a, x + from, n_in - from);
        a += n_in - from;
        for (int64_t t = 0; t < n_tables; t++, a += e.dim) {
            e = next_embedded(ctx, t, e);
            const int64_t row = row_of_table(&e, x);
            if (row < 0) return STATUS_BAD_INDEX;
            copy_to(a, params + e.at + row * e.dim, e.dim);
        }
    }
    return STATUS_OK;
}

/* dE of every table: row v is the sum, in order, of the rows of da whose x is v.

   x (m, n_in), da (m, n_out); split by rows of each table. */
static int64_t embedding_tables(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const int64_t n_in = op->n_in, n_out = op->n_out, n_tables = (int64_t)op->arg0;
    struct embedded e = {0};
    int64_t before = n_in - n_tables; /* columns of a before those of the table */
    for (int64_t t = 0; t < n_tables; t++, before += e.dim) {
        e = next_embedded(ctx, t, e);
        const struct range mine = share_of(e.n_values, 1, part, parts);
        real *gradient = (real *)ctx->grad + e.at;
        if (!is_continued(ctx) && mine.end > mine.begin)
            memset(gradient + mine.begin * e.dim, 0,
                   (size_t)((mine.end - mine.begin) * e.dim) * sizeof(real));
        const real *x = buffer(ctx, op->x), *da = buffer(ctx, op->da) + before;
        for (int64_t i = 0; i < ctx->m; i++, x += n_in, da += n_out) {
            const int64_t row = row_of_table(&e, x);
            if (row >= mine.begin && row < mine.end) add_to(gradient + row * e.dim, da, e.dim);
        }
    }
    return STATUS_OK;
}

#define EMBEDDING_SYMBOLS                                                                         \
    SYMBOL(embedding_forward)                                                                     \
    SYMBOL(embedding_tables)
