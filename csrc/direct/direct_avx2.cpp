#if defined(__x86_64__) && defined(__GNUC__)
#include "../targets/avx2.h"

#define FASTGAN_WIDTH 8
#include "direct_tile.h"

namespace fastgan {

const DirectPath direct_avx2 = {"avx2", kWidth, kMostRows, kPack, runs_here, run};

}  // namespace fastgan

#include "../targets/end.h"
#endif
