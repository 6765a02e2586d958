#if defined(__x86_64__) && defined(__GNUC__)
#include "../../targets/avx512_bf16.h"

#define FASTGAN_WIDTH 16
#include "kernels_bf16.h"

namespace fastgan {

constexpr Bf16Kernels bf16_kernels_avx512 = bf16_table("avx512_bf16", runs_here);

}  // namespace fastgan

#include "../../targets/end.h"
#endif
