// The code of Bf16Kernels for vectors of FASTGAN_WIDTH floats; see kernels_code.h.
#pragma once

#define FASTGAN_BF16
#include "kernels_winograd.h"

namespace fastgan {
namespace {

// A run of floats, and a zero behind an odd number.
FASTGAN_INLINE void round_run(const float* from, int64_t n, Element* to) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(to + i, load(from + i));
  if (i == n) return;
  Element rest[kWidth];
  store(rest, load_some(from + i, n - i));
  for (const int64_t first = i, last = n + n % 2; i < last; ++i) to[i] = rest[i - first];
}

void round_pixels(const float* from, int64_t pixels, int64_t channels, int64_t step, Element* to) {
  const int64_t padded = channels + channels % 2, all = pixels * padded;
  int64_t at = 0;
#if FASTGAN_WIDTH == 16
  if (step == channels && 2 * padded <= kWidth) {  // several pixels to a vector, a gap behind each
    const int64_t some = kWidth / padded;
    uint32_t lanes = 0;
    for (int64_t i = 0; i < some; ++i) lanes |= ((1u << channels) - 1) << i * padded;
    for (; at + kWidth <= all; at += some * padded, from += some * channels) {
      const Vector x = load_some(from, some * channels);
      store(to + at, (Vector)_mm512_maskz_expand_ps(static_cast<__mmask16>(lanes), (__m512)x));
    }
  }
#endif
  for (; at < all; at += padded, from += step) round_run(from, channels, to + at);
}

constexpr Bf16Kernels bf16_table(const char* name, bool (*runs_here)()) {
  const auto none = [](int64_t, int64_t, int64_t) -> int64_t { return 0; };
  return {name, kWidth, kMostRows, runs_here, none, dense, winograd, round_pixels};
}

}  // namespace
}  // namespace fastgan
