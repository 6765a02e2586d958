#include "../../targets/compiler.h"
#ifdef FASTGAN_X86
#include "../../targets/avx2.h"

#define FASTGAN_WIDTH 8
#include "kernels_code.h"

namespace fastgan {

constexpr Kernels kernels_avx2 = table("avx2", runs_here);

}  // namespace fastgan

#include "../../targets/end.h"
#endif
