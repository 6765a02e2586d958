#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <string.h>

#include <cmath>
#include <utility>
#include <vector>

#include "../direct.h"
#include "../processor.h"
#include "kernels.h"

static bool runs_here() {
  __builtin_cpu_init();
  return fastgan::allowed(fastgan::Instructions::kAvx512) &&
         __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma");
}

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,fma")
#endif

#define FASTGAN_WIDTH 16
#include "kernels_code.h"

namespace fastgan {

const Kernels kernels_avx512 = {
    "avx512", kWidth,  kMostRows, runs_here,   dense,    winograd,
    depthwise,  pointwise, measure,   normalise, rows_kernel, resample};

}  // namespace fastgan

#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
