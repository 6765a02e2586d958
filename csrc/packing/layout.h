// How a product's outputs are made: pixel by pixel or in patches, in phases whose pixels share
// their weights, and in blocks of lanes; by what takes least arithmetic on an instruction set.
#pragma once

#include <stdint.h>

#include <vector>

#include "axis.h"
#include "product.h"

namespace fastgan {

struct Layout {
  std::vector<AxisPhase> rows, columns;  // a phase of the layer is a pair of them
  int64_t height, width;                 // outputs along each axis that a pixel makes
  int64_t lanes;                         // output channels of a whole patch
  int64_t vectors;                       // of a block of lanes: 1 or 2
};

// The cheapest: pixel by pixel, or where that is much work for nothing, in patches.
// floats: to a vector.
Layout layout_of(const Product& product, int64_t floats);

// The same phases and patches, in blocks that cost less with so many floats to a vector.
Layout in_blocks(Layout layout, int64_t floats);

// The most taps of a phase, whatever the instruction set.
int64_t most_taps(const Product& product);

// Vectors to a block where lanes are single columns of a matrix.
inline int64_t vectors_for(int64_t columns, int64_t width) { return columns > width ? 2 : 1; }

}  // namespace fastgan
