#if defined(__x86_64__)
#define LEVEL_AVX2
#define ENGINE_NAME fastnn_avx2_float32
#include "../engine.h"
#endif
