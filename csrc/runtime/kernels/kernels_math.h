// What kernels_code.h has beyond kernels_vectors.h: parts of vectors, every curve, and matrices turned
// over.
#pragma once

#include <stdint.h>

#include <cmath>

#include "kernels.h"
#include "kernels_vectors.h"

namespace fastgan {
namespace {


// Which lanes of a vector there are: the first n, or some of them; and what is loaded or stored of
// those alone. Zeros are in the others.
#if FASTGAN_WIDTH == 16
typedef __mmask16 LaneMask;
FASTGAN_INLINE LaneMask first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
FASTGAN_INLINE LaneMask lanes_from(int64_t first, LaneMask lanes) {
  return static_cast<__mmask16>(lanes & ~first_lanes(first));
}
FASTGAN_INLINE Vector load_lanes(const float* p, LaneMask lanes) {
  return (Vector)_mm512_maskz_loadu_ps(lanes, p);
}
FASTGAN_INLINE void store_lanes(float* p, Vector a, LaneMask lanes) {
  _mm512_mask_storeu_ps(p, lanes, (__m512)a);
}
#elif FASTGAN_WIDTH == 8
typedef __m256i LaneMask;
FASTGAN_INLINE LaneMask first_lanes(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FASTGAN_INLINE LaneMask lanes_from(int64_t first, LaneMask lanes) {
  return _mm256_andnot_si256(first_lanes(first), lanes);
}
FASTGAN_INLINE Vector load_lanes(const float* p, LaneMask lanes) {
  return (Vector)_mm256_maskload_ps(p, lanes);
}
FASTGAN_INLINE void store_lanes(float* p, Vector a, LaneMask lanes) {
  _mm256_maskstore_ps(p, lanes, (__m256)a);
}
#else
struct LaneMask {
  int64_t first, last;
};
FASTGAN_INLINE LaneMask first_lanes(int64_t n) { return {0, n}; }
FASTGAN_INLINE LaneMask lanes_from(int64_t first, LaneMask lanes) { return {first, lanes.last}; }
FASTGAN_INLINE Vector load_lanes(const float* p, LaneMask lanes) {
  Vector a{};
  for (int64_t i = lanes.first; i < lanes.last; ++i) a[i] = p[i];
  return a;
}
FASTGAN_INLINE void store_lanes(float* p, Vector a, LaneMask lanes) {
  for (int64_t i = lanes.first; i < lanes.last; ++i) p[i] = a[i];
}
#endif

// The first n < kWidth floats; zeros beyond.
FASTGAN_INLINE Vector load_some(const float* p, int64_t n) { return load_lanes(p, first_lanes(n)); }

FASTGAN_INLINE void store_some(float* p, Vector a, int64_t n) { store_lanes(p, a, first_lanes(n)); }

FASTGAN_INLINE Vector one_by_one(Vector x, float (*function)(float)) {
  for (int i = 0; i < kWidth; ++i) x[i] = function(x[i]);
  return x;
}

// The larger ones; b's of a NaN in a.
FASTGAN_INLINE Vector larger_of(Vector a, Vector b) {
#if FASTGAN_WIDTH == 16
  return (Vector)_mm512_max_ps((__m512)a, (__m512)b);
#elif FASTGAN_WIDTH == 8
  return (Vector)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return select(a > b, a, b);
#endif
}

FASTGAN_INLINE float largest_of(Vector a) {
#if FASTGAN_WIDTH == 16
  return _mm512_reduce_max_ps((__m512)a);
#elif FASTGAN_WIDTH == 8
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128((__m256)a),
                                 _mm256_extractf128_ps((__m256)a, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
#else
  float most = a[0];
  for (int i = 1; i < kWidth; ++i) most = a[i] > most ? a[i] : most;
  return most;
#endif
}

FASTGAN_INLINE Vector negative_part(Vector x, Vector there) { return select(x < 0.0f, there, x); }

FASTGAN_INLINE Vector magnitude(Vector x) { return (Vector)((Integers)x & 0x7FFFFFFF); }

FASTGAN_INLINE Vector square_root(Vector x) {
#if FASTGAN_WIDTH == 16
  return (Vector)_mm512_sqrt_ps((__m512)x);
#elif FASTGAN_WIDTH == 8
  return (Vector)_mm256_sqrt_ps((__m256)x);
#else
  return one_by_one(x, [](float a) { return std::sqrt(a); });
#endif
}

template <int N>
FASTGAN_INLINE Vector polynomial(const float (&factors)[N], Vector x) {  // lowest power first
  Vector sum = splat(factors[N - 1]);
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; --i) sum = multiply_add(sum, x, splat(factors[i]));
  return sum;
}

// Interpolants at Chebyshev's points, in double precision, each within 2e-7 as it is used below.
constexpr float kErfNear[] = {1.1283792257f, -0.3761263788f, 0.1128378287f,  -0.0268654376f,
                              0.0052210535f, -0.0008484396f, 0.0001126825f, -0.0000096736f};
constexpr float kErfFar[] = {-0.0012745654f, 0.2430932522f, 0.1250171661f, 0.5246602893f,
                             -0.4079587460f, 0.7118662000f, -0.1952581704f};
constexpr float kLogPart[] = {1.0f,          -0.4999998808f, 0.3333333433f, -0.2500158548f,
                              0.2000207156f, -0.1660912633f, 0.1418007910f, -0.1324084252f,
                              0.1291417032f, -0.0763859227f};
constexpr float kLog1p[] = {1.0f,          -0.4999990463f, 0.3333000541f, -0.2495455891f,
                            0.1967811733f, -0.1531186253f, 0.1061426476f, -0.0570642017f,
                            0.0199071616f, -0.0032563785f};

// x p(x^2) below 1; beyond, 1 - e^(-x^2) q(1 / (1 + 0.4 |x|)).
FASTGAN_INLINE Vector error_function(Vector x) {
  const Vector one = splat(1.0f), size = magnitude(x), square = x * x;
  const Vector near = x * polynomial(kErfNear, square);
  const Vector rest = exponential(-clamp(square, 0.0f, 80.0f)) *
                      polynomial(kErfFar, one / multiply_add(size, splat(0.4f), one));
  const Vector far = (Vector)((Integers)(one - rest) | ((Integers)x & INT32_MIN));
  return select(size < 1.0f, near, far);
}

// e^x - 1 for x <= 0.
FASTGAN_INLINE Vector exponential_less_one(Vector x) {
  constexpr float kSeries[] = {1.0f,       1.0f / 2,   1.0f / 6,   1.0f / 24,
                               1.0f / 120, 1.0f / 720, 1.0f / 5040};
  const Vector far = exponential(clamp(x, -87.0f, 0.0f)) - 1.0f;
  return select(x < -0.35f, far, x * polynomial(kSeries, x));
}

// e^x for any x: the square of e^(x / 2) where that is beyond what `exponential` takes.
FASTGAN_INLINE Vector exponential_anywhere(Vector x) {
  const Vector half = exponential(clamp(x * 0.5f, -87.0f, 87.0f));
  const Vector near = exponential(clamp(x, -87.0f, 87.0f));
  return select(magnitude(x) > 87.0f, half * half, near);
}

// ln(2^e m) = e ln(2) + ln(m) with m from sqrt(1/2) to sqrt(2).
FASTGAN_INLINE Vector logarithm(Vector x) {
  const Integers bits = (Integers)magnitude(x), e = (bits - 0x3F3504F3) >> 23;
  const Vector power = to_floats(e);
  const Vector y = (Vector)(bits - e * (1 << 23)) - 1.0f;
  Vector sum = multiply_add(power, splat(-2.12194440e-4f), y * polynomial(kLogPart, y));
  sum = multiply_add(power, splat(0.693359375f), sum);
  for (int i = 0; i < kWidth; ++i) {  // neither 0 nor less, no denormal, no infinity, no NaN
    if (!(x[i] >= 1.17549435e-38f && x[i] <= 3.40282347e38f)) sum[i] = std::log(x[i]);
  }
  return sum;
}

// ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|).
FASTGAN_INLINE Vector softplus(Vector x) {
  const Vector small = exponential(-clamp(magnitude(x), 0.0f, 87.0f));
  return negative_part(x, Vector{}) + small * polynomial(kLog1p, small);
}

// x tanh(ln(1 + e^x)), which is a quotient of powers of e^x.
FASTGAN_INLINE Vector mish(Vector x) {
  const Vector e = select(x < -87.0f, Vector{}, exponential(clamp(x, -87.0f, 20.0f)));
  const Vector n = e * (e + 2.0f);  // nothing of an infinity that is below zero, as in ONNX Runtime
  return x * (n / (n + 2.0f));
}

FASTGAN_NOINLINE Vector curve_of(Curve curve, float parameter, Vector x) {
  const Vector one = splat(1.0f);
  switch (curve) {
    case Curve::kNone: return x;
    case Curve::kRelu: return negative_part(x, Vector{});
    case Curve::kLeakyRelu:
    case Curve::kPrelu: return negative_part(x, x * parameter);
    case Curve::kTanh: return hyperbolic_tangent(x);
    case Curve::kSigmoid: return sigmoid(x);
    case Curve::kElu:
      return negative_part(x, parameter * exponential_less_one(x));
    case Curve::kSilu: return x * sigmoid(x);
    case Curve::kGelu:
      return x * 0.5f * (one + error_function(x * 0.70710678f));
    case Curve::kGeluTanh:
      return x * 0.5f *
             (one + hyperbolic_tangent(0.79788456f * multiply_add(x * x * x, splat(0.044715f), x)));
    case Curve::kMish: return mish(x);
    case Curve::kHardSwish: return x * clamp(x + 3.0f, 0.0f, 6.0f) / 6.0f;
    case Curve::kSoftplus: return softplus(x);
    case Curve::kExp: return exponential_anywhere(x);
    case Curve::kLog: return logarithm(x);
    case Curve::kSqrt: return square_root(x);
    case Curve::kReciprocal: return one / x;
    case Curve::kNeg: return -x;
    case Curve::kAbs: return magnitude(x);
    case Curve::kErf: return error_function(x);
    case Curve::kSin: return one_by_one(x, [](float a) { return std::sin(a); });
    case Curve::kCos: return one_by_one(x, [](float a) { return std::cos(a); });
  }
  return x;
}

// The common ones without a call.
FASTGAN_INLINE Vector bend(Curve curve, float parameter, Vector x) {
  if (curve == Curve::kNone) return x;
  if (curve == Curve::kRelu) return negative_part(x, Vector{});
  if (curve == Curve::kLeakyRelu) return negative_part(x, x * parameter);
  return curve_of(curve, parameter, x);
}

// Where an epilogue's operands lie for a run of channels; null is left out.
struct Operands {
  const float *bias, *scale, *residual, *slopes;
};

// Stores n channels: curve(scale * value + bias + residual).
FASTGAN_INLINE void finish(const Epilogue& e, const Operands& with, const float* values, int64_t n,
                           float* out) {
  const Vector constant = with.residual != nullptr && e.residual_channel == 0
                              ? splat(*with.residual)
                              : Vector{};
  const bool adds = with.residual != nullptr && e.residual_channel == 1;
  const auto part = [&](int64_t i, const auto& read) {
    Vector x = read(values + i);
    if (with.scale != nullptr) x *= read(with.scale + i);
    if (with.bias != nullptr) x += read(with.bias + i);
    if (adds) {
      x += read(with.residual + i);
    } else if (with.residual != nullptr) {
      x += constant;
    }
    if (with.slopes != nullptr) return negative_part(x, x * read(with.slopes + i));
    return bend(e.curve, e.parameter, x);
  };
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(out + i, part(i, [&](const float* p) { return load(p); }));
  if (i < n) store_some(out + i, part(i, [&](const float* p) { return load_some(p, n - i); }), n - i);
}

FASTGAN_INLINE void copy(const float* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(to + i, load(from + i));
  if (i < n) store_some(to + i, load_some(from + i, n - i), n - i);
}

inline Operands operands(const Epilogue& e, const float* bias, const float* scale,
                         const float* residual, int64_t image, int64_t y, int64_t x, int64_t c) {
  return {bias == nullptr ? nullptr : bias + c,
          scale == nullptr ? nullptr : scale + image * e.scale_image + c,
          residual == nullptr ? nullptr
                              : residual + image * e.residual_image + y * e.residual_row +
                                    x * e.residual_pixel + c * e.residual_channel,
          e.slopes == nullptr ? nullptr : e.slopes + c};
}

// Clang's, and GCC's from 12 on; without it transposing goes number by number.
#if defined(FASTGAN_VECTORS) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define FASTGAN_SHUFFLES
#endif
#endif

#ifdef FASTGAN_SHUFFLES
// K rows of K numbers, which are turned by exchanging the two S x S off the diagonal of each
// 2 S x 2 S, for S = 1, 2, 4 .. K / 2.
template <int K>
struct Square {
  typedef float Row __attribute__((vector_size(4 * K)));

  // Of rows S apart, the one as it is then: where its numbers come from, of the one (0 .. K - 1) or
  // the other.
  static constexpr int first(int i, int s) { return i & s ? K + i - s : i; }
  static constexpr int second(int i, int s) { return i & s ? K + i : i + s; }

  template <int S, int... I>
  static FASTGAN_INLINE void exchange(Row& a, Row& b, std::integer_sequence<int, I...>) {
    const Row made = __builtin_shufflevector(a, b, first(I, S)...);
    b = __builtin_shufflevector(a, b, second(I, S)...);
    a = made;
  }

  template <int S = 1>
  static FASTGAN_INLINE void turn(Row (&x)[K]) {
#pragma GCC unroll 16
    for (int i = 0; i < K; ++i) {
      if ((i & S) == 0) exchange<S>(x[i], x[i + S], std::make_integer_sequence<int, K>());
    }
    if constexpr (2 * S < K) turn<2 * S>(x);
  }
};
#endif

// to[r * to_step + c] = from[c * from_step + r], of so many rows r and columns c: by squares of K,
// and what is left by smaller ones.
template <int K = kWidth>
void transpose(const float* from, int64_t from_step, int64_t rows, int64_t columns, float* to,
               int64_t to_step) {
#ifdef FASTGAN_SHUFFLES
  if constexpr (K >= 4) {
    const int64_t whole_rows = rows / K * K, whole_columns = columns / K * K;
    for (int64_t r = 0; r < whole_rows; r += K) {
      for (int64_t c = 0; c < whole_columns; c += K) {
        typename Square<K>::Row x[K];
#pragma GCC unroll 16
        for (int i = 0; i < K; ++i) memcpy(x + i, from + (c + i) * from_step + r, sizeof *x);
        Square<K>::turn(x);
#pragma GCC unroll 16
        for (int i = 0; i < K; ++i) memcpy(to + (r + i) * to_step + c, x + i, sizeof *x);
      }
    }
    if (whole_columns < columns) {
      transpose<K / 2>(from + whole_columns * from_step, from_step, whole_rows,
                       columns - whole_columns, to + whole_columns, to_step);
    }
    if (whole_rows < rows) {
      transpose<K / 2>(from + whole_rows, from_step, rows - whole_rows, columns,
                       to + whole_rows * to_step, to_step);
    }
    return;
  }
#endif
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) to[r * to_step + c] = from[c * from_step + r];
  }
}

// [rows][columns] with any strides as [rows][lanes], with zeros beyond.
inline void pack(const PackPart& part) {
  const int64_t rows = part.rows, columns = part.columns, lanes = part.lanes;
  const float* in = part.in;
  float* out = part.out;
  if (part.column == 1 || columns == 1) {
    for (int64_t r = 0; r < rows; ++r, in += part.row, out += lanes) {
      int64_t c = 0;
      for (; c + kWidth <= columns; c += kWidth) store(out + c, load(in + c));
      if (c < columns) store(out + c, load_some(in + c, columns - c)), c += kWidth;
      for (; c < lanes; c += kWidth) store(out + c, Vector{});
    }
    return;
  }
  if (part.row == 1) {
    transpose(in, part.column, rows, columns, out, lanes);
  } else {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) out[r * lanes + c] = in[r * part.row + c * part.column];
    }
  }
  for (int64_t r = 0; columns < lanes && r < rows; ++r) {
    for (int64_t c = columns; c < lanes; ++c) out[r * lanes + c] = 0;
  }
}

}  // namespace
}  // namespace fastgan
