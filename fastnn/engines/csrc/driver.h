/* The driver runs a bound program over a range of minibatches, on one thread or on several.

   A kernel sees (context, part, parts) and does its share. Every thread walks the whole program with
   a context of its own. How many threads and parts there are cannot change a bit of the result. */

/* Set the fields of the context that belong to a batch. No batch has rows of two epochs. */
static void begin_batch(struct context *ctx, int64_t batch)
{
    ctx->start = batch * ctx->batch_size;
    int64_t end = ctx->n_rows;
    if (ctx->batch_size <= ctx->epoch_rows && ctx->epoch_rows < ctx->n_rows) {
        const int64_t each = (ctx->epoch_rows + ctx->batch_size - 1) / ctx->batch_size;
        const int64_t epoch = batch / each;
        ctx->start = epoch * ctx->epoch_rows + (batch - epoch * each) * ctx->batch_size;
        end = (epoch + 1) * ctx->epoch_rows;
    }
    ctx->m = smaller_of(ctx->batch_size, end - ctx->start);
    ctx->weight_sum = ctx->accumulates ? ctx->total_weight : (double)ctx->m;
    ctx->scale = ctx->mean ? (ctx->weight_sum > 0.0 ? 1.0 / ctx->weight_sum : 0.0) : 1.0;
    ctx->penalty_scale = ctx->penalty_is_row ? ctx->scale
                         : ctx->accumulates  ? ctx->total_penalty
                         : ctx->mean         ? 1.0
                                             : (double)ctx->m / (double)ctx->epoch_rows;
    ctx->input = ctx->gathers ? (real *)ctx->work + ctx->gathered * ctx->capacity
                              : (real *)ctx->X + ctx->start * ctx->n_inputs;
}

/* A thread on its way through a run. */
struct walker {
    int64_t thread, threads;
    struct range parts; /* its parts of every split call */
    int64_t met;        /* meetings so far */
    int64_t ran;        /* split calls so far */
    int64_t status;     /* the worst so far */
};

/* Run a thread's share of one call; returns the worst status. */
static int64_t run_call(struct context *ctx, const struct call *call, struct walker *walker)
{
    ctx->op = ctx->ops + call->op;
    ctx->inner = call->inner;
    ctx->split = call->split;
    if (call->split == SPLIT_alone) return walker->thread ? STATUS_OK : call->kernel(ctx, 0, 1);
    if (call->split == SPLIT_each) return call->kernel(ctx, walker->thread, walker->threads);
    int64_t worst = STATUS_OK;
    for (int64_t part = walker->parts.begin; part < walker->parts.end; part++)
        worst = larger_of(worst, call->kernel(ctx, part, ctx->parts));
    walker->ran++;
    return worst;
}

/* Note a status that is not OK. The others learn of it at the next meeting; until then this thread
   only comes to the meetings. */
static void fail(const struct context *ctx, struct walker *walker, int64_t status)
{
    walker->status = status;
    if (walker->thread == 0) ctx->team->start = ctx->start;
    if (walker->threads > 1) atomic_store(&ctx->team->failed, 1);
}

/* Walk the program over all batches. */
static void walk_batches(struct context *ctx, struct walker *walker)
{
    const struct call *end = ctx->calls + ctx->n_calls;
    const bool several = walker->threads > 1;
    for (int64_t batch = ctx->first; batch < ctx->last; batch++) {
        const int64_t rows = ctx->m;
        begin_batch(ctx, batch);
        /* With another number of rows each thread has others than in the batch before. */
        const bool resized = several && batch > ctx->first && ctx->m != rows;
        if (resized && meet(ctx->team, walker->threads, &walker->met)) return;
        for (const struct call *call = ctx->calls; call < end; call++) {
            if (several && call->meets && meet(ctx->team, walker->threads, &walker->met)) return;
            if (several && walker->status != STATUS_OK) continue;
            const int64_t status = run_call(ctx, call, walker);
            if (status == STATUS_OK) continue;
            fail(ctx, walker, status);
            if (!several) return;
        }
        if (ctx->accumulates) continue;
        ctx->hyper += ctx->hyper_columns;
        ctx->result += 2;
        ctx->step++;
    }
}

/* What every thread of a run calls: its share of all batches; returns its status. */
static int64_t walk(struct context *shared, int64_t thread, int64_t threads)
{
    struct context mine = *shared;
    struct walker walker = {.thread = thread, .threads = threads};
    if (threads > 1) walker.threads = join_team(mine.team, threads);
    if (walker.threads == 0) return STATUS_OK;
    if (walker.threads == 1) walker.thread = 0;
    walker.parts = share_of(mine.parts, 1, walker.thread, walker.threads);
    walk_batches(&mine, &walker);
    for (int64_t part = walker.parts.begin; part < walker.parts.end; part++) {
        mine.ran[part] += walker.ran;
        mine.ran_on[part] = walker.threads > 1 ? walker.thread : -1;
    }
    if (walker.thread == 0) {
        mine.team->hyper = mine.hyper;
        mine.team->result = mine.result;
        mine.team->step = mine.step;
        mine.team->threads = walker.threads;
    }
    return walker.status;
}

/* Run a program on the batches first, ..., last-1, with denormals flushed to zero.

   ctx     the context; its threads become those that ran
   calls   n_calls entries
   Returns STATUS_OK, or the worst status; if the loss is not finite, ctx->start is its batch's.
   hyper, result and step must be those of batch `first`; they advance with the batches, unless
   these are pieces of one. */
static int64_t drive(struct context *ctx, const struct call *calls, int64_t n_calls, int64_t first,
                     int64_t last)
{
    const uint64_t before = flush_denormals();
    ctx->calls = calls;
    ctx->n_calls = n_calls;
    ctx->first = first;
    ctx->last = last;
    int64_t status;
    if (ctx->threads > 1 && ctx->launch) {
        reset_team(ctx->team);
        status = ctx->launch(walk, ctx, ctx->threads);
    } else {
        status = walk(ctx, 0, 1);
    }
    ctx->hyper = ctx->team->hyper;
    ctx->result = ctx->team->result;
    ctx->step = ctx->team->step;
    ctx->threads = ctx->team->threads;
    if (status != STATUS_OK) ctx->start = ctx->team->start;
    restore_denormals(before);
    return status;
}
