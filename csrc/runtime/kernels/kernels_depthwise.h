// Convolutions of each channel by itself, on one thread; included by kernels_code.h.
#pragma once

#include "kernels_few.h"

namespace fastgan {
namespace {

// A strip of R pixels at a time, a vector of channels after another: the sums stay in registers, and
// the weights are read once for all R. n: channels that there are, of a vector or less.
template <int R, bool kWhole>
FASTGAN_NOINLINE void depthwise_sums(const float* const* in, int64_t taps, int64_t c, int64_t n,
                                     const float* weights, int64_t channels, float* values,
                                     int64_t step) {
  Vector sums[R] = {};
  weights += c;
  for (int64_t t = 0; t < taps; ++t, in += R, weights += channels) {
    const Vector w = kWhole ? load(weights) : load_some(weights, n);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      sums[r] = multiply_add(kWhole ? load(in[r] + c) : load_some(in[r] + c, n), w, sums[r]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) store(values + r * step, sums[r]);
}

// The same where no tap reaches over an edge: every pixel lies as far from the one before.
template <int R, bool kWhole>
FASTGAN_NOINLINE void depthwise_inside(const float* in, const DepthwiseShape& shape, int64_t c,
                                       int64_t n, float* values, int64_t step) {
  Vector sums[R] = {};
  const float* weights = shape.weights + c;
  const int64_t apart = shape.step_x * shape.in.pixel;
  for (const auto& [dy, dx] : shape.taps) {
    const float* x = in + dy * shape.in.row + dx * shape.in.pixel + c;
    const Vector w = kWhole ? load(weights) : load_some(weights, n);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r, x += apart) {
      sums[r] = multiply_add(kWhole ? load(x) : load_some(x, n), w, sums[r]);
    }
    weights += shape.out.channels;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) store(values + r * step, sums[r]);
}

// The same where taps lie side by side, K to a line, and so do pixels: each is read once for all taps
// of a line.
template <int R, int K, bool kWhole>
FASTGAN_NOINLINE void depthwise_slide(const float* in, const DepthwiseShape& shape, int64_t c,
                                      int64_t n, float* values, int64_t step) {
  Vector sums[R] = {};
  const float* weights = shape.weights + c;
  const int64_t lines = static_cast<int64_t>(shape.taps.size()) / K, apart = shape.in.pixel;
  for (int64_t line = 0; line < lines; ++line) {
    const auto [dy, dx] = shape.taps[line * K];
    const float* x = in + dy * shape.in.row + dx * apart + c;
    Vector w[K];
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k, weights += shape.out.channels) {
      w[k] = kWhole ? load(weights) : load_some(weights, n);
    }
#pragma GCC unroll 16
    for (int i = 0; i < R + K - 1; ++i, x += apart) {
      const Vector a = kWhole ? load(x) : load_some(x, n);
#pragma GCC unroll 16
      for (int k = 0; k < K; ++k) {
        if (i >= k && i - k < R) sums[i - k] = multiply_add(a, w[k], sums[i - k]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) store(values + r * step, sums[r]);
}

using DepthwiseStrip = void (*)(const float*, const DepthwiseShape&, int64_t, int64_t, float*,
                                int64_t);

// What computes R pixels that no tap reaches over an edge from.
template <int R, bool kWhole>
inline DepthwiseStrip strip_of(const DepthwiseShape& shape) {
  switch (shape.step_x == 1 ? shape.joined : 1) {
    case 3: return depthwise_slide<R, 3, kWhole>;
    case 5: return depthwise_slide<R, 5, kWhole>;
    case 7: return depthwise_slide<R, 7, kWhole>;
#if FASTGAN_WIDTH == 16  // which has the registers
    case 9: return depthwise_slide<R, 9, kWhole>;
    case 13: return depthwise_slide<R, 13, kWhole>;
#endif
    default: return depthwise_inside<R, kWhole>;
  }
}

void depthwise(const DepthwisePart& part) {
  if (!part.shape->lines.empty()) return depthwise_few(part);
  constexpr int64_t kStrip = 8;
  constexpr int64_t kChannels = 8 * kWidth;
  const DepthwiseShape& shape = *part.shape;
  const Grid& out = shape.out;
  const int64_t taps = static_cast<int64_t>(shape.taps.size()), channels = out.channels;
  const int64_t* rows = shape.rows.at.data() + shape.rows.before + part.y * shape.step_y;
  const int64_t* columns = shape.columns.at.data() + shape.columns.before;
  const float* image = part.in + part.image * shape.in.image;
  const float* in[kMostTaps * kStrip];
  alignas(64) float values[kStrip * kChannels];
  const int64_t in_y = part.y * shape.step_y;
  const DepthwiseStrip whole_strip = strip_of<kStrip, true>(shape);
  const DepthwiseStrip some_strip = strip_of<kStrip, false>(shape);
  const bool rows_inside = in_y >= shape.rows.first && in_y < shape.rows.last;
  for (int64_t first = 0; first < out.width; first += kStrip) {
    // A strip that is not full is computed as if it were: its last pixel again.
    const int64_t count = out.width - first < kStrip ? out.width - first : kStrip;
    const int64_t strip = count == 1 ? 1 : kStrip;
    const int64_t in_x = first * shape.step_x, last_x = in_x + (kStrip - 1) * shape.step_x;
    const bool inside = rows_inside && count > 1 && in_x >= shape.columns.first &&
                        last_x < shape.columns.last;
    for (int64_t t = 0; t < taps && !inside; ++t) {
      const int64_t dy = rows[shape.taps[t].first];
      for (int64_t r = 0; r < strip; ++r) {
        const int64_t x = first + (r < count ? r : count - 1);
        const int64_t dx = columns[x * shape.step_x + shape.taps[t].second];
        in[t * strip + r] = (dy | dx) < 0 ? shape.zeros.data() : image + dy + dx;
      }
    }
    for (int64_t c = 0; c < channels; c += kChannels) {
      const int64_t some = channels - c < kChannels ? channels - c : kChannels;
      for (int64_t v = 0; v < some; v += kWidth) {
        const int64_t n = some - v < kWidth ? some - v : kWidth;
        if (inside) {
          const float* from = image + in_y * shape.in.row + in_x * shape.in.pixel;
          (n < kWidth ? some_strip : whole_strip)(from, shape, c + v, n, values + v, kChannels);
          continue;
        }
        const auto sums = n < kWidth ? (strip == 1 ? depthwise_sums<1, false>
                                                   : depthwise_sums<kStrip, false>)
                                     : (strip == 1 ? depthwise_sums<1, true>
                                                   : depthwise_sums<kStrip, true>);
        sums(in, taps, c + v, n, shape.weights, channels, values + v, kChannels);
      }
      for (int64_t r = 0; r < count; ++r) {
        float* to = part.out + part.image * out.image + part.y * out.row + (first + r) * out.pixel;
        finish(shape.epilogue,
               operands(shape.epilogue, shape.bias, part.scale, part.residual, part.image, part.y,
                        first + r, c),
               values + r * kChannels, some, to + c);
      }
    }
  }
}

}  // namespace
}  // namespace fastgan
