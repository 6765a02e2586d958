#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <math.h>

#include "processor.h"

static bool runs_here() {
  __builtin_cpu_init();
  return fastgan::allowed(fastgan::Instructions::kAvx2) && __builtin_cpu_supports("avx2");
}

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif

#define FASTGAN_LANES 4
#include "fill.h"

namespace fastgan {

const Path path_avx2 = {"avx2", runs_here, fill, normalise};

}  // namespace fastgan

#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
