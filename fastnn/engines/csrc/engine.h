/* All functions for one level of vector instructions and one element type.

   A file of levels/ chooses both and includes this. Everything but the table at the end is static,
   so that code for one processor can never be linked in place of code for another. */

#include "denormals.h"
#include "launcher.h"
#include "team.h"
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
#include "reductions.h"
#include "columns.h"
#include "runs.h"
#include "microkernel.h"
#include "product.h"
#include "transpose.h"
#include "random.h"

#include "operations.h"

#include "batches.h"
#include "update.h"
#include "muon.h"
#include "shuffle.h"
#include "normals.h"
#include "images.h"
#include "driver.h"

static const struct symbol symbols[] = {
    SYMBOL(drive)
    SYMBOL(walk)
    SYMBOL_OF("launch", fastnn_launch)
    SYMBOL(product)
    SYMBOL(product_upper)
    SYMBOL(transpose)
    OPERATION_SYMBOLS
    BATCHES_SYMBOLS
    UPDATE_SYMBOLS
    MUON_SYMBOLS
    SHUFFLE_SYMBOLS
    NORMALS_SYMBOLS
    IMAGES_SYMBOLS
    {NULL, NULL},
};

extern const struct engine ENGINE_NAME;
const struct engine ENGINE_NAME = {LEVEL, DTYPE, symbols};

#if defined(__clang__) && (defined(LEVEL_AVX512) || defined(LEVEL_AVX2))
#pragma clang attribute pop
#endif
