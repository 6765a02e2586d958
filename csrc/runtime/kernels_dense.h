// Convolutions on one thread; included by kernels_code.h.
//
// A tile is R pixels by V vectors of lanes, held in registers over all taps and channels. Each pixel
// and tap has a pointer to its input, so that edges, steps and dilations cost the inner loop nothing.
#pragma once

#include "kernels_math.h"

namespace fastgan {
namespace {

constexpr int kMostBlock = 2 * kWidth;

// The pixels of a tile: where each reads, and which patch it makes.
struct TilePixels {
  int64_t count;
  int64_t image[kMostRows], in_y[kMostRows], in_x[kMostRows], y[kMostRows], x[kMostRows];
};

inline void locate(const DensePart& part, int64_t first, TilePixels& found) {
  const DenseShape& shape = *part.shape;
  const DensePhase& phase = *part.phase;
  const int64_t pixels = phase.rows * phase.columns;
  int64_t image = first / pixels, y = first % pixels / phase.columns, x = first % phase.columns;
  for (int64_t r = 0; r < found.count; ++r) {
    found.image[r] = image;
    found.in_y[r] = y * shape.in_step_y;
    found.in_x[r] = x * shape.in_step_x;
    found.y[r] = phase.out_y + y * shape.out_step_y;
    found.x[r] = phase.out_x + x * shape.out_step_x;
    if (++x < phase.columns) continue;
    x = 0;
    if (++y < phase.rows) continue;
    y = 0;
    ++image;
  }
}

// The inputs of taps and pixels: [taps][count].
inline void point(const DensePart& part, const TilePixels& pixels, const Element** to) {
  const DenseShape& shape = *part.shape;
  const DensePhase& phase = *part.phase;
  const int64_t count = pixels.count, taps = static_cast<int64_t>(phase.taps.size());
  const Element* image[kMostRows];
  bool inside = true;
  for (int64_t r = 0; r < count; ++r) {
    image[r] = static_cast<const Element*>(part.in) + pixels.image[r] * shape.in.image;
    inside = inside && pixels.in_y[r] >= shape.rows.first && pixels.in_y[r] < shape.rows.last &&
             pixels.in_x[r] >= shape.columns.first && pixels.in_x[r] < shape.columns.last;
  }
  if (inside) {
    for (int64_t r = 0; r < count; ++r) {
      image[r] += pixels.in_y[r] * shape.in.row + pixels.in_x[r] * shape.in.pixel;
    }
    for (int64_t t = 0; t < taps; ++t) {
      for (int64_t r = 0; r < count; ++r) to[t * count + r] = image[r] + phase.offsets[t];
    }
    return;
  }
  const int64_t* rows = shape.rows.at.data() + shape.rows.before;
  const int64_t* columns = shape.columns.at.data() + shape.columns.before;
  const Element* zeros = reinterpret_cast<const Element*>(shape.zeros.data());
  for (int64_t t = 0; t < taps; ++t) {
    const auto [dy, dx] = phase.taps[t];
    for (int64_t r = 0; r < count; ++r) {
      const int64_t y = rows[pixels.in_y[r] + dy], x = columns[pixels.in_x[r] + dx];
      to[t * count + r] = (y | x) < 0 ? zeros : image[r] + y + x;
    }
  }
}

// values [R][V * kWidth] = the products of all taps, summed.
template <int R, int V>
FASTGAN_NOINLINE void multiply(const Element* const* in, int64_t taps, int64_t channels,
                               const Element* weights, float* values) {
  Vector sums[R][V] = {};
  for (int64_t t = 0; t < taps; ++t, in += R) {
    const Element* x[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) x[r] = in[r];
    for (int64_t c = 0; c < channels; c += kPack, weights += V * kWidth * kPack) {
      Factors w[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) w[v] = factors(weights + v * kWidth * kPack);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Factors a = splat_factors(x[r] + c);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sums[r][v] = multiply_add(a, w[v], sums[r][v]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) store(values + (r * V + v) * kWidth, sums[r][v]);
  }
}

using Multiply = void (*)(const Element* const*, int64_t, int64_t, const Element*, float*);

template <int V, int... R>
constexpr Multiply multiply_of(int64_t rows, std::integer_sequence<int, R...>) {
  constexpr Multiply all[] = {multiply<R + 1, V>...};
  return all[rows - 1];
}

inline Multiply multiply_of(int64_t rows, int64_t vectors) {
  constexpr auto all = std::make_integer_sequence<int, kMostRows>();
  return vectors == 1 ? multiply_of<1>(rows, all) : multiply_of<2>(rows, all);
}

// Stores lanes from `lane` on of the patches of a tile.
inline void write(const DensePart& part, const TilePixels& pixels, int64_t lane, int64_t block,
                  const float* values) {
  const DenseShape& shape = *part.shape;
  const Grid& out = shape.out;
  const Epilogue& e = shape.epilogue;
  const int64_t lanes = shape.lanes(), row = shape.patch_width * out.channels;
  const int64_t last = lanes < lane + block ? lanes : lane + block;
  for (int64_t r = 0; r < pixels.count; ++r, values += block) {
    const int64_t image = pixels.image[r];
    float* const to = part.out + image * out.image;
    for (int64_t at = lane; at < last;) {  // what of an output pixel is in this block at a time
      int64_t y = pixels.y[r], x = pixels.x[r], c = at;
      if (lanes > out.channels) {  // a division takes as long as a few vectors
        const int64_t within = at % row;
        y += at / row, x += within / out.channels, c = within % out.channels;
      }
      const int64_t left = out.channels - c, run = left < last - at ? left : last - at;
      if (part.phase->whole || (y >= 0 && y < out.height && x >= 0 && x < out.width)) {
        Operands with = operands(e, nullptr, part.scale, part.residual, image, y, x, c);
        if (shape.bias != nullptr) with.bias = shape.bias + at;
        finish(e, with, values + (at - lane), run, to + y * out.row + x * out.pixel + c);
      }
      at += run;
    }
  }
}

void dense(const DensePart& part) {
  const DenseShape& shape = *part.shape;
  const DensePhase& phase = *part.phase;
  const int64_t pixels = part.images * phase.rows * phase.columns;
  const int64_t tiles = (pixels + kMostRows - 1) / kMostRows, block = shape.vectors * kWidth;
  const int64_t taps = static_cast<int64_t>(phase.taps.size()), channels = shape.in.channels;
  const Element* in[kMostTaps * kMostRows];
  alignas(64) float values[kMostRows * kMostBlock];
  TilePixels located;
  for (int64_t t = part.first_tile; t < part.last_tile; ++t) {
    // Tiles as even as can be: one pixel alone takes as long as several.
    const int64_t first = t * pixels / tiles;
    located.count = (t + 1) * pixels / tiles - first;
    locate(part, first, located);
    point(part, located, in);
    const Multiply multiply = multiply_of(located.count, shape.vectors);
    for (int64_t b = part.first_block; b < part.last_block; ++b) {
      const Element* weights =
          static_cast<const Element*>(part.weights) + b * taps * channels * block;
      multiply(in, taps, channels, weights, values);
      if (phase.sparse) {
        Vector poison{};
        for (int64_t i = 0; i < located.count * block; i += kWidth) {
          poison += poison_of(load(values + i));
        }
        if (is_poison(poison)) {
          const auto at = [&](int64_t t, int64_t r) { return in[t * located.count + r]; };
          keep_apart(at, located.count, taps, channels, weights, nullptr, block, values);
        }
      }
      write(part, located, b * block, block, values);
    }
  }
}

}  // namespace
}  // namespace fastgan
