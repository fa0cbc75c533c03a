/* The launcher, for all levels and types alike. */

#ifndef FASTNN_LAUNCHER_H
#define FASTNN_LAUNCHER_H

#include "fastnn.h"

/* Call a function with (context, thread, threads) on so many threads of the pool side by side, or
   on as many as it has; returns the largest status. */
int64_t fastnn_launch(kernel_function *function, struct context *ctx, int64_t threads);

#endif
