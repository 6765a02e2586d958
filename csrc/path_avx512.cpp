#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <math.h>

#include "processor.h"

static bool runs_here() {
  __builtin_cpu_init();
  return fastgan::allowed(fastgan::Instructions::kAvx512) &&
         __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
}

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq")
#endif

#define FASTGAN_LANES 8
#include "fill.h"

namespace fastgan {

const Path path_avx512 = {"avx512", runs_here, fill, normalise};

}  // namespace fastgan

#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
