#include "../../targets/compiler.h"
#ifdef FASTGAN_X86
#include "../../targets/avx512_bf16.h"

#define FASTGAN_WIDTH 16
#include "kernels_bf16.h"

namespace fastgan {

constexpr Bf16Kernels bf16_kernels_avx512 = bf16_table("avx512_bf16", runs_here);

}  // namespace fastgan

#include "../../targets/end.h"
#endif
