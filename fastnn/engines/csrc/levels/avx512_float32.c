#if defined(__x86_64__)
#define LEVEL_AVX512
#define ENGINE_NAME fastnn_avx512_float32
#include "../engine.h"
#endif
