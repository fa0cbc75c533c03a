/* The operations: one header each, which ends with the list of its functions.

   A new operation is its header, and a line in each of the two lists below. */

#include "dense.h"
#include "activation.h"
#include "softmax.h"
#include "residual.h"
#include "prelu.h"
#include "dropout.h"
#include "gaussian_noise.h"
#include "embedding.h"
#include "batch_norm.h"
#include "group_norm.h"
#include "scale.h"
#include "maxout.h"
#include "loss.h"
#include "custom_loss.h"
#include "elementwise_loss.h"
#include "likelihood_loss.h"

#define OPERATION_SYMBOLS                                                                         \
    DENSE_SYMBOLS                                                                                 \
    ACTIVATION_SYMBOLS                                                                            \
    SOFTMAX_SYMBOLS                                                                               \
    RESIDUAL_SYMBOLS                                                                              \
    PRELU_SYMBOLS                                                                                 \
    DROPOUT_SYMBOLS                                                                               \
    GAUSSIAN_NOISE_SYMBOLS                                                                        \
    EMBEDDING_SYMBOLS                                                                             \
    BATCH_NORM_SYMBOLS                                                                            \
    GROUP_NORM_SYMBOLS                                                                            \
    SCALE_SYMBOLS                                                                                 \
    MAXOUT_SYMBOLS                                                                                \
    LOSS_SYMBOLS                                                                                  \
    ELEMENTWISE_LOSS_SYMBOLS                                                                      \
    LIKELIHOOD_LOSS_SYMBOLS                                                                       \
    CUSTOM_LOSS_SYMBOLS
