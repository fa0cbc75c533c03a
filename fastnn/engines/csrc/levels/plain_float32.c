#define LEVEL_PLAIN
#define ENGINE_NAME fastnn_plain_float32
#include "../engine.h"
