// Sums and extremes over any axes, and products of rows, on one thread; included by kernels_code.h.
//
// Outputs that lie side by side, and whose inputs do, are reduced together; others one by one, along
// their inputs. Sums are taken in two levels, so that long ones keep their digits.
#pragma once

#include "kernels_math.h"

namespace fastgan {
namespace {

constexpr int64_t kTogether = 64;  // outputs, or parts of one

// The sum of a vector's lanes: of its halves, until one is left.
FASTGAN_INLINE float total_of(Vector a) {
#if FASTGAN_WIDTH == 16
  return _mm512_reduce_add_ps((__m512)a);
#elif FASTGAN_WIDTH == 8
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128((__m256)a),
                                 _mm256_extractf128_ps((__m256)a, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
  float lanes[kWidth];
  store(lanes, a);
  for (int half = kWidth / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
#endif
}

// A vector with zeros beyond its first n < kWidth lanes.
FASTGAN_INLINE Vector first_of(Vector a, int64_t n) {
#if FASTGAN_WIDTH == 16
  return (Vector)_mm512_maskz_mov_ps(first_lanes(n), (__m512)a);
#elif FASTGAN_WIDTH == 8
  return (Vector)_mm256_and_ps((__m256)a, _mm256_castsi256_ps(first_lanes(n)));
#else
  for (int64_t i = n; i < kWidth; ++i) a[i] = 0;
  return a;
#endif
}

template <Fold F>
FASTGAN_INLINE float folded(float sum, float x) {
  switch (F) {
    case Fold::kSum: return sum + x;
    case Fold::kAbsolute: return sum + std::fabs(x);
    case Fold::kSquares: return sum + x * x;
    case Fold::kMaximum: return x > sum || x != x ? x : sum;
    case Fold::kMinimum: return x < sum || x != x ? x : sum;
  }
  return sum;
}

// What parts of a fold are put together by.
template <Fold F>
FASTGAN_INLINE float joined(float a, float b) {
  constexpr bool kExtreme = F == Fold::kMaximum || F == Fold::kMinimum;
  return folded<kExtreme ? F : Fold::kSum>(a, b);
}

template <Fold F>
constexpr float nothing() {
  if (F == Fold::kMaximum) return -INFINITY;
  return F == Fold::kMinimum ? INFINITY : 0.0f;
}

// The offsets of elements in order, over dimensions whose innermost is walked by the caller.
class Walk {
 public:
  explicit Walk(const ReduceAxes& axes) : axes_(axes) {}
  int64_t at() const { return at_; }
  bool next() {
    for (int64_t d = axes_.dims - 2; d >= 0; --d) {
      at_ += axes_.in[d];
      if (++index_[d] < axes_.sizes[d]) return true;
      at_ -= axes_.sizes[d] * axes_.in[d];
      index_[d] = 0;
    }
    return false;
  }

 private:
  const ReduceAxes& axes_;
  int64_t index_[kMostDims] = {}, at_ = 0;
};

template <Fold F>
void reduce_by(const ReducePart& part) {
  const ReduceShape& shape = *part.shape;
  const ReduceAxes &kept = shape.kept, &gone = shape.gone;
  const int64_t inner = kept.dims - 1, length = gone.sizes[gone.dims - 1];
  const int64_t step = gone.in[gone.dims - 1];
  const bool side_by_side = kept.in[inner] == 1;
  float sums[kTogether], all[kTogether];
  for (int64_t first = part.first; first < part.last;) {
    int64_t from = 0, to = 0, rest = first;
    for (int64_t d = inner; d >= 0; rest /= kept.sizes[d--]) {
      from += rest % kept.sizes[d] * kept.in[d];
      to += rest % kept.sizes[d] * kept.out[d];
    }
    int64_t n = kept.sizes[inner] - first % kept.sizes[inner];
    if (n > part.last - first) n = part.last - first;
    if (n > kTogether) n = kTogether;
    if (!side_by_side) n = 1;
    const float* in = part.in + from;
    for (int64_t i = 0; i < kTogether; ++i) all[i] = nothing<F>();
    Walk walk(gone);
    do {
      const float* p = in + walk.at();
      for (int64_t begin = 0; begin < length; begin += kTogether) {
        const int64_t end = length - begin < kTogether ? length : begin + kTogether;
        if (n == 1) {
          // All parts of one output; the last round of a sum adds them up.
          if (step == 1) {
            for (int64_t r = begin; r < end; ++r) {
              all[r - begin] = folded<F>(all[r - begin], p[r]);
            }
          } else {
            for (int64_t r = begin; r < end; ++r) {
              all[r - begin] = folded<F>(all[r - begin], p[r * step]);
            }
          }
          continue;
        }
        for (int64_t i = 0; i < n; ++i) sums[i] = nothing<F>();
        for (int64_t r = begin; r < end; ++r) {
          const float* q = p + r * step;
          for (int64_t i = 0; i < n; ++i) sums[i] = folded<F>(sums[i], q[i]);
        }
        for (int64_t i = 0; i < n; ++i) all[i] = joined<F>(all[i], sums[i]);
      }
    } while (walk.next());
    if (n == 1) {
      for (int64_t i = 1; i < kTogether; ++i) all[0] = joined<F>(all[0], all[i]);
    }
    for (int64_t i = 0; i < n; ++i) {
      const float made = shape.root ? std::sqrt(all[i]) : all[i] * shape.scale;
      part.out[to + i * kept.out[inner]] = made;
    }
    first += n;
  }
}

void reduce(const ReducePart& part) {
  switch (part.shape->fold) {
    case Fold::kSum: return reduce_by<Fold::kSum>(part);
    case Fold::kAbsolute: return reduce_by<Fold::kAbsolute>(part);
    case Fold::kSquares: return reduce_by<Fold::kSquares>(part);
    case Fold::kMaximum: return reduce_by<Fold::kMaximum>(part);
    case Fold::kMinimum: return reduce_by<Fold::kMinimum>(part);
  }
}

// Products of matrices, of which one has few rows or columns: each element is one of two rows.
void dots(const DotsPart& part) {
  const DotsShape& s = *part.shape;
  for (int64_t m = part.first; m < part.last; ++m) {
    const float* with = part.b + m * s.b_matrix;
    float* const out = part.out + m * s.rows * s.columns;
    for (int64_t c = 0; c < s.columns; ++c, with += s.b_column) {
      const float* a = part.a + m * s.a_matrix;
      for (int64_t r = 0; r < s.rows; ++r, a += s.a_row) {
        Vector sums{};
        int64_t i = 0;
        for (; i + kWidth <= s.inner; i += kWidth) {
          sums = multiply_add(load(a + i), load(with + i), sums);
        }
        if (i < s.inner) {
          sums = multiply_add(load_some(a + i, s.inner - i), load_some(with + i, s.inner - i), sums);
        }
        out[r * s.columns + c] = total_of(sums);
      }
    }
  }
}

}  // namespace
}  // namespace fastgan
