// For any processor: see kernels_portable.cpp.
#include <math.h>
#include <string.h>

#include <cmath>
#include <utility>
#include <vector>

#include "kernels.h"

static bool runs_here() { return true; }

#define FASTGAN_WIDTH 4
#include "kernels_bf16.h"

namespace fastgan {

constexpr Bf16Kernels bf16_kernels_portable = bf16_table("portable_bf16", runs_here);

}  // namespace fastgan
