// For any processor: vectors of four floats as GCC and Clang make them of what there is, or as plain
// C++ has them.
#include <math.h>
#include <string.h>

#include <cmath>
#include <utility>
#include <vector>

#include "kernels.h"

static bool runs_here() { return true; }

#define FASTGAN_WIDTH 4
#include "kernels_code.h"

namespace fastgan {

constexpr Kernels kernels_portable = table("portable", runs_here);

}  // namespace fastgan
