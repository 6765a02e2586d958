// The inner loops of direct.h, for vectors of FASTGAN_WIDTH floats; included by one file for each
// instruction set, under its target pragma.
//
// A tile is R pixels by V vectors of lanes, held in registers over all taps and input channels.
// What limits it is then arithmetic: a step of R * V multiply-adds loads V vectors of weights and
// R floats.
#pragma once

#include <string.h>

#include "direct.h"
#include "direct_math.h"

namespace fastgan {
namespace {

// Where a tile's pixels read, and which patch they make.
struct Pixels {
  const float* in[kMostRows];
  float* out[kMostRows];  // of the image
  int64_t y[kMostRows], x[kMostRows];
};

Pixels locate(const Part& part, int64_t first, int64_t count) {
  const Layer& layer = *part.layer;
  const Phase& phase = *part.phase;
  const int64_t pixels = phase.rows * phase.columns;
  int64_t image = first / pixels, y = first % pixels / phase.columns, x = first % phase.columns;
  Pixels found;
  for (int64_t r = 0; r < count; ++r) {
    found.in[r] = part.in + image * layer.in.size() +
                  layer.in.at(y * layer.in_step_y, x * layer.in_step_x);
    found.out[r] = part.out + image * layer.out.size();
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

// Adds the products of all taps to sums.
template <int R, int V>
FASTGAN_INLINE void multiply(const Pixels& pixels, const Phase& phase, int64_t channels,
                             const float* weights, Vector (&sums)[R][V]) {
  for (const int64_t tap : phase.offsets) {
    const float* in[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) in[r] = pixels.in[r] + tap;
    for (int64_t c = 0; c < channels; ++c, weights += V * kWidth) {
      Vector w[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) w[v] = load(weights + v * kWidth);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Vector x = splat(in[r][c]);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sums[r][v] = multiply_add(x, w[v], sums[r][v]);
      }
    }
  }
}

// Writes lanes first .. last - 1 of the patches that R pixels make, one by one.
template <int B>
void scatter(const Layer& layer, const Pixels& pixels, int64_t count, int64_t first, int64_t last,
             const float (&values)[kMostRows][B]) {
  const Images& out = layer.out;
  const int64_t row = layer.patch_width * out.channels;
  for (int64_t r = 0; r < count; ++r) {
    int64_t lane = first;
    while (lane < last) {  // a pixel, or what of it is in this block, at a time
      const int64_t y = pixels.y[r] + lane / row, within = lane % row;
      const int64_t x = pixels.x[r] + within / out.channels, c = within % out.channels;
      const int64_t left = out.channels - c, run = left < last - lane ? left : last - lane;
      if (y >= 0 && y < out.height && x >= 0 && x < out.width) {
        const float* from = values[r] + (lane - first);
        if (layer.planar) {
          float* to = pixels.out[r] + (c * out.height + y) * out.width + x;
          for (int64_t i = 0; i < run; ++i) to[i * out.height * out.width] = from[i];
        } else {
          memcpy(pixels.out[r] + out.at(y, x) + c, from, run * sizeof(float));
        }
      }
      lane += run;
    }
  }
}

template <int R, int V>
void tile(const Part& part, int64_t first) {
  constexpr int kBlock = V * kWidth;
  const Layer& layer = *part.layer;
  const Phase& phase = *part.phase;
  const int64_t lane = part.block * kBlock, lanes = layer.lanes();
  const int64_t channels = layer.in.channels, taps = phase.offsets.size();
  const Pixels pixels = locate(part, first, R);
  Vector sums[R][V];
  for (int v = 0; v < V; ++v) {
    const Vector bias = layer.bias == nullptr ? Vector{} : load(layer.bias + lane + v * kWidth);
    for (int r = 0; r < R; ++r) sums[r][v] = bias;
  }
  multiply<R, V>(pixels, phase, channels,
                 phase.weights + part.block * taps * channels * kBlock, sums);
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) sums[r][v] = apply(layer.after, layer.slope, sums[r][v]);
  }
  const int64_t row = layer.patch_width * layer.out.channels;
  if (phase.whole && !layer.planar && lane + kBlock <= lanes && lane % row + kBlock <= row) {
    for (int r = 0; r < R; ++r) {
      float* out = pixels.out[r] + layer.out.at(pixels.y[r] + lane / row, pixels.x[r]) + lane % row;
      for (int v = 0; v < V; ++v) store(out + v * kWidth, sums[r][v]);
    }
    return;
  }
  alignas(64) float values[kMostRows][kBlock];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) store(values[r] + v * kWidth, sums[r][v]);
  }
  scatter<kBlock>(layer, pixels, R, lane, lanes < lane + kBlock ? lanes : lane + kBlock, values);
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
