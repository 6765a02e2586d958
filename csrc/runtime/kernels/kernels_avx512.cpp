#include "../../targets/compiler.h"
#ifdef FASTGAN_X86
#include "../../targets/avx512.h"

#define FASTGAN_WIDTH 16
#include "kernels_code.h"

namespace fastgan {

constexpr Kernels kernels_avx512 = table("avx512", runs_here);

}  // namespace fastgan

#include "../../targets/end.h"
#endif
