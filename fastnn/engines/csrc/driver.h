/* The driver walks a bound program over a range of minibatches.

   A kernel sees (context, part, parts) and does its share. Whether the parts run side by side or
   one after another cannot change a bit of the result. */

/* Set the fields of the context that belong to a batch. */
static void begin_batch(struct context *ctx, int64_t batch)
{
    ctx->start = batch * ctx->batch_size;
    ctx->m = smaller_of(ctx->batch_size, ctx->n_rows - ctx->start);
    ctx->weight_sum = ctx->accumulates ? ctx->total_weight : (double)ctx->m;
    ctx->scale = ctx->mean ? (ctx->weight_sum > 0.0 ? 1.0 / ctx->weight_sum : 0.0) : 1.0;
    ctx->penalty_scale = ctx->accumulates ? ctx->total_penalty
                         : ctx->mean      ? 1.0
                                          : (double)ctx->m / (double)ctx->n_rows;
    ctx->input = ctx->gathers ? (real *)ctx->work + ctx->gathered * ctx->capacity
                              : (real *)ctx->X + ctx->start * ctx->n_inputs;
}

/* Run one call in as many parts as it is worth. */
static int64_t run_call(struct context *ctx, const struct call *call)
{
    const double work = call->fixed + call->per_row * (double)ctx->m;
    int64_t parts = smaller_of(ctx->parts, MOST_PARTS);
    if (work < (double)parts * ctx->grain) parts = larger_of(1, (int64_t)(work / ctx->grain));
    ctx->op = ctx->ops + call->op;
    ctx->inner = call->inner;
    return parts > 1 && ctx->launch ? ctx->launch(call->kernel, ctx, parts)
                                    : run_parts_in_a_loop(call->kernel, ctx, parts);
}

/* Walk the program, with denormals flushed already. */
static int64_t run_batches(struct context *ctx, const struct call *calls, int64_t n_calls,
                           int64_t first, int64_t last)
{
    for (int64_t batch = first; batch < last; batch++) {
        begin_batch(ctx, batch);
        for (const struct call *call = calls; call < calls + n_calls; call++) {
            const int64_t status = run_call(ctx, call);
            if (status != STATUS_OK) return status;
        }
        if (ctx->accumulates) continue;
        ctx->hyper += ctx->hyper_columns;
        ctx->result += 2;
        ctx->step++;
    }
    return STATUS_OK;
}

/* Run a program on the batches first, ..., last-1, with denormals flushed to zero.

   ctx     the context; its per-call and per-batch fields are written here
   calls   n_calls entries
   Returns STATUS_OK, or the status of the first call that failed; ctx->start is then that batch's.
   hyper, result and step must be those of batch `first`; they advance with the batches, unless
   these are pieces of one. */
static int64_t drive(struct context *ctx, const struct call *calls, int64_t n_calls, int64_t first,
                     int64_t last)
{
    const uint64_t before = flush_denormals();
    const int64_t status = run_batches(ctx, calls, n_calls, first, last);
    restore_denormals(before);
    return status;
}
