/* The parallel launcher, for all levels and types alike. */

#ifndef FASTNN_LAUNCHER_H
#define FASTNN_LAUNCHER_H

#include "fastnn.h"

/* Run the parts of a leaf on the threads of the pool; the sum of their statuses. */
int64_t fastnn_launch(leaf_function *leaf, struct context *ctx, int64_t parts);

/* How many threads the calls from this thread may use; returns how many they could until now. */
int fastnn_use_threads(int threads);

/* Call a leaf for one part; note its status, and that and where it ran. */
static inline void run_part(leaf_function *leaf, struct context *ctx, int64_t part, int64_t parts,
                            int64_t thread)
{
    ctx->ran[part]++;
    ctx->ran_on[part] = thread;
    ctx->statuses[part] = leaf(ctx, part, parts);
}

/* 0 if every part succeeded. */
static inline int64_t sum_of_statuses(const struct context *ctx, int64_t parts)
{
    int64_t status = 0;
    for (int64_t part = 0; part < parts; part++) status += ctx->statuses[part];
    return status;
}

/* The same without a pool. */
static inline int64_t run_parts_in_a_loop(leaf_function *leaf, struct context *ctx, int64_t parts)
{
    for (int64_t part = 0; part < parts; part++) run_part(leaf, ctx, part, parts, -1);
    return sum_of_statuses(ctx, parts);
}

#endif
