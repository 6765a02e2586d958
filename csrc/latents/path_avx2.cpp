#include "../targets/compiler.h"
#ifdef FASTGAN_X86
#include "../targets/avx2.h"

#define FASTGAN_LANES 4
#include "fill.h"

namespace fastgan {

const Path path_avx2 = {"avx2", runs_here, fill, normalise};

}  // namespace fastgan

#include "../targets/end.h"
#endif
