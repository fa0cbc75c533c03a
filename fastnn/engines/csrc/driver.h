/* The driver walks a bound program over a range of minibatches.

   A leaf sees (context, part, parts) and does its share; whether the parts run side by side or one
   after another cannot change a bit of the result. */

/* Walks the program within its floating-point mode. */
static int64_t run_batches(struct context *ctx, const struct call *calls, int64_t n_calls,
                           int64_t first, int64_t last)
{
    for (int64_t batch = first; batch < last; batch++) {
        ctx->start = batch * ctx->batch_size;
        ctx->m = smaller_of(ctx->batch_size, ctx->n_samples - ctx->start);
        ctx->mass = (double)ctx->m;
        ctx->scale = ctx->mean ? 1.0 / (double)ctx->m : 1.0;
        ctx->input = ctx->gathers ? (real *)ctx->work + ctx->gather * ctx->capacity
                                  : (real *)ctx->X + ctx->start * ctx->n_inputs;
        for (const struct call *call = calls; call < calls + n_calls; call++) {
            ctx->row = ctx->rows + call->row;
            ctx->inner = call->inner;
            const double work = call->fixed + call->per_row * (double)ctx->m;
            int64_t parts = smaller_of(ctx->parts, MOST_PARTS);
            if (work < (double)parts * ctx->grain)
                parts = larger_of(1, (int64_t)(work / ctx->grain));
            const int64_t status = parts > 1 && ctx->launch
                                       ? ctx->launch(call->leaf, ctx, parts)
                                       : run_parts_in_a_loop(call->leaf, ctx, parts);
            if (status != STATUS_OK) return status;
        }
        ctx->hyper += HYPER_COLUMNS;
        ctx->result += 2;
    }
    return STATUS_OK;
}

/* Run a program on the batches first, ..., last-1, with denormal numbers taken for zeros.

   ctx     the context; its per-call and per-batch fields are written here
   calls   n_calls entries
   Returns STATUS_OK, or the status of the first call that failed; then ctx->start tells the batch.
   hyper and result must point at the row of batch `first`, and move on with the batches. */
static int64_t drive(struct context *ctx, const struct call *calls, int64_t n_calls, int64_t first,
                     int64_t last)
{
    const uint64_t before = flush_denormals();
    const int64_t status = run_batches(ctx, calls, n_calls, first, last);
    restore_denormals(before);
    return status;
}
