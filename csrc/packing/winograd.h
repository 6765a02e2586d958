// Which phases of 3 x 3 taps are computed by Winograd's minimal filtering, and their weights.
//
// See runtime/kernels_winograd.h. A tile of M x M pixels takes (M + 2)^2 products for each input and
// output channel instead of 9 M^2: 2.25 times fewer with M = 2, four times with M = 4.
#pragma once

#include <stdint.h>

namespace fastgan {

// The M, up to `most`, that saves enough of a phase's time; 0 for none. plain: what a product costs
// without it, of one with it.
int64_t minimal(int64_t rows, int64_t columns, int64_t channels, int64_t blocks, int64_t vectors,
                int64_t width, int64_t most, double plain);

// taps [9][lanes] -> [(m + 2)^2] rows of `lanes`, each `step` floats after the one before.
void transform_weights(int64_t m, const float* taps, int64_t lanes, float* to, int64_t step);

}  // namespace fastgan
