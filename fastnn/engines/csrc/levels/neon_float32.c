#if defined(__aarch64__)
#define LEVEL_NEON
#define ENGINE_NAME fastnn_neon_float32
#include "../engine.h"
#endif
