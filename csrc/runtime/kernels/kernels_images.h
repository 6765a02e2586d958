// Images resampled, and stored as bytes; included by kernels_code.h.
#pragma once

#include "kernels_math.h"

namespace fastgan {
namespace {

// A vector, or n floats of one.
FASTGAN_INLINE Vector load_up_to(const float* p, int64_t n) {
  return n < kWidth ? load_some(p, n) : load(p);
}

FASTGAN_INLINE void store_up_to(float* p, Vector x, int64_t n) {
  n < kWidth ? store_some(p, x, n) : store(p, x);
}

// Sums of a row's columns, pixels of few channels together: see ResampleShape's vectors. The same
// sums in the same order as those of each pixel by itself.
inline void join_columns(const ResampleShape& shape, const float* row, float* out) {
  const int64_t taps = shape.columns.taps, length = shape.columns.outputs * shape.channels;
  const int64_t* windows = shape.windows.data();
  const int32_t* lanes = shape.lanes.data();
  const float* factors = shape.factors.data();
  for (int64_t first = 0; first < length; first += kWidth) {
    Vector sum{};
    for (int64_t t = 0; t < taps; ++t, ++windows, lanes += kWidth, factors += kWidth) {
      const Vector weights = load(factors), a = permute(load(row + *windows), load(lanes));
      sum = select((Integers)weights == 0, sum, multiply_add(a, weights, sum));
    }
    store_up_to(out + first, sum, length - first);
  }
}

// A row's sums, and then those of its columns.
void resample_in_turn(const ResamplePart& part) {
  const ResampleShape& shape = *part.shape;
  const ResampleAxis &rows = shape.rows, &columns = shape.columns;
  const float* in = part.in + part.image * shape.in_image;
  const int64_t* at = rows.at.data() + part.y * rows.taps;
  const float* weights = rows.weights.data() + part.y * rows.taps;
  for (int64_t i = 0; i < shape.span; i += kWidth) {
    const int64_t n = shape.span - i;
    Vector sum{};
    for (int64_t t = 0; t < rows.taps; ++t) {
      if (is_gap(weights[t])) continue;
      sum = multiply_add(load_up_to(in + at[t] + i, n), splat(weights[t]), sum);
    }
    store_up_to(part.room + i, sum, n);
  }
  float* out = part.out + part.image * shape.out_image + part.y * shape.out_row;
  if (!shape.windows.empty()) return join_columns(shape, part.room, out);
  at = columns.at.data(), weights = columns.weights.data();
  for (int64_t x = 0; x < columns.outputs; ++x, out += shape.out_pixel) {
    for (int64_t c = 0; c < shape.channels; c += kWidth) {
      const int64_t n = shape.channels - c;
      Vector sum{};
      for (int64_t t = 0; t < columns.taps; ++t) {
        if (is_gap(weights[t])) continue;
        sum = multiply_add(load_up_to(part.room + at[t] + c, n), splat(weights[t]), sum);
      }
      store_up_to(out + c, sum, n);
    }
    at += columns.taps, weights += columns.taps;
  }
}

void resample(const ResamplePart& part) {
  if (part.shape->span > 0) return resample_in_turn(part);
  const ResampleShape& shape = *part.shape;
  const ResampleAxis &rows = shape.rows, &columns = shape.columns;
  const float* in = part.in + part.image * shape.in_image;
  float* out = part.out + part.image * shape.out_image + part.y * shape.out_row;
  for (int64_t x = 0; x < columns.outputs; ++x, out += shape.out_pixel) {
    for (int64_t c = 0; c < shape.channels; c += kWidth) {
      const int64_t n = shape.channels - c < kWidth ? shape.channels - c : kWidth;
      Vector sum = splat(shape.maximum ? -INFINITY : 0.0f);
      for (int64_t i = 0; i < rows.taps; ++i) {
        const float weight = rows.weights[part.y * rows.taps + i];
        if (is_gap(weight)) continue;
        const float* row = in + rows.at[part.y * rows.taps + i] + c;
        for (int64_t j = 0; j < columns.taps; ++j) {
          const float other = columns.weights[x * columns.taps + j], both = weight * other;
          if (is_gap(other)) continue;
          const float* p = row + columns.at[x * columns.taps + j];
          const Vector a = n == kWidth ? load(p) : load_some(p, n);
          if (shape.maximum) {
            sum = select(a != a, a, select(a > sum, a, sum));
          } else {
            sum = multiply_add(a, splat(both), sum);
          }
        }
      }
      if (n == kWidth) {
        store(out + c, sum);
      } else {
        store_some(out + c, sum, n);
      }
    }
  }
}

// Whole numbers of kWidth values of a BytesPart's, the first n of them there.
FASTGAN_INLINE void store_bytes(const BytesPart& part, const float* from, int64_t n, uint8_t* to) {
  store_bytes(to, to_bytes(load_up_to(from, n), part.low, part.scale));
}

// kChannels: those of an image, or 0 for any.
template <int64_t kChannels>
void bytes_of(const BytesPart& part) {
  constexpr int64_t kBlock = 4 * kWidth;
  const int64_t channels = kChannels > 0 ? kChannels : part.channels;
  alignas(64) uint8_t rows[(kChannels > 0 ? kChannels : 1) * kBlock];
  for (int64_t first = part.first; first < part.last; first += kBlock) {
    const int64_t left = part.last - first, n = left < kBlock ? left : kBlock;
    uint8_t* const to = part.out + first * channels;
    for (int64_t c = 0; c < channels; ++c) {
      uint8_t* const row = rows + (kChannels > 0 ? c : 0) * kBlock;
      const float* from = part.in + c * part.pixels + first;
      for (int64_t i = 0; i < n; i += kWidth) store_bytes(part, from + i, n - i, row + i);
      for (int64_t i = 0; kChannels == 0 && i < n; ++i) to[i * channels + c] = row[i];
    }
    if (kChannels == 1) memcpy(to, rows, n);
    for (int64_t i = 0; kChannels > 1 && i < n; ++i) {
      for (int64_t c = 0; c < kChannels; ++c) to[i * kChannels + c] = rows[c * kBlock + i];
    }
  }
}

void bytes(const BytesPart& part) {
  switch (part.channels) {
    case 1: return bytes_of<1>(part);
    case 3: return bytes_of<3>(part);
    default: return bytes_of<0>(part);
  }
}

}  // namespace
}  // namespace fastgan
