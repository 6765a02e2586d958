// bf16 without instructions for it: in the registers its values are fp32's upper halves.
#if defined(__x86_64__) && defined(__GNUC__)
#include "../targets/avx2.h"

#define FASTGAN_WIDTH 8
#define FASTGAN_BF16
#include "direct_tile.h"

namespace fastgan {

const DirectPath direct_avx2_bf16 = {"avx2_bf16", kWidth, kMostRows, kPack, runs_here, run};

}  // namespace fastgan

#include "../targets/end.h"
#endif
