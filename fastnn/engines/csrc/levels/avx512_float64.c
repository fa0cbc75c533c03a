#if defined(__x86_64__)
#define LEVEL_AVX512
#define REAL_IS_DOUBLE
#define ENGINE_NAME fastnn_avx512_float64
#include "../engine.h"
#endif
