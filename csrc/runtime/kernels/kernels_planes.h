// Convolutions of each channel by itself where channels lie one behind another, on one thread; included
// by kernels_code.h.
#pragma once

#include "kernels_math.h"

namespace fastgan {
namespace {

// Vectors of a row that are computed at once: by the registers.
constexpr int kPlaneVectors = FASTGAN_WIDTH == 16 ? kMostPlaneVectors : 2;

// Every second float of two vectors, from the first and from the second.
FASTGAN_INLINE void part_pairs(const float* from, float* even, float* odd) {
#if defined(__clang__) || FASTGAN_WIDTH == 4
  for (int i = 0; i < kWidth; ++i) even[i] = from[2 * i], odd[i] = from[2 * i + 1];
#else
  Integers places;
  for (int i = 0; i < kWidth; ++i) places[i] = 2 * i;
  const Vector a = load(from), b = load(from + kWidth);
  store(even, __builtin_shuffle(a, b, places));
  store(odd, __builtin_shuffle(a, b, places + 1));
#endif
}

// A line of the input with what lies beyond its ends, pixels `step_x` apart side by side.
void copy_line(const PlanesPart& part, const float* row, float* line, float* whole) {
  const PlanesShape& shape = *part.shape;
  float* const to = shape.step_x == 1 ? line : whole;
  for (int64_t i = 0; i < shape.span && (row == nullptr || shape.zeros); i += kWidth) {
    store(to + i, Vector{});
  }
  if (row != nullptr) {
    const int64_t begin = shape.pad_x < 0 ? 0 : shape.pad_x < shape.span ? shape.pad_x : shape.span;
    const int64_t beyond = shape.in.width + shape.pad_x;
    const int64_t end = beyond < begin ? begin : beyond < shape.span ? beyond : shape.span;
    if (end > begin) copy(row + begin - shape.pad_x, end - begin, to + begin);
    if (!shape.zeros) {
      const int64_t* columns = shape.columns.at.data() + shape.columns.before - shape.pad_x;
      const auto edge = [&](int64_t i) { to[i] = columns[i] < 0 ? 0.0f : row[columns[i]]; };
      for (int64_t i = 0; i < begin; ++i) edge(i);
      for (int64_t i = end; i < shape.span; ++i) edge(i);
    }
  }
  if (shape.step_x == 2) {
    for (int64_t i = 0; 2 * i < shape.span; i += kWidth) {
      part_pairs(whole + 2 * i, line + i, line + shape.phase + i);
    }
  } else if (shape.step_x > 2) {
    for (int64_t p = 0; p < shape.step_x; ++p) {
      float* const pixels = line + p * shape.phase;
      for (int64_t i = 0; i * shape.step_x + p < shape.span; ++i) {
        pixels[i] = whole[i * shape.step_x + p];
      }
    }
  }
}

// The lines that rows of outputs are made of.
struct PlaneLines {
  const float* first;   // of the first row's first tap
  int64_t tap, row;     // from one tap's line to the next one's; from one row's
  const int64_t* known;  // of each line, less than 0 where it is one of zeros
  int64_t tap_known, row_known;  // from one to the next of these
};

// kVectors vectors of kRows rows of outputs. Each sum is of taps in their order, however many there
// are. kKernel: taps along y, of rows that lie as far apart as those do, so that what is read once is
// used for several; 0 of others. Lines of zeros are not read.
template <int kRows, int kVectors, int kKernel>
FASTGAN_INLINE void plane_sums(const PlanesShape& shape, const float* weights,
                               const PlaneLines& lines, int64_t x, Vector (*sums)[kVectors]) {
  const int64_t taps = shape.kernel_x;
  const int64_t* offsets = shape.offsets.data();
  if constexpr (kKernel > 0) {
#pragma GCC unroll 16
    for (int j = 0; j < kKernel + kRows - 1; ++j) {
      if (lines.known[j * lines.tap_known] < 0) continue;
      const float* line = lines.first + j * lines.tap + x;
      for (int64_t tap = 0; tap < taps; ++tap) {
        Vector in[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) in[v] = load(line + offsets[tap] + v * kWidth);
#pragma GCC unroll 4
        for (int row = 0; row < kRows; ++row) {
          if (j - row < 0 || j - row >= kKernel) continue;
          const Vector w = splat(weights[(j - row) * taps + tap]);
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) sums[row][v] = multiply_add(in[v], w, sums[row][v]);
        }
      }
    }
  } else {
    for (int64_t j = 0; j < shape.kernel_y; ++j) {
      bool there = false;
      for (int row = 0; row < kRows; ++row) {
        there = there || lines.known[j * lines.tap_known + row * lines.row_known] >= 0;
      }
      if (!there) continue;
      const float* line = lines.first + j * lines.tap + x;
      for (int64_t tap = 0; tap < taps; ++tap) {
        const Vector w = splat(weights[j * taps + tap]);
#pragma GCC unroll 4
        for (int row = 0; row < kRows; ++row) {
          const float* from = line + offsets[tap] + row * lines.row;
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) {
            sums[row][v] = multiply_add(load(from + v * kWidth), w, sums[row][v]);
          }
        }
      }
    }
  }
}

// Pixels x .. x + n - 1, of kVectors vectors or less, of rows that are `step` apart.
template <int kRows, int kVectors, int kKernel>
FASTGAN_NOINLINE void plane_strip(const PlanesPart& part, const PlaneLines& lines, int64_t x,
                                  int64_t n, float* out, int64_t step) {
  const PlanesShape& shape = *part.shape;
  const Epilogue& e = shape.epilogue;
  const int64_t channel = part.channel;
  Vector sums[kRows][kVectors] = {};
  plane_sums<kRows, kVectors, kKernel>(
      shape, shape.weights + channel * shape.kernel_y * shape.kernel_x, lines, x, sums);
#pragma GCC unroll 4
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const int64_t left = n - v * kWidth;
      if (left <= 0) continue;
      Vector y = sums[row][v];
      if (shape.bias != nullptr) y += shape.bias[channel];
      y = e.slopes != nullptr ? negative_part(y, y * e.slopes[channel])
                              : bend(e.curve, e.parameter, y);
      float* const to = out + row * step + x + v * kWidth;
      left < kWidth ? store_some(to, y, left) : store(to, y);
    }
  }
}

// kRows rows of outputs from row `first` of the part on.
template <int kRows, int kKernel>
void plane_rows(const PlanesPart& part, const int64_t* known, int64_t first) {
  const PlanesShape& shape = *part.shape;
  const int64_t apart = kKernel > 0 ? shape.dilation_y : 1, line = first * shape.step_y;
  const PlaneLines lines{part.room + line * shape.line,
                         shape.dilation_y * shape.line,
                         shape.step_y * shape.line,
                         known + line,
                         shape.dilation_y,
                         shape.step_y};
  float* const out = part.out + part.image * shape.out.image + part.channel * shape.out.channel +
                     (part.first + first) * shape.out.row;
  for (int64_t x = 0; x < shape.out.width;) {
    const int64_t left = shape.out.width - x;
    const int64_t vectors = left > 2 * kWidth ? kPlaneVectors : left > kWidth ? 2 : 1;
    const int64_t n = left < vectors * kWidth ? left : vectors * kWidth;
    const auto strip = vectors == 1   ? plane_strip<kRows, 1, kKernel>
                       : vectors == 2 ? plane_strip<kRows, 2, kKernel>
                                      : plane_strip<kRows, kPlaneVectors, kKernel>;
    strip(part, lines, x, n, out, apart * shape.out.row);
    x += n;
  }
}

// Rows part.first .. part.last - 1 of a channel of an image.
void planes(const PlanesPart& part) {
  const PlanesShape& shape = *part.shape;
  const float* plane = part.in + part.image * shape.in.image + part.channel * shape.in.channel;
  const int64_t count = part.last - part.first, d = shape.dilation_y, step = shape.step_y;
  const int64_t* known =
      shape.rows.at.data() + shape.rows.before - shape.pad_y + part.first * step;
  float* const whole = part.room + shape.lines * shape.line;
  const int64_t lines = (count - 1) * step + (shape.kernel_y - 1) * d + 1;
  for (int64_t i = 0; i < lines; ++i) {
    if (!shape.read[i]) continue;
    copy_line(part, known[i] < 0 ? nullptr : plane + known[i], part.room + i * shape.line, whole);
  }
  void (*several)(const PlanesPart&, const int64_t*, int64_t) = nullptr;
  if (step == 1) {
    if (shape.kernel_y == 3) several = plane_rows<kPlaneRows, 3>;
    if (shape.kernel_y == 5) several = plane_rows<kPlaneRows, 5>;
    if (shape.kernel_y == 7) several = plane_rows<kPlaneRows, 7>;
  }
  int64_t row = 0;
  for (; several != nullptr && row + kPlaneRows * d <= count; row += kPlaneRows * d) {
    for (int64_t i = row; i < row + d; ++i) several(part, known, i);
  }
  for (; row + kPlaneRows <= count; row += kPlaneRows) plane_rows<kPlaneRows, 0>(part, known, row);
  for (; row < count; ++row) plane_rows<1, 0>(part, known, row);
}

}  // namespace
}  // namespace fastgan
