/* The operations: one header each, which ends with the list of its functions.

   A new operation is its header, and a line in each of the two lists below. */

#include "dense.h"
#include "activation.h"
#include "softmax.h"
#include "residual.h"
#include "prelu.h"
#include "group_norm.h"
#include "scale.h"
#include "maxout.h"
#include "loss.h"

#define OPERATION_SYMBOLS                                                                         \
    DENSE_SYMBOLS                                                                                 \
    ACTIVATION_SYMBOLS                                                                            \
    SOFTMAX_SYMBOLS                                                                               \
    RESIDUAL_SYMBOLS                                                                              \
    PRELU_SYMBOLS                                                                                 \
    GROUP_NORM_SYMBOLS                                                                            \
    SCALE_SYMBOLS                                                                                 \
    MAXOUT_SYMBOLS                                                                                \
    LOSS_SYMBOLS
