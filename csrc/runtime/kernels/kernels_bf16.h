// The code of Bf16Kernels for vectors of FASTGAN_WIDTH floats; see kernels_code.h.
#pragma once

#define FASTGAN_BF16
#include "kernels_dense.h"

namespace fastgan {
namespace {

void round_all(const float* from, int64_t n, uint16_t* to) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(to + i, load(from + i));
  if (i == n) return;
  Element rest[kWidth];
  store(rest, load_some(from + i, n - i));
  for (const int64_t first = i, last = n + n % 2; i < last; ++i) to[i] = rest[i - first];
}

constexpr Bf16Kernels bf16_table(const char* name, bool (*runs_here)()) {
  return {name, kWidth, kMostRows, runs_here, dense, round_all};
}

}  // namespace
}  // namespace fastgan
