#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#include <utility>
#include <vector>

#include "direct.h"
#include "processor.h"

static bool runs_here() {
  __builtin_cpu_init();
  return fastgan::allowed(fastgan::Instructions::kAvx512Bf16) &&
         __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bf16");
}

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bf16"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bf16")
#endif

#define FASTGAN_WIDTH 16
#define FASTGAN_BF16
#include "direct_tile.h"

namespace fastgan {

const DirectPath direct_avx512_bf16 = {"avx512_bf16", kWidth, kMostRows, kPack, runs_here, run};

}  // namespace fastgan

#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
