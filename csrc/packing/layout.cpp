#include "layout.h"

#include <algorithm>
#include <utility>

#include "../divide.h"

namespace fastgan {
namespace {

// A patch is stored in pieces, so it is to save this share of the arithmetic at least.
constexpr double kSaves = 0.2;

// What a multiply-add costs where a block has one vector instead of two, which share each input.
constexpr double kOneVector = 1.2;

// Periods of a patch along an axis that are tried: 1 to this.
constexpr int64_t kPeriods = 4;

// Vectors of products for each input channel, weighted by what they cost.
double cost(const Layout& layout, int64_t floats) {
  int64_t taps[2] = {0, 0};
  for (int i = 0; i < 2; ++i) {
    for (const AxisPhase& phase : i == 0 ? layout.rows : layout.columns) {
      taps[i] += phase.count * static_cast<int64_t>(phase.reads.size());
    }
  }
  const int64_t blocks = divide_up(layout.lanes, layout.vectors * floats);
  return static_cast<double>(taps[0] * taps[1] * blocks * layout.vectors) *
         (layout.vectors == 1 ? kOneVector : 1.0);
}

// The ways in which an axis may be divided, for every instruction set.
struct Ways {
  std::vector<AxisPhase> phases;   // none of a linear map
  std::vector<AxisPhase> patches;  // of 1, 2, ... periods

  Ways(const Axis& axis, bool linear) {
    if (!linear) phases = fastgan::phases(axis);
    for (int64_t n = 1; n <= (linear ? 1 : kPeriods); ++n) {
      patches.push_back(fastgan::patches(axis, n));
    }
  }
};

Layout cheapest(const Product& product, const Ways& rows, const Ways& columns, int64_t floats) {
  const auto made = [&](std::vector<AxisPhase> down, std::vector<AxisPhase> across, int64_t height,
                        int64_t width) {
    const int64_t pixels = height * width * product.block_height * product.block_width;
    return in_blocks({std::move(down), std::move(across), height, width, pixels * product.outputs,
                      2}, floats);
  };
  const auto patched = [&](int64_t y, int64_t x) {
    return made({rows.patches[y - 1]}, {columns.patches[x - 1]}, y * product.rows.period(),
                x * product.columns.period());
  };
  Layout best = patched(1, 1);
  if (product.linear) return best;
  Layout plain = made(rows.phases, columns.phases, 1, 1);
  for (int64_t y = 1; y <= kPeriods; ++y) {
    for (int64_t x = 1; x <= kPeriods; ++x) {
      Layout other = patched(y, x);
      if (cost(other, floats) < cost(best, floats)) best = std::move(other);
    }
  }
  return cost(best, floats) < (1 - kSaves) * cost(plain, floats) ? best : plain;
}

}  // namespace

Layout in_blocks(Layout layout, int64_t floats) {
  layout.vectors = 2;
  const double two = cost(layout, floats);
  layout.vectors = 1;
  if (cost(layout, floats) >= two) layout.vectors = 2;
  return layout;
}

Layout layout_of(const Product& product, int64_t floats) {
  return cheapest(product, Ways(product.rows, product.linear),
                  Ways(product.columns, product.linear), floats);
}

int64_t most_taps(const Product& product) {
  int64_t most = 0;
  const Ways rows(product.rows, product.linear), columns(product.columns, product.linear);
  for (const int64_t floats : {4, 8, 16}) {
    const Layout layout = cheapest(product, rows, columns, floats);
    for (const AxisPhase& y : layout.rows) {
      for (const AxisPhase& x : layout.columns) {
        most = std::max(most, static_cast<int64_t>(y.reads.size() * x.reads.size()));
      }
    }
  }
  return most;
}

}  // namespace fastgan
