#if defined(__x86_64__) && defined(__GNUC__)
#include "../targets/avx512.h"

#define FASTGAN_WIDTH 16
#include "direct_tile.h"

namespace fastgan {

const DirectPath direct_avx512 = {"avx512", kWidth, kMostRows, kPack, runs_here, run};

}  // namespace fastgan

#include "../targets/end.h"
#endif
