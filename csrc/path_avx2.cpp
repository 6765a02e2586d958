#pragma GCC target("avx2")
#define FASTGAN_LANES 4
#include "fill.h"

namespace fastgan {

static bool runs_here() { return __builtin_cpu_supports("avx2") != 0; }

const Path path_avx2 = {"avx2", runs_here, fill, normalise};

}  // namespace fastgan
