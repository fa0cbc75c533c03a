/* A user's loss, called by its address ctx->user_loss: one of two functions.

   A compiled one is called for the rows of each part. It reads the targets y and the outputs
   a (rows, n), and writes the loss of each row and da = d loss / d a (rows, n).

   One in Python is called alone, for all rows of a batch; it knows where the batch's arrays are. It
   takes Python's lock itself. STATUS_STOPPED says that it raised an exception. */

typedef int64_t user_loss(const real *y, const real *a, real *da, double *loss, int64_t rows,
                          int64_t n);
typedef int64_t user_loss_alone(int64_t rows);

/* The user's loss of some rows of the batch, and its derivative. */
static int64_t call_user_loss(const struct context *ctx, struct range some)
{
    const struct op *op = ctx->op;
    const int64_t n = op->n_in, rows = some.end - some.begin, at = some.begin * n;
    double *loss = ctx->row_loss + some.begin;
    if (ctx->split != SPLIT_alone)
        return ((user_loss *)ctx->user_loss)(buffer(ctx, ctx->targets) + at,
                                             buffer(ctx, op->x) + at, buffer(ctx, op->dx) + at,
                                             loss, rows, n);
    loss[0] = (double)NAN; /* what it stays if the call itself fails */
    const uint64_t before = keep_denormals();
    const int64_t status = ((user_loss_alone *)ctx->user_loss)(rows);
    restore_denormals(before);
    return status;
}

/* The weighted losses, and da = scale weight dC/da, turned into dz of the operation below. */
static int64_t custom_loss(struct context *ctx, int64_t part, int64_t parts)
{
    const struct op *op = ctx->op;
    const struct range mine = rows_of_part(ctx, part, parts);
    const int64_t n = op->n_in;
    real *da = buffer(ctx, op->dx);
    if (mine.begin == mine.end) return STATUS_OK;
    const int64_t status = call_user_loss(ctx, mine);
    if (status != STATUS_OK) return status;
    for (int64_t i = mine.begin; i < mine.end; i++) {
        const double weight = weight_of(ctx, i);
        const vec factor = set((real)(ctx->scale * weight));
        ctx->row_loss[i] = ctx->row_loss[i] * weight;
        FOR_VECTORS(j, some, n, put(da + i * n + j, factor * take(da + i * n + j, some), some););
    }
    apply_derivative(ctx, op->below, da, n, mine);
    return STATUS_OK;
}

#define CUSTOM_LOSS_SYMBOLS SYMBOL(custom_loss)
