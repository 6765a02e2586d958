#include "source.h"

#include <algorithm>

namespace fastgan {

Source::Source(const Product& product, const Layout& layout, const AxisPhase& y,
               const AxisPhase& x)
    : product_(product), lanes_(layout.lanes) {
  const int64_t* s = product.strides;
  for (const std::vector<Taps>& down : y.taps) {
    for (const std::vector<Taps>& across : x.taps) {
      for (int64_t py = 0; py < layout.height; ++py) {
        for (int64_t by = 0; by < product.block_height; ++by) {
          for (int64_t px = 0; px < layout.width; ++px) {
            const Taps &ky = down[py], &kx = across[px];
            for (int64_t bx = 0; bx < product.block_width; ++bx) {
              const int64_t at = by * s[3] + bx * s[4];
              for (int64_t o = 0; o < product.outputs; ++o) {
                add(ky, kx, at + o * s[5]);
              }
            }
          }
        }
      }
    }
  }
}

bool Source::sparse() const {
  return product_.depthwise || std::find(at_.begin(), at_.end(), kNone) != at_.end();
}

void Source::add(const Taps& ky, const Taps& kx, int64_t at) {
  const int64_t* s = product_.strides;
  if (ky.empty() || kx.empty()) {
    at_.push_back(kNone);
  } else if (ky.size() == 1 && kx.size() == 1) {
    at_.push_back(ky[0] * s[0] + kx[0] * s[1] + at);
  } else {
    at_.push_back(kNone - 1 - static_cast<int64_t>(several_.size()));
    several_.push_back({ky, kx, at});
  }
}

}  // namespace fastgan
