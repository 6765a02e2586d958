#pragma GCC target("avx512f,avx512dq")
#define FASTGAN_LANES 8
#include "fill.h"

namespace fastgan {

static bool runs_here() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
}

const Path path_avx512 = {"avx512", runs_here, fill, normalise};

}  // namespace fastgan
