#include "../targets/compiler.h"
#ifdef FASTGAN_X86
#include "../targets/avx512.h"

#define FASTGAN_LANES 8
#include "fill.h"

namespace fastgan {

const Path path_avx512 = {"avx512", runs_here, fill, normalise};

}  // namespace fastgan

#include "../targets/end.h"
#endif
