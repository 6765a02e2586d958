// Phases by Winograd's minimal filtering: packing/winograd.h. Inputs are floats; what they become
// is rounded where products take bf16. Included by kernels_code.h and kernels_bf16.h.
#pragma once

#include <cmath>

#include "../../packing/winograd.h"
#include "kernels_lines.h"

namespace fastgan {
namespace {

// to = factor * x + to, or the first of a sum; the factors are known when this is compiled.
FASTGAN_INLINE void add(float factor, Vector x, Vector& to, bool& first) {
  if (factor == 0) return;
  if (factor == 1) {
    to = first ? x : to + x;
  } else if (factor == -1) {
    to = first ? -x : to - x;
  } else {
    to = first ? factor * x : multiply_add(splat(factor), x, to);
  }
  first = false;
}

// What M + R - 1 inputs `step` vectors apart become, as far apart. A point and its negative share
// their sums of even and of odd powers.
template <int M, int R>
FASTGAN_INLINE void transform_in(const Vector* x, int step, Vector* to) {
  constexpr int N = M + R - 1;
  const auto sum = [&](int i, int first, int every) {
    Vector sum{};
    bool none = true;
#pragma GCC unroll 6
    for (int k = first; k < N; k += every) add(Minimal<M, R>::in[i][k], x[k * step], sum, none);
    return sum;
  };
  to[0] = sum(0, 0, 1);
#pragma GCC unroll 2
  for (int i = 1; i + 1 < N - 1; i += 2) {
    const Vector even = sum(i, 0, 2), odd = sum(i, 1, 2);
    to[i * step] = even + odd;
    to[(i + 1) * step] = even - odd;
  }
  if (N % 2 == 1) to[(N - 2) * step] = sum(N - 2, 0, 1);  // a point alone
  to[(N - 1) * step] = sum(N - 1, 0, 1);
}

// What M + R - 1 products become: M pixels.
template <int M, int R>
FASTGAN_INLINE void transform_out(const Vector* x, int step, Vector* to, int to_step) {
  constexpr int N = M + R - 1;
  Vector even[N], odd[N];
#pragma GCC unroll 2
  for (int k = 1; k + 1 < N - 1; k += 2) {
    even[k] = x[k * step] + x[(k + 1) * step];
    odd[k] = x[k * step] - x[(k + 1) * step];
  }
#pragma GCC unroll 4
  for (int i = 0; i < M; ++i) {
    const auto& row = Minimal<M, R>::out[i];
    Vector sum{};
    bool none = true;
    add(row[0], x[0], sum, none);
#pragma GCC unroll 2
    for (int k = 1; k + 1 < N - 1; k += 2) add(row[k], i % 2 == 0 ? even[k] : odd[k], sum, none);
    if (N % 2 == 1) add(row[N - 2], x[(N - 2) * step], sum, none);
    add(row[N - 1], x[(N - 1) * step], sum, none);
    to[i * to_step] = sum;
  }
}

// The transform of n channels of a tile's inputs, to places `place` floats apart. Returns
// `poison_of` them all: the corners of the result are made of every input. Cleaned: with zeros in
// place of what is not finite, and by a factor.
template <int M, int R, bool Cleaned>
FASTGAN_INLINE Vector transform_tile(const float* const* in, int64_t c, int64_t n, Element* to,
                                     int64_t place, float factor) {
  constexpr int N = M + R - 1;
  Vector half[N * N], corners{};
#pragma GCC unroll 6
  for (int j = 0; j < N; ++j) {
    Vector column[N], made[N];
#pragma GCC unroll 6
    for (int i = 0; i < N; ++i) {
      const float* from = in[i * N + j] + c;
      column[i] = n == kWidth ? load(from) : load_some(from, n);
      if (Cleaned) column[i] = select(poison_of(column[i]) == 0.0f, column[i] * factor, Vector{});
    }
    transform_in<M, R>(column, 1, made);
#pragma GCC unroll 6
    for (int i = 0; i < N; ++i) half[i * N + j] = made[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < N; ++i) {
    Vector made[N];
    transform_in<M, R>(half + i * N, 1, made);
#pragma GCC unroll 6
    for (int j = 0; j < N; ++j) store(to + (i * N + j) * place + c, made[j]);
    if (i == 0 || i == N - 1) corners = corners + made[0] + made[N - 1];
  }
  return poison_of(corners);
}

// The transform of all channels of a tile's inputs; returns whether one is not finite.
template <int M, int R, bool Cleaned>
FASTGAN_INLINE bool transform_all(const float* const* in, int64_t channels, Element* to,
                                  int64_t place, float factor = 1) {
  Vector poison{};
  int64_t c = 0;
  for (; c + kWidth <= channels; c += kWidth) {
    poison += transform_tile<M, R, Cleaned>(in, c, kWidth, to, place, factor);
  }
  if (c < channels) {
    poison += transform_tile<M, R, Cleaned>(in, c, channels - c, to, place, factor);
  }
  return is_poison(poison);
}

// Zeros in place of what is not finite, which the transform would spread over the whole tile.
// Returns where in the tile it was, a bit each.
template <int M, int R>
FASTGAN_NOINLINE uint64_t transform_cleaned(const float* const* in, int64_t channels, Element* to,
                                            int64_t place) {
  uint64_t where = 0;
  for (int i = 0; i < (M + R - 1) * (M + R - 1); ++i) {
    for (int64_t c = 0; c < channels; ++c) {
      if (!std::isfinite(in[i][c])) where |= uint64_t{1} << i;
    }
  }
  transform_all<M, R, true>(in, channels, to, place);
  return where;
}

// Adds the products of what was not finite in a part to the pixels whose windows hold it. signs: of
// the block's weights, [taps of the phase][channels][block].
template <int M, int R>
FASTGAN_NOINLINE void add_poison(uint64_t where, const float* const* in, const Filtering& as,
                                 int64_t of_part, int64_t channels, const int8_t* signs,
                                 int64_t block, float* pixels) {
  constexpr int N = M + R - 1;
  for (int at = 0; at < N * N; ++at) {
    if ((where >> at & 1) == 0) continue;
    for (int64_t c = 0; c < channels; ++c) {
      const float x = in[at][c];
      if (std::isfinite(x)) continue;
      for (int t = 0; t < R * R; ++t) {
        const int i = at / N - t / R, j = at % N - t % R;
        if (i < 0 || i >= M || j < 0 || j >= M) continue;
        const int8_t* sign = signs + (as.tap(of_part, t) * channels + c) * block;
        float* pixel = pixels + (i * M + j) * block;
        for (int64_t l = 0; l < block; ++l) {
          if (sign[l] != kNoWeight) pixel[l] += x * sign[l];
        }
      }
    }
  }
}

// The inputs of a part of a tile.
template <int M, int R>
FASTGAN_INLINE void point_tile(const DensePart& part, int64_t image, int64_t y, int64_t x,
                               int64_t of_part, const float** in) {
  constexpr int N = M + R - 1;
  const DenseShape& shape = *part.shape;
  const auto [dy, dx] = part.phase->taps[0];
  const int64_t stride = part.phase->filtering.stride;
  const int64_t down = y * stride + dy + of_part / stride;
  const int64_t across = x * stride + dx + of_part % stride;
  const int64_t* rows = shape.rows.at.data() + shape.rows.before + down;
  const int64_t* columns = shape.columns.at.data() + shape.columns.before + across;
  const float* base = static_cast<const float*>(part.in) + image * shape.in.image;
  const int64_t far = (N - 1) * stride;
  if (down >= 0 && down + far < shape.in.height && across >= 0 && across + far < shape.in.width) {
    base += down * shape.in.row + across * shape.in.pixel;
    const int64_t row = stride * shape.in.row, pixel = stride * shape.in.pixel;
#pragma GCC unroll 6
    for (int i = 0; i < N; ++i) {
#pragma GCC unroll 6
      for (int j = 0; j < N; ++j) in[i * N + j] = base + i * row + j * pixel;
    }
    return;
  }
  for (int i = 0; i < N; ++i) {
    for (int j = 0; j < N; ++j) {
      const int64_t row = rows[i * stride], column = columns[j * stride];
      in[i * N + j] = (row | column) < 0 ? shape.zeros.data() : base + row + column;
    }
  }
}

// Returns at which of a tile's places an input of any part is not finite, a bit each.
template <int M, int R>
FASTGAN_NOINLINE uint64_t winograd_tile_in(const DensePart& part, int64_t image, int64_t y, int64_t x,
                                           Element* to, int64_t place) {
  constexpr int N = M + R - 1;
  const int64_t parts = part.phase->filtering.parts(), channels = part.shape->in.channels;
  const float* in[N * N];
  uint64_t poison = 0;
  for (int64_t p = 0; p < parts; ++p, to += channels) {
    point_tile<M, R>(part, image, y, x, p, in);
    if (!transform_all<M, R, false>(in, channels, to, place)) continue;
    poison |= transform_cleaned<M, R>(in, channels, to, place);
  }
  return poison;
}

// One block of lanes of a tile: from its products, `place` floats apart, to M x M pixels. Returns
// whether one of them is not finite: the corners are made of every product.
template <int M, int R>
FASTGAN_NOINLINE bool winograd_tile_out(const float* products, int64_t place, int64_t block,
                                        float* to) {
  constexpr int N = M + R - 1;
  Vector poison{};
  for (int64_t lane = 0; lane < block; lane += kWidth) {
    Vector half[M * N], corners{};
#pragma GCC unroll 6
    for (int j = 0; j < N; ++j) {
      Vector column[N], made[M];
#pragma GCC unroll 6
      for (int i = 0; i < N; ++i) column[i] = load(products + (i * N + j) * place + lane);
      transform_out<M, R>(column, 1, made, 1);
#pragma GCC unroll 4
      for (int i = 0; i < M; ++i) half[i * N + j] = made[i];
    }
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i) {
      Vector made[M];
      transform_out<M, R>(half + i * N, 1, made, 1);
#pragma GCC unroll 4
      for (int j = 0; j < M; ++j) store(to + (i * M + j) * block + lane, made[j]);
      if (i == 0 || i == M - 1) corners = corners + made[0] + made[M - 1];
    }
    poison += poison_of(corners);
  }
  return is_poison(poison);
}

// What a tile is made smaller by whose products are too large for a float: its pixels need not be,
// and what the filtering makes on the way is up to a few hundred times as large as they are.
constexpr float kSmaller = 0x1p-64f;

// The inputs of a tile again, smaller.
template <int M, int R>
FASTGAN_NOINLINE void winograd_tile_in_smaller(const DensePart& part, int64_t image, int64_t y,
                                               int64_t x, Element* to, int64_t place) {
  const int64_t channels = part.shape->in.channels;
  const float* in[(M + R - 1) * (M + R - 1)];
  for (int64_t p = 0; p < part.phase->filtering.parts(); ++p, to += channels) {
    point_tile<M, R>(part, image, y, x, p, in);
    transform_all<M, R, true>(in, channels, to, place, kSmaller);
  }
}

// Lanes of a block that lie side by side in the output, `n` of a vector: from which on, how many
// lanes of the vector are others', and where they go from the pixel's place on, there and in the
// residual.
struct LaneRun {
  int64_t vector, skip, n, out, residual;
};

// Whether a tile's pixels are written by `write_tile`: lanes of whole patches, a bias, a residual
// and a curve.
inline bool is_written_at_once(const DensePart& part) {
  const DenseShape& shape = *part.shape;
  const Epilogue& e = shape.epilogue;
  const int64_t channels = shape.out.channels;
  const bool pixelwise = shape.lanes() == channels;
  if (!part.phase->whole || part.scale != nullptr || e.slopes != nullptr) return false;
  if (!pixelwise && shape.out.pixel != channels) return false;
  if (part.residual == nullptr) return true;
  return e.residual_channel == 1 && (pixelwise || e.residual_pixel == channels);
}

// The runs of a block from `first` on; returns how many.
inline int64_t find_runs(const DenseShape& shape, int64_t first, int64_t block, LaneRun* runs) {
  const int64_t row = shape.patch_width * shape.out.channels, left = shape.lanes() - first;
  int64_t count = 0;
  for (int64_t at = 0; at < block && at < left;) {
    const int64_t down = (first + at) / row, across = (first + at) % row, skip = at % kWidth;
    int64_t n = kWidth - skip;
    if (n > row - across) n = row - across;
    runs[count++] = {at - skip, skip, n, down * shape.out.row + across,
                     down * shape.epilogue.residual_row + across};
    at += n;
  }
  return count;
}

// Finishes and stores the pixels of a tile, [M][M][block], of which `rows` x `columns` are there:
// the first begins at output (y, x).
template <int M>
FASTGAN_NOINLINE void write_tile(const DensePart& part, const LaneRun* runs, int64_t count,
                                 const float* bias, int64_t block, int64_t image, int64_t y,
                                 int64_t x, int64_t rows, int64_t columns, const float* pixels) {
  const DenseShape& shape = *part.shape;
  const Epilogue& e = shape.epilogue;
  const Grid& out = shape.out;
  const int64_t out_row = shape.out_step_y * out.row, out_pixel = shape.out_step_x * out.pixel;
  const int64_t row = shape.out_step_y * e.residual_row;
  const int64_t pixel = shape.out_step_x * e.residual_pixel;
  float* const to = part.out + image * out.image + y * out.row + x * out.pixel;
  const float* beside = part.residual;
  if (beside != nullptr) {
    beside += image * e.residual_image + y * e.residual_row + x * e.residual_pixel;
  }
  const auto each = [&](const auto& curve) {
    for (const LaneRun* run = runs; run < runs + count; ++run) {
      Integers from{};
      if (run->skip != 0) {
        alignas(64) int32_t order[kWidth];
        for (int i = 0; i < kWidth; ++i) order[i] = static_cast<int32_t>((i + run->skip) % kWidth);
        from = load(order);
      }
      const auto lanes = [&](const float* p) {
        const Vector read = load(p + run->vector);
        return run->skip == 0 ? read : permute(read, from);
      };
      const Vector more = bias == nullptr ? Vector{} : lanes(bias);
      const bool whole = run->n == kWidth;
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          Vector value = lanes(pixels + (i * M + j) * block);
          if (bias != nullptr) value += more;
          if (beside != nullptr) {
            const float* p = beside + i * row + j * pixel + run->residual;
            value += whole ? load(p) : load_some(p, run->n);
          }
          value = curve(value);
          float* const place = to + i * out_row + j * out_pixel + run->out;
          whole ? store(place, value) : store_some(place, value, run->n);
        }
      }
    }
  };
  switch (e.curve) {
    case Curve::kNone: return each([&](Vector x) { return x; });
    case Curve::kRelu: return each([&](Vector x) { return negative_part(x, Vector{}); });
    default: return each([&](Vector x) { return bend(e.curve, e.parameter, x); });
  }
}

template <int M, int R>
void winograd_by(const DensePart& part) {
  constexpr int N = M + R - 1;
  const DenseShape& shape = *part.shape;
  const DensePhase& phase = *part.phase;
  const int64_t block = shape.vectors * kWidth;
  const int64_t channels = phase.filtering.parts() * shape.in.channels;
  const int64_t padded = winograd_inputs(phase.filtering, shape.in.channels, kWidth);
  const int64_t down = divide_up(phase.rows, M), across = divide_up(phase.columns, M);
  const int64_t count = part.last_tile - part.first_tile;
  const int64_t groups = divide_up(count, kMostRows);
  const int64_t from = winograd_place(count * padded), to = winograd_place(count * block);
  Element* const inputs = reinterpret_cast<Element*>(part.room);  // [N * N][count][padded]
  float* const products = part.room + N * N * from / kPack;       // [N * N][count][block]
  alignas(64) float pixels[M * M * kMostBlock];
  int64_t image[kMostWinogradTiles], y[kMostWinogradTiles], x[kMostWinogradTiles];
  uint64_t poison[kMostWinogradTiles];
  bool smaller[kMostWinogradTiles] = {};
  for (int64_t t = 0; t < count; ++t) {
    const int64_t tile = part.first_tile + t;
    image[t] = tile / (down * across);
    y[t] = tile / across % down * M;
    x[t] = tile % across * M;
    poison[t] = winograd_tile_in<M, R>(part, image[t], y[t], x[t], inputs + t * padded, from);
  }
  const bool at_once = is_written_at_once(part);
  LaneRun runs[kMostBlock];
  for (int64_t b = part.first_block; b < part.last_block; ++b) {
    const int64_t some = at_once ? find_runs(shape, b * block, block, runs) : 0;
    const float* bias = shape.bias == nullptr ? nullptr : shape.bias + b * block;
    const auto multiply_tiles = [&](int64_t p, int64_t t, int64_t rows) {
      const Element* weights =
          static_cast<const Element*>(part.weights) + (b * N * N + p) * channels * block;
      const Element* in[kMostRows];
      for (int64_t r = 0; r < rows; ++r) in[r] = inputs + p * from + (t + r) * padded;
      made_for<Multiplies>(rows, shape.vectors)(in, 1, channels, weights, products + p * to + t * block);
    };
    for (int64_t p = 0; p < N * N; ++p) {
      for (int64_t g = 0; g < groups; ++g) {  // as even as can be, as in `dense`
        const int64_t t = g * count / groups;
        multiply_tiles(p, t, (g + 1) * count / groups - t);
      }
    }
    for (int64_t t = 0; t < count; ++t) {
      if (winograd_tile_out<M, R>(products + t * block, to, block, pixels) && !smaller[t]) {
        smaller[t] = true;  // for the next blocks too
        winograd_tile_in_smaller<M, R>(part, image[t], y[t], x[t], inputs + t * padded, from);
        for (int64_t p = 0; p < N * N; ++p) multiply_tiles(p, t, 1);
        winograd_tile_out<M, R>(products + t * block, to, block, pixels);
      }
      for (int64_t i = 0; smaller[t] && i < M * M * block; ++i) pixels[i] *= 1 / kSmaller;
      for (int64_t p = 0; poison[t] != 0 && p < phase.filtering.parts(); ++p) {
        const int64_t taps = static_cast<int64_t>(phase.taps.size());
        const float* in[N * N];
        point_tile<M, R>(part, image[t], y[t], x[t], p, in);
        add_poison<M, R>(poison[t], in, phase.filtering, p, shape.in.channels,
                         phase.signs + b * taps * shape.in.channels * block, block, pixels);
      }
      TilePixels of;
      const int64_t left = phase.columns - x[t], below = phase.rows - y[t];
      of.count = left < M ? left : M;
      if (at_once) {
        write_tile<M>(part, runs, some, bias, block, image[t],
                      phase.out_y + y[t] * shape.out_step_y, phase.out_x + x[t] * shape.out_step_x,
                      below < M ? below : M, of.count, pixels);
        continue;
      }
      for (int64_t i = 0; i < M && y[t] + i < phase.rows; ++i) {
        for (int64_t j = 0; j < of.count; ++j) {
          of.image[j] = image[t];
          of.y[j] = phase.out_y + (y[t] + i) * shape.out_step_y;
          of.x[j] = phase.out_x + (x[t] + j) * shape.out_step_x;
        }
        write(part, of, b * block, block, pixels + i * M * block);
      }
    }
  }
}

void winograd(const DensePart& part) {
  const Filtering& as = part.phase->filtering;
  if (as.taps == 2) return as.pixels == 2 ? winograd_by<2, 2>(part) : winograd_by<3, 2>(part);
  as.pixels == 2 ? winograd_by<2, 3>(part) : winograd_by<4, 3>(part);
}

}  // namespace
}  // namespace fastgan
