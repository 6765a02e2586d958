// Where a phase reads its weights.
#pragma once

#include <stdint.h>

#include <cmath>
#include <vector>

#include "axis.h"
#include "layout.h"
#include "product.h"

namespace fastgan {

// In place of a weight where there is none.
constexpr float kNoFactor = -0.0f;

inline bool is_none(float weight) { return weight == 0 && std::signbit(weight); }

// Where the weights of each tap and lane of a phase are read: lanes are a patch's [height, block
// height, width, block width, outputs]. Where several meet they are added up; where there is none
// it is kNoFactor, by which kernels know that nothing is to come that way, be it NaN. A weight that
// is -0 becomes +0, which changes no sum but one that is zero itself: its sign.
class Source {
 public:
  // Of the phase of rows y and columns x; the product has to stay.
  Source(const Product& product, const Layout& layout, const AxisPhase& y, const AxisPhase& x);

  // Channel c of lanes first .. last - 1 of a tap. Not in source.cpp, nor is `sum`: loops over
  // whole layers call it, and the one that chooses forms takes a third more instructions so.
  void read(int64_t tap, int64_t c, int64_t first, int64_t last, float* to) const {
    const float* weight = product_.weight + c * product_.strides[2];
    const int64_t* at = at_.data() + tap * lanes_;
    for (int64_t lane = first; lane < last; ++lane, ++to) {
      if (at[lane] == kNone || (product_.depthwise && lane % product_.outputs != c)) {
        *to = kNoFactor;
      } else {
        *to = (at[lane] >= 0 ? weight[at[lane]] : sum(at[lane], weight)) + 0.0f;
      }
    }
  }

  // Whether a lane lacks a tap or channel.
  bool sparse() const;

 private:
  static constexpr int64_t kNone = -1;

  struct Several {
    Taps ky, kx;
    int64_t at;
  };

  void add(const Taps& ky, const Taps& kx, int64_t at);

  float sum(int64_t code, const float* weight) const {
    const Several& of = several_[kNone - 1 - code];
    float total = 0;
    for (const int64_t ky : of.ky) {
      float row = 0;
      for (const int64_t kx : of.kx) {
        row += weight[of.at + ky * product_.strides[0] + kx * product_.strides[1]];
      }
      total += row;
    }
    return total;
  }

  const Product& product_;
  const int64_t lanes_;
  std::vector<int64_t> at_;  // [taps][lanes]
  std::vector<Several> several_;
};

}  // namespace fastgan
