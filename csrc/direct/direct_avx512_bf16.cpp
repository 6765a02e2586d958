#if defined(__x86_64__) && defined(__GNUC__)
#include "../targets/avx512_bf16.h"

#define FASTGAN_WIDTH 16
#define FASTGAN_BF16
#include "direct_tile.h"

namespace fastgan {

const DirectPath direct_avx512_bf16 = {"avx512_bf16", kWidth, kMostRows, kPack, runs_here, run};

}  // namespace fastgan

#include "../targets/end.h"
#endif
