// Phases of 3 x 3 taps by Winograd's minimal filtering (Lavin and Gray, 2016): M x M pixels at a time
// take (M + 2)^2 products for each channel, not 9 M^2. Included by kernels_code.h.
//
// M = 2 is as exact as the sum itself; M = 4, on the points 0, +-3/4, +-3/2 and infinity, whose
// errors are the least of those tried, loses two to three bits. fastgan/engine/native/winograd.py
// says where which is taken, and transforms the weights.
#pragma once

#include <cmath>
#include <limits>

#include "kernels_dense.h"

namespace fastgan {
namespace {

template <int M>
struct Minimal;

template <>
struct Minimal<2> {
  static constexpr float kIn[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, -1, 0, 1}};
  static constexpr float kOut[2][4] = {{1, 1, 1, 0}, {0, 1, -1, 1}};
};

template <>
struct Minimal<4> {
  static constexpr float kIn[6][6] = {
      {1.265625f, 0, -2.8125f, 0, 1, 0},  {0, -1.6875f, -2.25f, 0.75f, 1, 0},
      {0, 1.6875f, -2.25f, -0.75f, 1, 0}, {0, -0.84375f, -0.5625f, 1.5f, 1, 0},
      {0, 0.84375f, -0.5625f, -1.5f, 1, 0}, {0, 1.265625f, 0, -2.8125f, 0, 1}};
  static constexpr float kOut[4][6] = {{1, 1, 1, 1, 1, 0},
                                       {0, 0.75f, -0.75f, 1.5f, -1.5f, 0},
                                       {0, 0.5625f, 0.5625f, 2.25f, 2.25f, 0},
                                       {0, 0.421875f, -0.421875f, 3.375f, -3.375f, 1}};
};

// to[i] = sum of matrix[i][k] * from[k], each `step` vectors apart.
template <int I, int K>
FASTGAN_INLINE void combine(const float (&matrix)[I][K], const Vector* from, int from_step,
                            Vector* to, int to_step) {
#pragma GCC unroll 6
  for (int i = 0; i < I; ++i) {
    Vector sum{};
#pragma GCC unroll 6
    for (int k = 0; k < K; ++k) {
      if (matrix[i][k] == 1) {
        sum += from[k * from_step];
      } else if (matrix[i][k] == -1) {
        sum -= from[k * from_step];
      } else if (matrix[i][k] != 0) {
        sum = multiply_add(splat(matrix[i][k]), from[k * from_step], sum);
      }
    }
    to[i * to_step] = sum;
  }
}

// The transform of n channels of a tile's inputs, to places `place` floats apart. Returns
// `poison_of` them all: the corners of the result are made of every input.
template <int M, bool Cleaned>
FASTGAN_INLINE Vector transform_in(const float* const* in, int64_t c, int64_t n, float* to,
                                   int64_t place) {
  constexpr int N = M + 2;
  Vector read[N * N], half[N * N], all[N * N];
  for (int i = 0; i < N * N; ++i) {
    read[i] = n == kWidth ? load(in[i] + c) : load_some(in[i] + c, n);
    if (Cleaned) read[i] = poison_of(read[i]) == 0.0f ? read[i] : Vector{};
  }
  for (int j = 0; j < N; ++j) combine(Minimal<M>::kIn, read + j, N, half + j, N);
  for (int i = 0; i < N; ++i) combine(Minimal<M>::kIn, half + i * N, 1, all + i * N, 1);
  for (int i = 0; i < N * N; ++i) store(to + i * place + c, all[i]);
  return poison_of(all[0] + all[N - 1] + all[N * N - N] + all[N * N - 1]);
}

// The transform of all channels of a tile's inputs; returns whether one is not finite.
template <int M, bool Cleaned>
FASTGAN_INLINE bool transform_all(const float* const* in, int64_t channels, float* to,
                                  int64_t place) {
  Vector poison{};
  int64_t c = 0;
  for (; c + kWidth <= channels; c += kWidth) {
    poison += transform_in<M, Cleaned>(in, c, kWidth, to, place);
  }
  if (c < channels) poison += transform_in<M, Cleaned>(in, c, channels - c, to, place);
  return is_poison(poison);
}

// Zeros in place of what is not finite, which the transform would spread over the whole tile.
// Returns where in the tile it was, a bit each.
template <int M>
FASTGAN_NOINLINE uint64_t transform_cleaned(const float* const* in, int64_t channels, float* to,
                                            int64_t place) {
  uint64_t where = 0;
  for (int i = 0; i < (M + 2) * (M + 2); ++i) {
    for (int64_t c = 0; c < channels; ++c) {
      if (!std::isfinite(in[i][c])) where |= uint64_t{1} << i;
    }
  }
  transform_all<M, true>(in, channels, to, place);
  return where;
}

// NaN for the pixels whose windows hold what was not finite; of a patch, by the taps that each has.
template <int M>
FASTGAN_NOINLINE void poison_pixels(uint64_t where, const std::vector<uint16_t>& reach,
                                    int64_t lane, int64_t block, float* pixels) {
  constexpr uint16_t kAll = (1 << 9) - 1;
  const int64_t lanes = static_cast<int64_t>(reach.size());
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < M; ++j) {
      uint16_t held = 0;  // which of the pixel's taps, a bit each
      for (int t = 0; t < 9; ++t) {
        const int at = (i + t / 3) * (M + 2) + j + t % 3;
        held |= static_cast<uint16_t>((where >> at & 1) << t);
      }
      for (int64_t l = 0; l < block; ++l) {
        const uint16_t taps = lane + l < lanes ? reach[lane + l] : kAll;
        if ((held & taps) == 0) continue;
        pixels[(i * M + j) * block + l] = std::numeric_limits<float>::quiet_NaN();
      }
    }
  }
}

// Returns which of a tile's inputs are not finite, a bit each.
template <int M>
FASTGAN_NOINLINE uint64_t winograd_tile_in(const DensePart& part, int64_t image, int64_t y, int64_t x,
                                           float* to, int64_t place) {
  constexpr int N = M + 2;
  const DenseShape& shape = *part.shape;
  const auto [dy, dx] = part.phase->taps[0];
  const int64_t* rows = shape.rows.at.data() + shape.rows.before + y + dy;
  const int64_t* columns = shape.columns.at.data() + shape.columns.before + x + dx;
  const float* base = static_cast<const float*>(part.in) + image * shape.in.image;
  const float* in[N * N];
  for (int i = 0; i < N; ++i) {
    for (int j = 0; j < N; ++j) {
      in[i * N + j] =
          (rows[i] | columns[j]) < 0 ? shape.zeros.data() : base + rows[i] + columns[j];
    }
  }
  const int64_t channels = shape.in.channels;
  if (!transform_all<M, false>(in, channels, to, place)) return 0;
  return transform_cleaned<M>(in, channels, to, place);
}

// One block of lanes of a tile: from its products, `place` floats apart, to M x M pixels.
template <int M>
FASTGAN_NOINLINE void winograd_tile_out(const float* products, int64_t place, int64_t block,
                                        float* to) {
  constexpr int N = M + 2;
  for (int64_t lane = 0; lane < block; lane += kWidth) {
    Vector read[N * N], half[M * N], all[M * M];
    for (int i = 0; i < N * N; ++i) read[i] = load(products + i * place + lane);
    for (int j = 0; j < N; ++j) combine(Minimal<M>::kOut, read + j, N, half + j, N);
    for (int i = 0; i < M; ++i) combine(Minimal<M>::kOut, half + i * N, 1, all + i * M, 1);
    for (int i = 0; i < M * M; ++i) store(to + i * block + lane, all[i]);
  }
}

template <int M>
void winograd_by(const DensePart& part) {
  constexpr int N = M + 2;
  constexpr int64_t kTiles = winograd_tiles(M, kMostRows);
  const DenseShape& shape = *part.shape;
  const DensePhase& phase = *part.phase;
  const int64_t block = shape.vectors * kWidth, channels = shape.in.channels;
  const int64_t padded = (channels + kWidth - 1) / kWidth * kWidth;
  const int64_t down = (phase.rows + M - 1) / M, across = (phase.columns + M - 1) / M;
  float* const inputs = part.room;  // [N * N][kTiles][padded]
  float* const products = inputs + N * N * kTiles * padded;  // [N * N][kMostRows][block]
  alignas(64) float pixels[M * M * kMostBlock];
  const float* in[kMostRows];
  int64_t image[kTiles], y[kTiles], x[kTiles];
  uint64_t poison[kTiles];
  for (int64_t first = part.first_tile; first < part.last_tile; first += kTiles) {
    const int64_t count = part.last_tile - first < kTiles ? part.last_tile - first : kTiles;
    for (int64_t t = 0; t < count; ++t) {
      image[t] = (first + t) / (down * across);
      y[t] = (first + t) / across % down * M;
      x[t] = (first + t) % across * M;
      poison[t] = winograd_tile_in<M>(part, image[t], y[t], x[t], inputs + t * padded,
                                      kTiles * padded);
    }
    for (int64_t b = part.first_block; b < part.last_block; ++b) {
      const float* weights =
          static_cast<const float*>(part.weights) + b * N * N * channels * block;
      for (int64_t t = 0; t < count; t += kMostRows) {
        const int64_t rows = count - t < kMostRows ? count - t : kMostRows;
        const Multiply multiply = multiply_of(rows, shape.vectors);
        for (int64_t p = 0; p < N * N; ++p) {
          for (int64_t r = 0; r < rows; ++r) in[r] = inputs + (p * kTiles + t + r) * padded;
          multiply(in, 1, channels, weights + p * channels * block, products + p * rows * block);
        }
        for (int64_t r = 0; r < rows; ++r) {
          winograd_tile_out<M>(products + r * block, rows * block, block, pixels);
          if (poison[t + r] != 0) {
            poison_pixels<M>(poison[t + r], phase.reach, b * block, block, pixels);
          }
          TilePixels of;
          const int64_t left = phase.columns - x[t + r];
          of.count = left < M ? left : M;
          for (int64_t i = 0; i < M && y[t + r] + i < phase.rows; ++i) {
            for (int64_t j = 0; j < of.count; ++j) {
              of.image[j] = image[t + r];
              of.y[j] = phase.out_y + (y[t + r] + i) * shape.out_step_y;
              of.x[j] = phase.out_x + (x[t + r] + j) * shape.out_step_x;
            }
            write(part, of, b * block, block, pixels + i * M * block);
          }
        }
      }
    }
  }
}

void winograd(const DensePart& part) {
  if (part.phase->minimal == 2) {
    winograd_by<2>(part);
  } else {
    winograd_by<4>(part);
  }
}

}  // namespace
}  // namespace fastgan
