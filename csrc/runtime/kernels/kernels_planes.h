// Convolutions of each channel by itself where channels lie one behind another, on one thread;
// included by kernels_code.h.
#pragma once

#include "kernels_math.h"

namespace fastgan {
namespace {

// Vectors of a row that are computed at once: by the registers.
constexpr int kPlaneVectors = FASTGAN_WIDTH == 16 ? kMostPlaneVectors : 2;

// Every second of the floats of two vectors, from the first and from the second on: with lanes in
// an order that takes the fewest instructions, which `in_order` ends.
FASTGAN_INLINE void part_pairs(Vector a, Vector b, Vector& even, Vector& odd) {
#if FASTGAN_WIDTH == 16
  const __m512i places =
      _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i after = _mm512_add_epi32(places, _mm512_set1_epi32(1));
  even = (Vector)_mm512_permutex2var_ps((__m512)a, places, (__m512)b);
  odd = (Vector)_mm512_permutex2var_ps((__m512)a, after, (__m512)b);
#elif FASTGAN_WIDTH == 8
  even = (Vector)_mm256_shuffle_ps((__m256)a, (__m256)b, 0x88);
  odd = (Vector)_mm256_shuffle_ps((__m256)a, (__m256)b, 0xDD);
#else
  for (int i = 0; i < kWidth / 2; ++i) {
    even[i] = a[2 * i], odd[i] = a[2 * i + 1];
    even[i + kWidth / 2] = b[2 * i], odd[i + kWidth / 2] = b[2 * i + 1];
  }
#endif
}

FASTGAN_INLINE Vector in_order(Vector a) {
#if FASTGAN_WIDTH == 8
  return (Vector)_mm256_permute4x64_pd((__m256d)a, 0xD8);
#else
  return a;
#endif
}

// A line of the input with what lies beyond its ends; where more than two pixels apart are an
// output's, those side by side.
void copy_line(const PlanesPart& part, const float* row, float* line, float* whole) {
  const PlanesShape& shape = *part.shape;
  float* const to = shape.step_x <= 2 ? line : whole;
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
  for (int64_t p = 0; shape.step_x > 2 && p < shape.step_x; ++p) {
    float* const pixels = line + p * shape.phase;
    for (int64_t i = 0; i * shape.step_x + p < shape.span; ++i) {
      pixels[i] = whole[i * shape.step_x + p];
    }
  }
}

// The lines that rows of outputs are made of.
struct PlaneLines {
  const float* plane;    // what `known` counts from; where lines are copies, the first of those
  int64_t copy;          // from one copy to the next; 0 where there are none
  const int64_t* known;  // where each line of the input is, less than 0 if it is one of zeros
  int64_t tap, row;      // lines from one tap to the next; from one row

  const float* at(int64_t line) const {
    if (known[line] < 0) return nullptr;
    return plane + (copy > 0 ? line * copy : known[line]);
  }
};

// kVectors vectors of kRows rows of outputs, of pixels kStep apart. Each sum is of taps in their
// order, however many there are. kKernel: taps along y and x, of rows that lie kStep times as far
// apart as those do, so that what is read once is used for several; 0 of others. Lines of zeros are
// not read, nor is what is beyond an edge.
template <int kRows, int kVectors, int kKernel, int kStep, bool kEdge>
FASTGAN_INLINE void plane_sums(const PlanesShape& shape, const float* weights,
                               const PlaneLines& lines, int64_t x, const LaneMask* within,
                               Vector (*sums)[kVectors]) {
  // Known beforehand where that makes little code: of five and more a turn of the loop is long enough.
  const int64_t taps = kKernel == 3 ? 3 : shape.kernel_x;
  const int64_t* offsets = shape.offsets.data();
  // Where taps are side by side, two of them take every second pixel each of the same.
  const bool pairs = kStep == 2 && shape.dilation_x == 1;
  constexpr int kReads = kStep * kVectors;  // vectors of a tap
  const auto get = [&](const float* p, int64_t i) {
    if constexpr (kEdge) return load_lanes(p, within[i]);
    return load(p);
  };
  // Calls `add` with each tap, the number of each line that is there, and the tap's pixels of it.
  const auto each_tap = [&](const auto& all, const auto& add) FASTGAN_INLINED {
    constexpr int kLines = sizeof all / sizeof all[0];
    Vector in[kVectors], next[kVectors];
    const auto read = [&](const float* line, int64_t tap) FASTGAN_INLINED {
      const float* from = line + x * kStep + offsets[tap];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v, from += kStep * kWidth) {
        const int64_t i = tap * kReads + kStep * v;
        if constexpr (kStep == 1) in[v] = get(from, i);
        if constexpr (kStep == 2) {
          part_pairs(get(from, i), get(from + kWidth, i + 1), in[v], next[v]);
        }
      }
    };
    const int64_t step = pairs ? 2 : 1;
    for (int64_t tap = 0; tap < taps; tap += step) {
#pragma GCC unroll 4
      for (int l = 0; l < kLines; ++l) {
        if (all[l] == nullptr) continue;
        read(all[l], tap);
        add(l, tap, in);
        if (pairs && tap + 1 < taps) add(l, tap + 1, next);
      }
    }
  };
  if constexpr (kKernel > 0) {
#pragma GCC unroll 16
    for (int j = 0; j < kKernel + (kRows - 1) * kStep; ++j) {
      const float* const line[1] = {lines.at(j * lines.tap)};
      if (line[0] == nullptr) continue;
      const auto add = [&](int, int64_t tap, const Vector (&in)[kVectors]) FASTGAN_INLINED {
#pragma GCC unroll 4
        for (int row = 0; row < kRows; ++row) {
          const int k = j - row * kStep;
          if (k < 0 || k >= kKernel) continue;
          const Vector w = splat(weights[k * taps + tap]);
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) sums[row][v] = multiply_add(in[v], w, sums[row][v]);
        }
      };
      each_tap(line, add);
    }
  } else {
    for (int64_t j = 0; j < shape.kernel_y; ++j) {
      const float* line[kRows];
      for (int row = 0; row < kRows; ++row) line[row] = lines.at(j * lines.tap + row * lines.row);
      const auto add = [&](int row, int64_t tap, const Vector (&in)[kVectors]) FASTGAN_INLINED {
        const Vector w = splat(weights[j * taps + tap]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sums[row][v] = multiply_add(in[v], w, sums[row][v]);
      };
      each_tap(line, add);
    }
  }
}

// Finishes and stores n sums each of `rows` rows that lie `pitch` apart, and `step` apart then.
FASTGAN_NOINLINE inline void write_planes(const PlanesPart& part, const float* sums, int64_t rows,
                                          int64_t pitch, int64_t n, float* out, int64_t step) {
  const PlanesShape& shape = *part.shape;
  const Epilogue& e = shape.epilogue;
  const Vector bias = splat(shape.bias == nullptr ? 0.0f : shape.bias[part.channel]);
  for (int64_t row = 0; row < rows; ++row, sums += pitch, out += step) {
    for (int64_t i = 0; i < n; i += kWidth) {
      Vector y = load(sums + i);
      if (shape.bias != nullptr) y += bias;
      y = e.slopes != nullptr ? negative_part(y, y * e.slopes[part.channel])
                              : bend(e.curve, e.parameter, y);
      store_up_to(out + i, y, n - i);
    }
  }
}

// Pixels x .. x + n - 1, of kVectors vectors or less, of rows that are `step` apart. within: where
// taps reach over an edge, which lanes of each vector that they read do not.
template <int kRows, int kVectors, int kKernel, int kStep, bool kEdge>
FASTGAN_NOINLINE void plane_strip(const PlanesPart& part, const PlaneLines& lines, int64_t x,
                                  int64_t n, const LaneMask* within, float* out, int64_t step) {
  const PlanesShape& shape = *part.shape;
  Vector sums[kRows][kVectors] = {};
  plane_sums<kRows, kVectors, kKernel, kStep, kEdge>(
      shape, shape.weights + part.channel * shape.kernel_y * shape.kernel_x, lines, x, within, sums);
  alignas(64) float values[kRows * kVectors * kWidth];
#pragma GCC unroll 4
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const Vector sum = kStep == 2 ? in_order(sums[row][v]) : sums[row][v];
      store(values + (row * kVectors + v) * kWidth, sum);
    }
  }
  write_planes(part, values, kRows, kVectors * kWidth, n, out + x, step);
}

using PlaneStrip = void (*)(const PlanesPart&, const PlaneLines&, int64_t, int64_t, const LaneMask*,
                            float*, int64_t);

template <int kRows, int kKernel, int kStep>
PlaneStrip plane_strip_of(int64_t vectors, bool edge) {
  switch (vectors) {
    case 1: return edge ? plane_strip<kRows, 1, kKernel, kStep, true>
                        : plane_strip<kRows, 1, kKernel, kStep, false>;
    case 2: return edge ? plane_strip<kRows, 2, kKernel, kStep, true>
                        : plane_strip<kRows, 2, kKernel, kStep, false>;
    default: return plane_strip<kRows, kPlaneVectors, kKernel, kStep, false>;
  }
}

// What computes rows that share lines, of kernels as wide as they are high.
template <int kStep>
PlaneStrip shared_strip_of(int64_t kernel, int64_t vectors, bool edge) {
  switch (kernel) {
    case 3: return plane_strip_of<kPlaneRows, 3, kStep>(vectors, edge);
    case 5: return plane_strip_of<kPlaneRows, 5, kStep>(vectors, edge);
    case 7: return plane_strip_of<kPlaneRows, 7, kStep>(vectors, edge);
    default: return nullptr;
  }
}

// All rows of the part, of pixels kStep apart.
template <int kStep>
void plane_strips(const PlanesPart& part, const PlaneLines& all) {
  const PlanesShape& shape = *part.shape;
  const int64_t count = part.last - part.first, d = shape.dilation_y, width = shape.out.width;
  float* const out = part.out + part.image * shape.out.image + part.channel * shape.out.channel +
                     part.first * shape.out.row;
  LaneMask within[kMostEdgeTaps * kStep * 2];
  for (int64_t x = 0; x < width;) {
    // Vectors that no tap reaches over an edge from; of one alone, the next is computed with it.
    const int64_t left = width - x;
    const int64_t whole = x < shape.inside_first ? 0 : (shape.inside_last - x) / kWidth;
    const bool edge = whole < 1 || (whole == 1 && left > kWidth);
    const int64_t vectors = whole >= kPlaneVectors ? kPlaneVectors : left > kWidth ? 2 : 1;
    const int64_t n = left < vectors * kWidth ? left : vectors * kWidth, reads = kStep * vectors;
    for (int64_t i = 0; edge && i < shape.kernel_x * reads; ++i) {
      const int64_t from = x * kStep + shape.offsets[i / reads] + i % reads * kWidth;
      const int64_t there = shape.in.width - from;
      const int64_t last = there < 0 ? 0 : there < kWidth ? there : kWidth;
      within[i] = lanes_from(from > 0 ? 0 : -from < last ? -from : last, first_lanes(last));
    }
    const auto compute = [&](PlaneStrip strip, int64_t row, int64_t apart) {
      PlaneLines lines = all;
      lines.plane += row * shape.step_y * all.copy, lines.known += row * shape.step_y;
      strip(part, lines, x, n, within, out + row * shape.out.row, apart * shape.out.row);
    };
    int64_t row = 0;
    const bool square = shape.kernel_y == shape.kernel_x && shape.step_y == kStep;
    const auto shared =
        square ? shared_strip_of<kStep>(shape.kernel_x, vectors, edge) : nullptr;
    for (; shared != nullptr && row + kPlaneRows * d <= count; row += kPlaneRows * d) {
      for (int64_t i = row; i < row + d; ++i) compute(shared, i, d);
    }
    const auto some = plane_strip_of<kPlaneRows, 0, kStep>(vectors, edge);
    for (; row + kPlaneRows <= count; row += kPlaneRows) compute(some, row, 1);
    const auto one = plane_strip_of<1, 0, kStep>(vectors, edge);
    for (; row < count; ++row) compute(one, row, 1);
    x += n;
  }
}

// Rows part.first .. part.last - 1 of a channel of an image.
void planes(const PlanesPart& part) {
  const PlanesShape& shape = *part.shape;
  const float* plane = part.in + part.image * shape.in.image + part.channel * shape.in.channel;
  const int64_t count = part.last - part.first, d = shape.dilation_y, step = shape.step_y;
  PlaneLines lines{plane, 0, nullptr, d, step};
  lines.known = shape.rows.at.data() + shape.rows.before - shape.pad_y + part.first * step;
  if (shape.copied) {
    float* const whole = part.room + shape.lines * shape.line;
    const int64_t last = (count - 1) * step + (shape.kernel_y - 1) * d;
    for (int64_t i = 0; i <= last; ++i) {
      if (!shape.read[i] || lines.known[i] < 0) continue;
      copy_line(part, plane + lines.known[i], part.room + i * shape.line, whole);
    }
    lines.plane = part.room, lines.copy = shape.line;
  }
  // More than two apart are side by side in copies.
  shape.step_x == 2 ? plane_strips<2>(part, lines) : plane_strips<1>(part, lines);
}

}  // namespace
}  // namespace fastgan
