// Convolutions on one thread; those of few channels first, whose taps of a row are read as one.
// Included by kernels_code.h.
#pragma once

#include "kernels_tile.h"

namespace fastgan {
namespace {

// Copies `count` pixels of a row from column `first` on, with what lies beyond the image.
inline void copy_line(const DenseShape& shape, const Element* image, int64_t row, int64_t first,
                      int64_t count, Element* to) {
  const int64_t channels = shape.in.channels;
  const int64_t* columns = shape.columns.at.data() + shape.columns.before;
  if (row < 0) {
    memset(to, 0, count * channels * sizeof(Element));
    return;
  }
  for (int64_t x = first; x < first + count;) {
    if (x >= 0 && x < shape.in.width) {
      const int64_t left = first + count - x, there = shape.in.width - x;
      const int64_t some = left < there ? left : there;
      memcpy(to, image + row + columns[x], some * channels * sizeof(Element));
      to += some * channels;
      x += some;
      continue;
    }
    const bool none = columns[x] < 0;
    for (int64_t c = 0; c < channels; ++c) *to++ = none ? Element{} : image[row + columns[x] + c];
    ++x;
  }
}

// values [R][V * kWidth] = the products of all lines, `length` elements of each, from `first` on for
// the first pixel and `step` further for each one after it. Its inner loop is that of `multiply`: a
// function of both, given what reads a pixel, made networks 1 to 2 % slower.
template <int R, int V>
FASTGAN_NOINLINE void multiply_lines(const Element* const* lines, int64_t count, int64_t length,
                                     int64_t first, int64_t step, const Element* weights,
                                     float* values) {
  constexpr int kGroups = (R + 3) / 4;  // of four pixels, which one pointer reaches
  Vector sums[R][V] = {};
  for (int64_t t = 0; t < count; ++t) {
    const Element* x[kGroups];
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) x[g] = lines[t] + first + 4 * g * step;
    for (int64_t c = 0; c < length; c += kPack, weights += V * kWidth * kPack) {
      Factors w[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) w[v] = factors(weights + v * kWidth * kPack);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Factors a = splat_factors(x[r / 4] + r % 4 * step);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sums[r][v] = multiply_add(a, w[v], sums[r][v]);
      }
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) x[g] += kPack;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) store(values + (r * V + v) * kWidth, sums[r][v]);
  }
}

using MultiplyLines = void (*)(const Element* const*, int64_t, int64_t, int64_t, int64_t,
                               const Element*, float*);

template <int V, int... R>
constexpr MultiplyLines multiply_lines_of(int64_t rows, std::integer_sequence<int, R...>) {
  constexpr MultiplyLines all[] = {multiply_lines<R + 1, V>...};
  return all[rows - 1];
}

// The curve of pixels' values [rows][n], n <= block, each with its bias; `pitch` floats apart then.
template <class F>
FASTGAN_INLINE void each_vector(const float* values, int64_t rows, int64_t block, int64_t n,
                                const float* bias, float* to, int64_t pitch, const F& curve) {
  for (int64_t i = 0; i < n; i += kWidth) {
    const Vector more = bias == nullptr ? Vector{} : load(bias + i);
    for (int64_t r = 0; r < rows; ++r) {
      Vector x = load(values + r * block + i);
      if (bias != nullptr) x += more;
      store(to + r * pitch + i, curve(x, i));
    }
  }
}

inline void finish_pixels(const Epilogue& e, const float* bias, const float* slopes,
                          const float* values, int64_t rows, int64_t block, int64_t n, float* to,
                          int64_t pitch) {
  const auto each = [&](const auto& curve) {
    each_vector(values, rows, block, n, bias, to, pitch, curve);
  };
  const float parameter = e.parameter;
  if (slopes != nullptr) {
    return each([&](Vector x, int64_t i) {
      const Vector slope = i + kWidth <= n ? load(slopes + i) : load_some(slopes + i, n - i);
      return negative_part(x, x * slope);
    });
  }
  switch (e.curve) {
    case Curve::kNone: return each([&](Vector x, int64_t) { return x; });
    case Curve::kRelu: return each([&](Vector x, int64_t) { return negative_part(x, Vector{}); });
    case Curve::kLeakyRelu:
      return each([&](Vector x, int64_t) { return negative_part(x, x * parameter); });
    case Curve::kTanh: return each([&](Vector x, int64_t) { return hyperbolic_tangent(x); });
    default: return each([&](Vector x, int64_t) { return curve_of(e.curve, parameter, x); });
  }
}

// Finishes and stores lanes from `lane` on of pixels side by side, the first of which begins at
// output (y, x), where nothing but a bias and slopes is added; as `is_written_in_runs` has it.
inline void write_runs(const DensePart& part, int64_t image, int64_t y, int64_t x, int64_t rows,
                       int64_t lane, int64_t block, float* values) {
  const DenseShape& shape = *part.shape;
  const Grid& out = shape.out;
  const Epilogue& e = shape.epilogue;
  const int64_t lanes = shape.lanes(), row = shape.patch_width * out.channels;
  const int64_t n = lanes - lane < block ? lanes - lane : block, pitch = shape.out_step_x * out.pixel;
  const float* bias = shape.bias == nullptr ? nullptr : shape.bias + lane;
  const float* slopes = e.slopes == nullptr ? nullptr : e.slopes + lane;
  int64_t first = lane;
  if (lanes > row) y += lane / row, first = lane % row;
  float* const to = part.out + image * out.image;
  if (part.phase->whole && n % kWidth == 0 && first + n <= row) {
    float* const start = to + y * out.row + x * out.pixel + first;
    return finish_pixels(e, bias, slopes, values, rows, block, n, start, pitch);
  }
  finish_pixels(e, bias, slopes, values, rows, block, n, values, block);
  const int64_t width = out.width * out.pixel;
  for (int64_t at = 0; at < n; ++y) {
    const int64_t run = row - first < n - at ? row - first : n - at;
    if (y >= 0 && y < out.height) {
      float* const line = to + y * out.row;
      int64_t place = x * out.pixel + first;
      // Runs without gaps: what a whole vector has beyond its pixel the next one's overwrites.
      const int64_t after = place + rows * pitch, end = after < width ? after : width;
      const int64_t covered = run == pitch ? end : 0;
      const float* from = values + at;
      for (int64_t r = 0; r < rows; ++r, from += block, place += pitch) {
        if (place < 0 || place + run > width) {  // a patch that reaches over an edge
          const int64_t begin = place < 0 ? -place : 0;
          const int64_t stop = width - place < run ? width - place : run;
          if (begin < stop) copy(from + begin, stop - begin, line + place + begin);
          continue;
        }
        for (int64_t i = 0; i < run; i += kWidth) {
          const Vector some = load(from + i);
          if (i + kWidth <= run || place + i + kWidth <= covered) {
            store(line + place + i, some);
          } else {
            store_some(line + place + i, some, run - i);
          }
        }
      }
    }
    at += run;
    first = 0;
  }
}

inline bool is_written_in_runs(const DensePart& part) {
  const DenseShape& shape = *part.shape;
  const bool pixelwise = shape.lanes() == shape.out.channels;
  return part.scale == nullptr && part.residual == nullptr &&
         (pixelwise || (shape.out.pixel == shape.out.channels && shape.epilogue.slopes == nullptr));
}

// A layer of few channels: pointers to each tap, and edges, would take longer than its products. The
// taps of a row are one whose inputs lie side by side, and lines of inputs are copied with what lies
// beyond their ends, so that pixels read them at steps. A line stays for the next rows' taps.
void dense_lines(const DensePart& part) {
  const DenseShape& shape = *part.shape;
  const DensePhase& phase = *part.phase;
  const int64_t joined = phase.joined, count = static_cast<int64_t>(phase.taps.size()) / joined;
  const int64_t length = joined * shape.in.channels, step = shape.in_step_x * shape.in.pixel;
  const int64_t block = shape.vectors * kWidth;
  const int64_t* rows = shape.rows.at.data() + shape.rows.before;
  const bool adjacent = phase.taps.back().first - phase.taps[0].first == count - 1;
  const bool in_runs = is_written_in_runs(part);
  Element* const room = reinterpret_cast<Element*>(part.room);
  const Element* lines[kMostJoined];
  int64_t held[kMostJoined];  // which rows of the image the lines are
  alignas(64) float values[kMostRows * kMostBlock + kWidth];
  TilePixels located;
  int64_t piece = part.first_tile % phase.pieces, y = part.first_tile / phase.pieces % phase.rows;
  int64_t image = part.first_tile / phase.pieces / phase.rows;
  for (int64_t tile = part.first_tile; tile < part.last_tile; ++tile) {
    const int64_t first = piece * phase.columns / phase.pieces;
    const int64_t some = (piece + 1) * phase.columns / phase.pieces - first;
    const Element* from = static_cast<const Element*>(part.in) + image * shape.in.image;
    if (tile == part.first_tile || phase.pieces > 1 || y == 0) {
      for (int64_t t = 0; t < count; ++t) held[t] = INT64_MIN;
    }
    int64_t place = adjacent ? y * shape.in_step_y % count : 0;
    for (int64_t t = 0; t < count; ++t) {
      const auto [dy, dx] = phase.taps[t * joined];
      const int64_t row = y * shape.in_step_y + dy;
      Element* const line = room + place * phase.line;
      int64_t& there = held[place];
      if (++place == count) place = 0;
      lines[t] = line;
      if (there == row) continue;
      there = row;
      copy_line(shape, from, rows[row], first * shape.in_step_x + dx,
                (some - 1) * shape.in_step_x + joined, line);
    }
    const int64_t out_y = phase.out_y + y * shape.out_step_y;
    const int64_t groups = divide_up(some, kMostRows);
    for (int64_t g = 0, begin = 0; g < groups; ++g) {
      const int64_t high = (some - begin + groups - g - 1) / (groups - g);  // as even as can be
      const int64_t out_x = phase.out_x + (first + begin) * shape.out_step_x;
      constexpr auto sizes = std::make_integer_sequence<int, kMostRows>();
      const MultiplyLines multiply = shape.vectors == 1 ? multiply_lines_of<1>(high, sizes)
                                                        : multiply_lines_of<2>(high, sizes);
      located.count = high;
      for (int64_t r = 0; !in_runs && r < high; ++r) {
        located.image[r] = image;
        located.y[r] = out_y;
        located.x[r] = out_x + r * shape.out_step_x;
      }
      for (int64_t b = part.first_block; b < part.last_block; ++b) {
        const Element* weights =
            static_cast<const Element*>(part.weights) + b * count * length * block;
        multiply(lines, count, length, begin * step, step, weights, values);
        if (phase.sparse) {
          const auto in = [&](int64_t t, int64_t r) { return lines[t] + (begin + r) * step; };
          keep_finite(in, high, count, length, weights, block, values);
        }
        if (in_runs) {
          write_runs(part, image, out_y, out_x, high, b * block, block, values);
        } else {
          write(part, located, b * block, block, values);
        }
      }
      begin += high;
    }
    if (++piece < phase.pieces) continue;
    piece = 0;
    if (++y < phase.rows) continue;
    y = 0;
    ++image;
  }
}

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
