/* The parallel launcher, for all levels and types alike. */

#ifndef FASTNN_LAUNCHER_H
#define FASTNN_LAUNCHER_H

#include "fastnn.h"

/* Run the parts of a kernel on the threads of the pool; returns the largest of their statuses. */
int64_t fastnn_launch(kernel_function *kernel, struct context *ctx, int64_t parts);

/* Limit the calls from this thread to so many threads; returns the limit before. */
int fastnn_use_threads(int threads);

/* Call a kernel for one part; note its status, how often it ran, and where. Returns the status. */
static inline int64_t run_part(kernel_function *kernel, struct context *ctx, int64_t part,
                               int64_t parts, int64_t thread)
{
    ctx->ran[part]++;
    ctx->ran_on[part] = thread;
    const int64_t status = kernel(ctx, part, parts);
    ctx->statuses[part] = status;
    return status;
}

/* The largest status of the parts: STATUS_OK if every one succeeded. */
static inline int64_t worst_status(const struct context *ctx, int64_t parts)
{
    int64_t worst = STATUS_OK;
    for (int64_t part = 0; part < parts; part++)
        if (ctx->statuses[part] > worst) worst = ctx->statuses[part];
    return worst;
}

/* fastnn_launch without a pool. */
static inline int64_t run_parts_in_a_loop(kernel_function *kernel, struct context *ctx,
                                          int64_t parts)
{
    int64_t worst = STATUS_OK;
    for (int64_t part = 0; part < parts; part++) {
        const int64_t status = run_part(kernel, ctx, part, parts, -1);
        if (status > worst) worst = status;
    }
    return worst;
}

#endif
