// Depthwise convolutions of images of few channels; included by kernels_depthwise.h.
//
// Channel by channel most lanes of a vector would be empty. But a row of such an image is one run of
// floats, along which the channels' weights repeat after P vectors; so a vector holds several pixels.
// What a row's taps read is copied first, with what lies beyond its ends.
#pragma once

#include "kernels_math.h"

namespace fastgan {
namespace {

// Inputs of output row part.y: one row of them for each of shape.lines, `step` floats apart.
inline void copy_lines(const DepthwisePart& part, int64_t step) {
  const DepthwiseShape& shape = *part.shape;
  const Grid& from = shape.in;
  const int64_t channels = from.channels, width = shape.out.width + shape.span;
  const int64_t* rows = shape.rows.at.data() + shape.rows.before + part.y * shape.step_y;
  const int64_t* columns = shape.columns.at.data() + shape.columns.before + shape.left;
  float* line = part.room;
  for (const int64_t dy : shape.lines) {
    const int64_t row = rows[dy];
    const float* in = part.in + part.image * from.image + row;
    float* to = line;
    line += step;
    for (int64_t x = 0; x < width;) {
      const int64_t place = x + shape.left, left = width - x;
      const int64_t inside = from.width - place < left ? from.width - place : left;
      if (row >= 0 && place >= 0 && inside > 0 && from.pixel == channels) {
        memcpy(to, in + columns[x], inside * channels * sizeof(float));
        x += inside;
        to += inside * channels;
        continue;
      }
      const float* pixel = (row | columns[x]) < 0 ? shape.zeros.data() : in + columns[x];
      for (int64_t c = 0; c < channels; ++c) *to++ = pixel[c];
      ++x;
    }
  }
}

// R vectors of a row, from `at` on.
template <int P, int R>
FASTGAN_INLINE void few_sums(const DepthwiseShape& shape, const float* lines, int64_t step,
                             int64_t at, float* values) {
  Vector sums[R] = {};
  const float* weights = shape.pattern.data();
  for (const auto& [line, column] : shape.reads) {
    const float* x = lines + line * step + column + at;
    Vector w[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p, weights += kWidth) w[p] = load(weights);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sums[r] = multiply_add(load(x + r * kWidth), w[r % P], sums[r]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) store(values + r * kWidth, sums[r]);
}

template <int P, int R>
FASTGAN_NOINLINE void few_row(const DepthwisePart& part) {
  const DepthwiseShape& shape = *part.shape;
  const Grid& out = shape.out;
  const Epilogue& e = shape.epilogue;
  const int64_t channels = out.channels, length = out.width * channels, step = shape.step;
  const bool beside = part.scale != nullptr || part.residual != nullptr || e.slopes != nullptr;
  const bool at_once = !beside && out.pixel == channels;
  float* const row = part.out + part.image * out.image + part.y * out.row;
  alignas(64) float values[R * kWidth];
  copy_lines(part, step);
  for (int64_t first = 0; first < length; first += R * kWidth) {
    few_sums<P, R>(shape, part.room, step, first, values);
    const int64_t n = length - first < R * kWidth ? length - first : R * kWidth;
    if (at_once) {
      const float* bias = shape.bias == nullptr ? nullptr : shape.biases.data();
      for (int64_t i = 0; i < n; i += P * kWidth) {
        const int64_t some = n - i < P * kWidth ? n - i : P * kWidth;
        finish(e, {bias, nullptr, nullptr, nullptr}, values + i, some, row + first + i);
      }
      continue;
    }
    for (int64_t i = 0; i < n;) {  // what of a pixel is in here at a time
      const int64_t x = (first + i) / channels, c = (first + i) % channels;
      const int64_t run = channels - c < n - i ? channels - c : n - i;
      finish(e,
             operands(e, shape.bias, part.scale, part.residual, part.image, part.y, x, c),
             values + i, run, row + x * out.pixel + c);
      i += run;
    }
  }
}

inline void depthwise_few(const DepthwisePart& part) {
  part.shape->out.channels == 3 ? few_row<3, 6>(part) : few_row<1, 4>(part);
}

}  // namespace
}  // namespace fastgan
