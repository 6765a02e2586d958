// Tiles of a convolution on one thread; included by kernels_lines.h.
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
  const int64_t* rows = shape.rows.at.data() + shape.rows.before;
  const int64_t* columns = shape.columns.at.data() + shape.columns.before;
  const Element* zeros = reinterpret_cast<const Element*>(shape.zeros.data());
  for (int64_t r = 0; r < count; ++r, ++to) {
    const Element* image = static_cast<const Element*>(part.in) + pixels.image[r] * shape.in.image;
    const int64_t in_y = pixels.in_y[r], in_x = pixels.in_x[r];
    if (in_y >= shape.rows.first && in_y < shape.rows.last && in_x >= shape.columns.first &&
        in_x < shape.columns.last) {
      image += in_y * shape.in.row + in_x * shape.in.pixel;
      for (int64_t t = 0; t < taps; ++t) to[t * count] = image + phase.offsets[t];
      continue;
    }
    for (int64_t t = 0; t < taps; ++t) {
      const auto [dy, dx] = phase.taps[t];
      const int64_t y = rows[in_y + dy], x = columns[in_x + dx];
      to[t * count] = (y | x) < 0 ? zeros : image + y + x;
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

// The same of one pixel and several blocks of lanes, `step` elements apart: a block's sums by
// themselves would wait for each other. values: [kBlocks][V * kWidth].
constexpr int kBlocks = kBlocksOfAPixel;

template <int V>
FASTGAN_NOINLINE void multiply_blocks(const Element* const* in, int64_t taps, int64_t channels,
                                      const Element* weights, int64_t step, float* values) {
  Vector sums[kBlocks][V] = {};
  for (int64_t t = 0; t < taps; ++t) {
    const Element* x = in[t];
    for (int64_t c = 0; c < channels; c += kPack, weights += V * kWidth * kPack) {
      const Factors a = splat_factors(x + c);
#pragma GCC unroll 4
      for (int b = 0; b < kBlocks; ++b) {
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) {
          const Factors w = factors(weights + b * step + v * kWidth * kPack);
          sums[b][v] = multiply_add(a, w, sums[b][v]);
        }
      }
    }
  }
  for (int b = 0; b < kBlocks; ++b) {
    for (int v = 0; v < V; ++v) store(values + (b * V + v) * kWidth, sums[b][v]);
  }
}

using Multiply = void (*)(const Element* const*, int64_t, int64_t, const Element*, float*);

struct Multiplies {
  template <int R, int V>
  static constexpr Multiply of = multiply<R, V>;
};

template <class Functions, int V, int... R>
constexpr auto made_for(int64_t rows, std::integer_sequence<int, R...>) {
  constexpr decltype(Functions::template of<1, V>) all[] = {Functions::template of<R + 1, V>...};
  return all[rows - 1];
}

// The one of `Functions` that is made for so many rows, of pixels say, by vectors.
template <class Functions>
inline auto made_for(int64_t rows, int64_t vectors) {
  constexpr auto all = std::make_integer_sequence<int, kMostRows>();
  return vectors == 1 ? made_for<Functions, 1>(rows, all) : made_for<Functions, 2>(rows, all);
}

// Calls a function with each run of lanes from `lane` on of the patches of a tile, row by row, where
// pixels lie side by side: where it is among the tile's values, its length, image, row, and float of
// that row.
template <class F>
FASTGAN_INLINE void each_run(const DensePart& part, const TilePixels& pixels, int64_t lane,
                             int64_t block, const F& run_of) {
  const DenseShape& shape = *part.shape;
  const Grid& out = shape.out;
  const int64_t channels = out.channels, row = shape.patch_width * channels;
  const int64_t left = shape.lanes() - lane, last = left < block ? left : block;
  for (int64_t r = 0; r < pixels.count; ++r) {
    // A patch may reach over the edges: what of its rows is within them.
    const int64_t before = -pixels.x[r] * channels, after = before + out.width * channels;
    int64_t y = pixels.y[r] + lane / row, first = lane % row;
    for (int64_t at = 0; at < last; ++y) {
      const int64_t run = row - first < last - at ? row - first : last - at;
      if (y >= 0 && y < out.height) {
        const int64_t begin = before > first ? before : first;
        const int64_t end = after < first + run ? after : first + run;
        if (begin < end) {
          run_of(r * block + at + (begin - first), end - begin, pixels.image[r], y, begin - before);
        }
      }
      at += run;
      first = 0;
    }
  }
}

// Finishes and stores lanes from `lane` on of pixels.
inline void write_pixels(const DensePart& part, const TilePixels& pixels, int64_t lane,
                         int64_t block, const float* values) {
  const DenseShape& shape = *part.shape;
  const Grid& out = shape.out;
  const Curve curve = shape.epilogue.curve;
  const float parameter = shape.epilogue.parameter;
  const float* bias = shape.bias == nullptr ? nullptr : shape.bias + lane;
  const int64_t left = out.channels - lane, n = left < block ? left : block;
  for (int64_t r = 0; r < pixels.count; ++r, values += block) {
    float* to = part.out + pixels.image[r] * out.image + pixels.y[r] * out.row +
                pixels.x[r] * out.pixel + lane;
    for (int64_t i = 0; i < n; i += kWidth) {
      Vector x = load(values + i);
      if (bias != nullptr) x += load(bias + i);
      x = bend(curve, parameter, x);
      if (i + kWidth <= n) {
        store(to + i, x);
      } else {
        store_some(to + i, x, n - i);
      }
    }
  }
}

// Finishes and stores lanes from `lane` on of the patches of a tile.
inline void write(const DensePart& part, const TilePixels& pixels, int64_t lane, int64_t block,
                  float* values) {
  const DenseShape& shape = *part.shape;
  const Grid& out = shape.out;
  const Epilogue& e = shape.epilogue;
  const int64_t lanes = shape.lanes(), row = shape.patch_width * out.channels;
  const int64_t last = lanes < lane + block ? lanes : lane + block;
  const bool plain = part.scale == nullptr && e.slopes == nullptr;
  const bool alone = plain && part.residual == nullptr;
  if (alone && lanes == out.channels && part.phase->whole) {
    return write_pixels(part, pixels, lane, block, values);
  }
  const bool alike = e.residual_pixel == out.channels && e.residual_channel == 1;
  if (plain && out.pixel == out.channels && (alone || (alike && lanes > out.channels))) {
    // Whole vectors at once, before they fall into pixels of a few channels each.
    const float* bias = shape.bias == nullptr ? nullptr : shape.bias + lane;
    alignas(64) float beside[kMostRows * kMostBlock];
    if (!alone) {
      each_run(part, pixels, lane, block,
               [&](int64_t at, int64_t n, int64_t image, int64_t y, int64_t x) {
                 const float* from = part.residual + image * e.residual_image;
                 copy(from + y * e.residual_row + x, n, beside + at);
               });
    }
    for (int64_t r = 0; r < pixels.count; ++r) {
      const float* residual = alone ? nullptr : beside + r * block;
      finish(e, {bias, nullptr, residual, nullptr}, values + r * block, block, values + r * block);
    }
    return each_run(part, pixels, lane, block,
                    [&](int64_t at, int64_t n, int64_t image, int64_t y, int64_t x) {
                      float* to = part.out + image * out.image + y * out.row + x;
                      copy(values + at, n, to);
                    });
  }
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

// Keeps what is not finite from lanes that lack its tap or channel. in: of a tap and a pixel.
template <class In>
FASTGAN_INLINE void keep_finite(const In& in, int64_t count, int64_t taps, int64_t channels,
                                const Element* weights, int64_t block, float* values) {
  Vector poison{};
  for (int64_t i = 0; i < count * block; i += kWidth) poison += poison_of(load(values + i));
  if (is_poison(poison)) {
    keep_apart(in, count, taps, channels, weights, block, values);
  }
}

// Multiplies, finishes and stores a tile of all blocks. in: its inputs, [taps][pixels].
inline void make_tile(const DensePart& part, const TilePixels& pixels, const Element* const* in,
                      int64_t taps, int64_t channels) {
  const int64_t block = part.shape->vectors * kWidth;
  const int64_t step = taps * channels * block;
  alignas(64) float room[kMostRows * kMostBlock];
  static_assert(kMostRows >= kBlocks, "room for the blocks of a pixel");
  const Multiply multiply = made_for<Multiplies>(pixels.count, part.shape->vectors);
  const auto several = part.shape->vectors == 1 ? multiply_blocks<1> : multiply_blocks<2>;
  int64_t ready = part.first_block;
  for (int64_t b = part.first_block; b < part.last_block; ++b) {
    const Element* weights = static_cast<const Element*>(part.weights) + b * step;
    float* values = room;
    if (pixels.count > 1 || (b == ready && part.last_block - b < kBlocks)) {
      multiply(in, taps, channels, weights, values);
      ready = b + 1;
    } else {
      if (b == ready) {
        several(in, taps, channels, weights, step, room);
        ready = b + kBlocks;
      }
      values = room + (b + kBlocks - ready) * block;
    }
    const auto at = [&](int64_t t, int64_t r) { return in[t * pixels.count + r]; };
    if (part.phase->sparse) keep_finite(at, pixels.count, taps, channels, weights, block, values);
    write(part, pixels, b * block, block, values);
  }
}

}  // namespace
}  // namespace fastgan
