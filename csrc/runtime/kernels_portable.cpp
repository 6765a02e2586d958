// For any processor: vectors of four floats as GCC and Clang make them of what there is.
#ifdef __GNUC__
#include <string.h>

#include <cmath>
#include <utility>
#include <vector>

#include "../direct.h"
#include "kernels.h"

static bool runs_here() { return true; }

#define FASTGAN_WIDTH 4
#include "kernels_code.h"

namespace fastgan {

const Kernels kernels_portable = {
    "portable", kWidth,  kMostRows, runs_here,   dense,    winograd,
    depthwise,  pointwise, measure,   normalise, rows_kernel, resample};

}  // namespace fastgan
#endif
