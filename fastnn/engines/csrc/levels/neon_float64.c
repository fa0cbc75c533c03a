#if defined(__aarch64__)
#define LEVEL_NEON
#define REAL_IS_DOUBLE
#define ENGINE_NAME fastnn_neon_float64
#include "../engine.h"
#endif
