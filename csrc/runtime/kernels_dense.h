// Convolutions on one thread; included by kernels_code.h.
//
// A tile is R pixels by V vectors of lanes, held in registers over all taps and channels. Each pixel
// and tap has a pointer to its input, so that edges, steps and dilations cost the inner loop nothing.
#pragma once

#include "kernels_math.h"

namespace fastgan {
namespace {

constexpr int64_t kMostTaps = 512;
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
inline void point(const DensePart& part, const TilePixels& pixels, const float** to) {
  const DenseShape& shape = *part.shape;
  const DensePhase& phase = *part.phase;
  const int64_t count = pixels.count, taps = static_cast<int64_t>(phase.taps.size());
  const float* image[kMostRows];
  bool inside = true;
  for (int64_t r = 0; r < count; ++r) {
    image[r] = part.in + pixels.image[r] * shape.in.image;
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
  for (int64_t t = 0; t < taps; ++t) {
    const auto [dy, dx] = phase.taps[t];
    for (int64_t r = 0; r < count; ++r) {
      const int64_t y = rows[pixels.in_y[r] + dy], x = columns[pixels.in_x[r] + dx];
      to[t * count + r] = (y | x) < 0 ? shape.zeros.data() : image[r] + y + x;
    }
  }
}

// values [R][V * kWidth] = the products of all taps, summed.
template <int R, int V>
FASTGAN_NOINLINE void multiply(const float* const* in, int64_t taps, int64_t channels,
                               const float* weights, float* values) {
  Vector sums[R][V] = {};
  for (int64_t t = 0; t < taps; ++t, in += R) {
    const float* x[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) x[r] = in[r];
    for (int64_t c = 0; c < channels; ++c, weights += V * kWidth) {
      Vector w[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) w[v] = load(weights + v * kWidth);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Vector a = splat(x[r][c]);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sums[r][v] = multiply_add(a, w[v], sums[r][v]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) store(values + (r * V + v) * kWidth, sums[r][v]);
  }
}

using Multiply = void (*)(const float* const*, int64_t, int64_t, const float*, float*);

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
      const int64_t y = pixels.y[r] + at / row, within = at % row;
      const int64_t x = pixels.x[r] + within / out.channels, c = within % out.channels;
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
  const bool patches = shape.lanes() > shape.out.channels;
  const float* in[kMostTaps * kMostRows];
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
      const float* weights = part.weights + b * taps * channels * block;
      multiply(in, taps, channels, weights, values);
      if (patches) {
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

void depthwise(const DepthwisePart& part) {
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
  for (int64_t first = 0; first < out.width; first += kStrip) {
    // A strip that is not full is computed as if it were: its last pixel again.
    const int64_t count = out.width - first < kStrip ? out.width - first : kStrip;
    const int64_t strip = count == 1 ? 1 : kStrip;
    for (int64_t t = 0; t < taps; ++t) {
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
