/* All functions for one level of vector instructions and one element type.

   A file of levels/ chooses both and includes this; everything is static but the table at the end,
   so that code for one processor can never be linked in place of code for another. */

#include "denormals.h"
#include "launcher.h"
#include "simd.h"

#define SINGLE
#define T(name) name##_s
#define PICK(single, double_) single
typedef float number_s;
#include "elementary.h"
#undef SINGLE
#undef T
#undef PICK

#define T(name) name##_d
#define PICK(single, double_) double_
typedef double number_d;
#include "elementary.h"
#undef T
#undef PICK

#include "logarithm.h"
#include "memory.h"
#include "activations.h"
#include "reductions.h"
#include "tiles.h"
#include "products.h"
#include "dense.h"
#include "narrow.h"
#include "slabs.h"
#include "columns.h"
#include "rows.h"
#include "heads.h"
#include "batches.h"
#include "updates.h"
#include "driver.h"

#define SYMBOL(name) {#name, (void (*)(void))name},
#define ACTIVATION_SYMBOLS(name)                                                                  \
    {#name, (void (*)(void))apply_##name}, {#name "_slope", (void (*)(void))slope_of_##name},

static const struct symbol symbols[] = {
    SYMBOL(drive)
    {"launch", (void (*)(void))fastnn_launch},
    SYMBOL(product)
    SYMBOL(dense_forward)
    SYMBOL(dense_weights)
    SYMBOL(dense_inputs)
    SYMBOL(dense_inputs_transposed)
    SYMBOL(transpose_weights)
    SYMBOL(transpose_gradient)
    SYMBOL(narrow_forward)
    SYMBOL(narrow_weights)
    SYMBOL(slab_weights)
    SYMBOL(add_slabs)
    SYMBOL(activation_forward)
    SYMBOL(activation_inputs)
    SYMBOL(softmax_forward)
    SYMBOL(softmax_inputs)
    SYMBOL(squared_error)
    SYMBOL(binary_cross_entropy)
    SYMBOL(cross_entropy)
    SYMBOL(penalise)
    SYMBOL(add_penalty)
    SYMBOL(sum_rows)
    SYMBOL(gather_float32)
    SYMBOL(gather_float64)
    SYMBOL(gather_float16)
    SYMBOL(gather_bool)
    SYMBOL(gather_uint8)
    SYMBOL(gather_int8)
    SYMBOL(gather_uint16)
    SYMBOL(gather_int16)
    SYMBOL(gather_uint32)
    SYMBOL(gather_int32)
    SYMBOL(gather_uint64)
    SYMBOL(gather_int64)
    SYMBOL(gather_targets)
    SYMBOL(gather_weights)
    SYMBOL(store_output)
    SYMBOL(store_sigmoid)
    SYMBOL(store_softmax)
    SYMBOL(mark_hits_by_class)
    SYMBOL(mark_hits_by_sign)
    SYMBOL(sgd)
    SYMBOL(momentum)
    SYMBOL(nesterov)
    SYMBOL(adam)
    ACTIVATION_SYMBOLS(step)
    ACTIVATION_SYMBOLS(sigmoid)
    ACTIVATION_SYMBOLS(tanh)
    ACTIVATION_SYMBOLS(relu)
    ACTIVATION_SYMBOLS(leaky_relu)
    ACTIVATION_SYMBOLS(elu)
    ACTIVATION_SYMBOLS(selu)
    ACTIVATION_SYMBOLS(gelu)
    ACTIVATION_SYMBOLS(silu)
    ACTIVATION_SYMBOLS(softplus)
    ACTIVATION_SYMBOLS(mish)
    {NULL, NULL},
};

extern const struct engine ENGINE_NAME;
const struct engine ENGINE_NAME = {LEVEL, DTYPE, symbols};

#if defined(__clang__) && (defined(LEVEL_AVX512) || defined(LEVEL_AVX2))
#pragma clang attribute pop
#endif
