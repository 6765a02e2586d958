#include "../targets/compiler.h"
#ifdef FASTGAN_VECTORS
#define FASTGAN_LANES 2
#include "fill.h"

namespace fastgan {

const Path path_baseline = {"baseline", [] { return true; }, fill, normalise};

}  // namespace fastgan

#endif
