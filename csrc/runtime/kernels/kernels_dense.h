// Convolutions on one thread; included by kernels_code.h.
#pragma once

#include "kernels_lines.h"
#include "kernels_tile.h"

namespace fastgan {
namespace {

void dense(const DensePart& part) {
  if (part.phase->joined > 1) return dense_lines(part);
  const DensePhase& phase = *part.phase;
  const int64_t pixels = part.images * phase.rows * phase.columns;
  const int64_t taps = static_cast<int64_t>(phase.taps.size());
  const Element* in[kMostTaps * kMostRows];
  TilePixels located;
  for (int64_t t = part.first_tile; t < part.last_tile; ++t) {
    // Tiles as even as can be: one pixel alone takes as long as several.
    const int64_t first = t * pixels / phase.tiles;
    located.count = (t + 1) * pixels / phase.tiles - first;
    locate(part, first, located);
    point(part, located, in);
    make_tile(part, located, in, taps, part.shape->in.channels);
  }
}

}  // namespace
}  // namespace fastgan
