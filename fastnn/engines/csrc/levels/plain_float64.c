#define LEVEL_PLAIN
#define REAL_IS_DOUBLE
#define ENGINE_NAME fastnn_plain_float64
#include "../engine.h"
