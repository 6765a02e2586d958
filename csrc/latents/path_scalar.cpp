#define FASTGAN_LANES 1
#include "fill.h"

namespace fastgan {

const Path path_scalar = {"scalar", [] { return true; }, fill, normalise};

}  // namespace fastgan
