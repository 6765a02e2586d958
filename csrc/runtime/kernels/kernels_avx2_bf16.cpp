#include "../../targets/compiler.h"
#ifdef FASTGAN_X86
#include "../../targets/avx2.h"

#define FASTGAN_WIDTH 8
#include "kernels_bf16.h"

namespace fastgan {

constexpr Bf16Kernels bf16_kernels_avx2 = bf16_table("avx2_bf16", runs_here);

}  // namespace fastgan

#include "../../targets/end.h"
#endif
