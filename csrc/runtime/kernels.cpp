#include "kernels.h"

namespace fastgan {

const Kernels& kernels() {
  static const Kernels& found = []() -> const Kernels& {
#if defined(__x86_64__) && defined(__GNUC__)
    if (kernels_avx512.runs_here()) return kernels_avx512;
    if (kernels_avx2.runs_here()) return kernels_avx2;
#endif
    return kernels_portable;
  }();
  return found;
}

const Bf16Kernels& bf16_kernels() {
  static const Bf16Kernels& found = []() -> const Bf16Kernels& {
#if defined(__x86_64__) && defined(__GNUC__)
    if (bf16_kernels_avx512.runs_here()) return bf16_kernels_avx512;
    if (bf16_kernels_avx2.runs_here()) return bf16_kernels_avx2;
#endif
    return bf16_kernels_portable;
  }();
  return found;
}

}  // namespace fastgan
