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
  return fastgan::allowed(fastgan::Instructions::kAvx2) &&
         __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define FASTGAN_WIDTH 8
#include "kernels_code.h"

namespace fastgan {

const Kernels kernels_avx2 = {
    "avx2", kWidth,  kMostRows, runs_here,   dense,    winograd,
    depthwise,  pointwise, measure,   normalise, rows_kernel, resample};

}  // namespace fastgan

#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
