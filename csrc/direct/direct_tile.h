// The inner loops of direct.h, for vectors of FASTGAN_WIDTH floats; included by one file for each
// instruction set, under its target pragma.
//
// A tile is R pixels by V vectors of lanes, held in registers over all taps and input channels.
// What limits it is then arithmetic: a step of R * V multiply-adds loads V vectors of weights and
// R inputs. In bf16 a lane takes two channels at a time.
#pragma once

#include <string.h>

#include "direct.h"
#include "direct_math.h"

namespace fastgan {
namespace {

// Where a tile's pixels read, and which patch they make.
struct Pixels {
  const Element* in[kMostRows];
  int64_t image[kMostRows];
  int64_t y[kMostRows], x[kMostRows];
};

Pixels locate(const Part& part, int64_t first, int64_t count) {
  const Layer& layer = *part.layer;
  const Phase& phase = *part.phase;
  const int64_t pixels = phase.rows * phase.columns;
  int64_t image = first / pixels, y = first % pixels / phase.columns, x = first % phase.columns;
  Pixels found;
  for (int64_t r = 0; r < count; ++r) {
    found.in[r] = static_cast<const Element*>(part.in) + image * layer.in.size() +
                  layer.in.at(y * layer.in_step_y, x * layer.in_step_x);
    found.image[r] = image;
    found.y[r] = phase.out_y + y * layer.out_step_y;
    found.x[r] = phase.out_x + x * layer.out_step_x;
    if (++x < phase.columns) continue;
    x = 0;
    if (++y < phase.rows) continue;
    y = 0;
    ++image;
  }
  return found;
}

// Adds the products of all taps to sums; weights follow in the order in which they are used.
template <int R, int V>
FASTGAN_INLINE void multiply(const Pixels& pixels, const Phase& phase, int64_t channels,
                             const Element* weights, Vector (&sums)[R][V]) {
  for (const int64_t tap : phase.offsets) {
    const Element* in[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) in[r] = pixels.in[r] + tap;
    for (int64_t c = 0; c < channels; c += kPack, weights += V * kWidth * kPack) {
      Factors w[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) w[v] = factors(weights + v * kWidth * kPack);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Factors x = splat_factors(in[r] + c);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sums[r][v] = multiply_add(x, w[v], sums[r][v]);
      }
    }
  }
}

// Writes lanes first .. last - 1 of the patches that the tile's pixels make, pixel by pixel.
template <class T, int B>
void scatter(const Layer& layer, T* images, const Pixels& pixels, int64_t count, int64_t first,
             int64_t last, const float (&values)[kMostRows][B]) {
  const Images& out = layer.out;
  const int64_t row = layer.patch_width * out.channels;
  const bool planar = layer.planar && sizeof(T) > 1;  // bytes never are
  for (int64_t r = 0; r < count; ++r) {
    T* const image = images + pixels.image[r] * out.size();
    int64_t lane = first;
    while (lane < last) {  // what of a pixel is in this block at a time
      const int64_t y = pixels.y[r] + lane / row, within = lane % row;
      const int64_t x = pixels.x[r] + within / out.channels, c = within % out.channels;
      const int64_t left = out.channels - c, run = left < last - lane ? left : last - lane;
      if (y >= 0 && y < out.height && x >= 0 && x < out.width) {
        const float* from = values[r] + (lane - first);
        T* to = planar ? image + (c * out.height + y) * out.width + x : image + out.at(y, x) + c;
        const int64_t step = planar ? out.height * out.width : 1;
        for (int64_t i = 0; i < run; ++i) store_one(to + i * step, from[i]);
      }
      lane += run;
    }
  }
}

// Writes a tile: R pixels by V vectors of lanes, from `lane` on.
template <class T, int R, int V>
FASTGAN_INLINE void write(const Part& part, const Pixels& pixels, int64_t lane,
                          const Vector (&sums)[R][V]) {
  constexpr int kBlock = V * kWidth;
  const Layer& layer = *part.layer;
  const Images& out = layer.out;
  T* const images = static_cast<T*>(part.out);
  const int64_t lanes = layer.lanes(), row = layer.patch_width * out.channels;
  const bool together = layer.patch_width == 1 || out.pixel == out.channels;  // a patch's row
  if (sizeof(T) > 1 && part.phase->whole && !layer.planar && together && lane + kBlock <= lanes &&
      lane % row + kBlock <= row) {
    for (int r = 0; r < R; ++r) {
      T* to = images + pixels.image[r] * out.size() +
              out.at(pixels.y[r] + lane / row, pixels.x[r]) + lane % row;
      for (int v = 0; v < V; ++v) store(to + v * kWidth, sums[r][v]);
    }
    return;
  }
  alignas(64) float values[kMostRows][kBlock];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) store(values[r] + v * kWidth, sums[r][v]);
  }
  const int64_t last = lanes < lane + kBlock ? lanes : lane + kBlock;
  scatter<T, kBlock>(layer, images, pixels, R, lane, last, values);
}

// Whether a tile holds a NaN or Inf.
template <int R, int V>
FASTGAN_INLINE bool is_poisoned(const Vector (&sums)[R][V]) {
  Vector poison{};
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) poison += poison_of(sums[r][v]);
  }
  return is_poison(poison);
}

// Keeps a tile's NaN and Inf from pixels of a patch that they do not belong to.
template <int R, int V>
FASTGAN_INLINE void clean(const Pixels& pixels, const Phase& phase, int64_t channels,
                          const Element* weights, const float* bias, Vector (&sums)[R][V]) {
  constexpr int kBlock = V * kWidth;
  alignas(64) float values[R * kBlock];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) store(values + r * kBlock + v * kWidth, sums[r][v]);
  }
  const auto in = [&](int64_t tap, int64_t r) { return pixels.in[r] + phase.offsets[tap]; };
  const int64_t taps = phase.offsets.size();
  keep_apart(in, R, taps, channels, weights, bias, kBlock, values);
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) sums[r][v] = load(values + r * kBlock + v * kWidth);
  }
}

template <int R, int V>
void tile(const Part& part, int64_t first) {
  constexpr int kBlock = V * kWidth;
  const Layer& layer = *part.layer;
  const Phase& phase = *part.phase;
  const int64_t lane = part.block * kBlock;
  const int64_t channels = layer.in.pixel, taps = phase.offsets.size();
  const float* const bias = layer.bias == nullptr ? nullptr : layer.bias + lane;
  const Element* const weights =
      static_cast<const Element*>(phase.weights) + part.block * taps * channels * kBlock;
  const Pixels pixels = locate(part, first, R);
  Vector sums[R][V];
  for (int v = 0; v < V; ++v) {
    const Vector begin = bias == nullptr ? Vector{} : load(bias + v * kWidth);
    for (int r = 0; r < R; ++r) sums[r][v] = begin;
  }
  multiply<R, V>(pixels, phase, channels, weights, sums);
  if (phase.sparse && is_poisoned(sums)) {
    clean(pixels, phase, channels, weights, bias, sums);
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) sums[r][v] = apply(layer.after, layer.slope, sums[r][v]);
  }
  if (part.nonfinite != nullptr && is_poisoned(sums)) {
    part.nonfinite->store(true, std::memory_order_relaxed);
  }
  if (part.bytes != nullptr) {
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) {
        sums[r][v] = to_bytes(sums[r][v], part.bytes->low, part.bytes->scale);
      }
    }
    write<uint8_t, R, V>(part, pixels, lane, sums);
  } else if (layer.last) {
    write<float, R, V>(part, pixels, lane, sums);
  } else {
    write<Element, R, V>(part, pixels, lane, sums);
  }
}

using Tile = void (*)(const Part&, int64_t);

template <int V, int... R>
constexpr Tile tile_of(int64_t rows, std::integer_sequence<int, R...>) {
  constexpr Tile tiles[] = {tile<R + 1, V>...};
  return tiles[rows - 1];
}

void run(const Part& part) {
  const int64_t pixels = part.images * part.phase->rows * part.phase->columns;
  const int64_t tiles = (pixels + kMostRows - 1) / kMostRows;
  for (int64_t t = part.first; t < part.last; ++t) {
    // Tiles as even as can be: one pixel alone takes as long as several.
    const int64_t first = t * pixels / tiles, rows = (t + 1) * pixels / tiles - first;
    constexpr auto all = std::make_integer_sequence<int, kMostRows>();
    (part.layer->vectors == 1 ? tile_of<1>(rows, all) : tile_of<2>(rows, all))(part, first);
  }
}

}  // namespace
}  // namespace fastgan
