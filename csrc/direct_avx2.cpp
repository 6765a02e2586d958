#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#include <utility>
#include <vector>

#include "direct.h"
#include "processor.h"

static bool runs_here() {
  __builtin_cpu_init();
  return fastgan::allowed(fastgan::Instructions::kAvx2) &&
         __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define FASTGAN_WIDTH 8
#include "direct_tile.h"

namespace fastgan {

const DirectPath direct_avx2 = {"avx2", kWidth, kMostRows, kPack, runs_here, run};

}  // namespace fastgan

#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
