// Vectors of FASTGAN_WIDTH floats, and what is common to them; kernels_math.h has every curve.
#pragma once

#include <stdint.h>
#include <string.h>

#include <cmath>
#include <utility>

#include "../../targets/compiler.h"

#if defined(__GNUC__) || defined(__clang__)
#define FASTGAN_INLINED __attribute__((always_inline))  // of lambdas
#define FASTGAN_INLINE inline FASTGAN_INLINED
#define FASTGAN_NOINLINE __attribute__((noinline))
#else
#define FASTGAN_INLINED
#define FASTGAN_INLINE inline
#define FASTGAN_NOINLINE
#endif

namespace fastgan {
namespace {

constexpr int kWidth = FASTGAN_WIDTH;

}  // namespace
}  // namespace fastgan

#ifndef FASTGAN_VECTORS
#include "../../targets/plain_vectors.h"
#endif

namespace fastgan {
namespace {

#ifdef FASTGAN_VECTORS
typedef float Vector __attribute__((vector_size(4 * FASTGAN_WIDTH)));
typedef int32_t Integers __attribute__((vector_size(4 * FASTGAN_WIDTH)));

// a where the mask's bits are set, else b.
FASTGAN_INLINE Vector select(Integers mask, Vector a, Vector b) { return mask ? a : b; }
FASTGAN_INLINE Integers select(Integers mask, Integers a, Integers b) { return mask ? a : b; }

FASTGAN_INLINE Vector to_floats(Integers x) { return __builtin_convertvector(x, Vector); }

// Of numbers from 0 to 255.
FASTGAN_INLINE void store_bytes(uint8_t* p, Vector x) {
  typedef uint8_t Bytes __attribute__((vector_size(kWidth)));
  const Bytes bytes = __builtin_convertvector(__builtin_convertvector(x, Integers), Bytes);
  memcpy(p, &bytes, sizeof bytes);
}
#endif

// Pixels to a tile, by the registers.
#if FASTGAN_WIDTH == 16
constexpr int kMostRows = 14;  // with 2 vectors each, 2 of weights and 1 pixel: 31 of 32 registers
#elif defined(FASTGAN_BF16)
constexpr int kMostRows = 5;  // of 16 registers: weights and pixels take two for each of theirs
#else
constexpr int kMostRows = 6;  // of 16 registers
#endif

#if FASTGAN_WIDTH == 16
FASTGAN_INLINE Vector load(const float* p) { return (Vector)_mm512_loadu_ps(p); }
FASTGAN_INLINE void store(float* p, Vector a) { _mm512_storeu_ps(p, (__m512)a); }
FASTGAN_INLINE Vector splat(float a) { return (Vector)_mm512_set1_ps(a); }
FASTGAN_INLINE Vector multiply_add(Vector a, Vector b, Vector c) {
  return (Vector)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
#elif FASTGAN_WIDTH == 4  // whatever there is, as the compiler sees fit
FASTGAN_INLINE Vector load(const float* p) {
  Vector a;
  memcpy(&a, p, sizeof a);
  return a;
}
FASTGAN_INLINE void store(float* p, Vector a) { memcpy(p, &a, sizeof a); }
FASTGAN_INLINE Vector splat(float a) { return Vector{} + a; }
FASTGAN_INLINE Vector multiply_add(Vector a, Vector b, Vector c) { return a * b + c; }
#else
FASTGAN_INLINE Vector load(const float* p) { return (Vector)_mm256_loadu_ps(p); }
FASTGAN_INLINE void store(float* p, Vector a) { _mm256_storeu_ps(p, (__m256)a); }
FASTGAN_INLINE Vector splat(float a) { return (Vector)_mm256_set1_ps(a); }
FASTGAN_INLINE Vector multiply_add(Vector a, Vector b, Vector c) {
  return (Vector)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
#endif

// Lanes of a, each the one whose number is in `from`.
FASTGAN_INLINE Vector permute(Vector a, Integers from) {
#if FASTGAN_WIDTH == 16
  return (Vector)_mm512_permutexvar_ps((__m512i)from, (__m512)a);
#elif FASTGAN_WIDTH == 8
  return (Vector)_mm256_permutevar8x32_ps((__m256)a, (__m256i)from);
#else
  Vector permuted;
  for (int i = 0; i < kWidth; ++i) permuted[i] = a[from[i]];
  return permuted;
#endif
}

FASTGAN_INLINE Integers load(const int32_t* p) {
  Integers a;
  memcpy(&a, p, sizeof a);
  return a;
}

// Elements as the products take them: one, or a pair, for each lane.
#ifdef FASTGAN_BF16
typedef uint16_t Element;
typedef Integers Factors;  // pairs of bfloat16
constexpr int kPack = 2;
#if FASTGAN_WIDTH == 16
FASTGAN_INLINE Factors factors(const Element* p) { return (Factors)_mm512_loadu_si512(p); }
FASTGAN_INLINE Factors splat_factors(int32_t pair) { return (Factors)_mm512_set1_epi32(pair); }
FASTGAN_INLINE Vector multiply_add(Factors a, Factors b, Vector c) {
  return (Vector)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
}
FASTGAN_INLINE void store(Element* p, Vector a) {
  _mm256_storeu_si256((__m256i*)p, (__m256i)_mm512_cvtneps_pbh((__m512)a));
}
#else
FASTGAN_INLINE Factors factors(const Element* p) {
  Factors a;
  memcpy(&a, p, sizeof a);
  return a;
}
FASTGAN_INLINE Factors splat_factors(int32_t pair) { return Factors{} + pair; }
// Rounded as AVX512-BF16 rounds: the upper product is added first, each sum on its own.
FASTGAN_INLINE Vector multiply_add(Factors a, Factors b, Vector c) {
  const Integers upper = Integers{} + static_cast<int32_t>(0xFFFF0000);
  c = multiply_add((Vector)(a & upper), (Vector)(b & upper), c);
  return multiply_add((Vector)(a << 16), (Vector)(b << 16), c);
}
FASTGAN_INLINE void store(Element* p, Vector a) {  // to nearest even; a NaN stays one
  const Integers bits = (Integers)a;
  const Integers nearest = bits + 0x7FFF + ((bits >> 16) & 1);
  const Integers rounded = select(a == a, nearest, bits | 0x400000);
#if FASTGAN_WIDTH == 8
  const __m256i upper = _mm256_srli_epi32((__m256i)rounded, 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(upper, upper), 0x08);
  _mm_storeu_si128((__m128i*)p, _mm256_castsi256_si128(packed));
#else
  for (int i = 0; i < kWidth; ++i) p[i] = static_cast<Element>(rounded[i] >> 16);
#endif
}
#endif
FASTGAN_INLINE Factors splat_factors(const Element* p) {
  int32_t pair;
  memcpy(&pair, p, sizeof pair);
  return splat_factors(pair);
}
#else
typedef float Element;
typedef Vector Factors;
constexpr int kPack = 1;
FASTGAN_INLINE Factors factors(const Element* p) { return load(p); }
FASTGAN_INLINE Factors splat_factors(const Element* p) { return splat(*p); }
#endif

// NaN in place of what is infinite or NaN, zero of all else; and whether there is any.
FASTGAN_INLINE Vector poison_of(Vector x) { return x - x; }

FASTGAN_INLINE bool is_poison(Vector x) {
#if FASTGAN_WIDTH == 16
  return _mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_NEQ_UQ) != 0;
#elif FASTGAN_WIDTH == 8
  return _mm256_movemask_ps(_mm256_cmp_ps((__m256)x, _mm256_setzero_ps(), _CMP_NEQ_UQ)) != 0;
#else
  float sum = 0;
  for (int i = 0; i < kWidth; ++i) sum += x[i];
  return sum != 0;
#endif
}

FASTGAN_INLINE float float_of(float a) { return a; }
FASTGAN_INLINE float float_of(uint16_t a) {  // bfloat16
  const uint32_t bits = static_cast<uint32_t>(a) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// Of the taps and channels that lanes share, some have weights of -0 where a lane has none
// (packing/source.h): what is not finite must not come to those by way of 0 * NaN. Makes such sums
// again.
//
// in: the inputs of a tap and a pixel.
template <class In>
FASTGAN_NOINLINE void keep_apart(const In& in, int64_t count, int64_t taps, int64_t channels,
                                 const Element* weights, int64_t block, float* values) {
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t lane = 0; lane < block; ++lane) {
      float& value = values[r * block + lane];
      if (value - value == 0) continue;
      value = 0;
      for (int64_t t = 0; t < taps; ++t) {
        const Element* x = in(t, r);
        for (int64_t c = 0; c < channels; ++c) {
          const int64_t row = (t * channels + c) / kPack, within = c % kPack;
          const float weight = float_of(weights[(row * block + lane) * kPack + within]);
          if (weight != 0 || !std::signbit(weight)) value += float_of(x[c]) * weight;
        }
      }
    }
  }
}

// e^x of several, step by step, so that none waits for its own; within two units in the last place,
// for -87 <= x <= 88: 2^n e^r with |r| <= ln(2) / 2, and e^r by its series (a minimax fit gains nothing
// that shows in fp32).
template <int N>
FASTGAN_INLINE void exponentials(Vector (&x)[N]) {
  const Vector shift = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
  Vector shifted[N], sum[N];
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) shifted[i] = multiply_add(x[i], splat(1.44269504f), shift);
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) sum[i] = shifted[i] - shift;
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) x[i] = multiply_add(sum[i], splat(-0.693145752f), x[i]);
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) x[i] = multiply_add(sum[i], splat(-1.42860677e-6f), x[i]);
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) sum[i] = splat(1.0f / 5040);
  for (const float factor : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) sum[i] = multiply_add(sum[i], x[i], splat(factor));
  }
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) {
    x[i] = sum[i] * (Vector)(((Integers)shifted[i] << 23) + 0x3F800000);
  }
}

FASTGAN_INLINE Vector exponential(Vector x) {
  Vector one[1] = {x};
  exponentials(one);
  return one[0];
}

FASTGAN_INLINE Vector clamp(Vector x, float low, float high) {  // a NaN stays one
  x = select(x < low, splat(low), x);
  return select(x > high, splat(high), x);
}

FASTGAN_INLINE Vector sigmoid(Vector x) {
  const Vector y = splat(1.0f) / (splat(1.0f) + exponential(-clamp(x, -87.0f, 87.0f)));
  return select(x < -87.0f, Vector{}, y);  // what is too small for a normal number is none: so is x y
}

// tanh by e^2x, and near 0, where that cancels, by the first terms of its continued fraction: one
// division of either, which takes longer than all else.
FASTGAN_INLINE Vector hyperbolic_tangent(Vector x) {
  const Vector one = splat(1.0f), square = x * x;
  const Vector power = exponential(clamp(x + x, -40.0f, 40.0f));
  // x (10395 + 1260 s + 21 s^2) / (10395 + 4725 s + 210 s^2 + s^3)
  const Vector above = multiply_add(multiply_add(splat(21.0f), square, splat(1260.0f)), square,
                                    splat(10395.0f));
  const Vector below =
      multiply_add(multiply_add(square + splat(210.0f), square, splat(4725.0f)), square,
                   splat(10395.0f));
  const Vector dividend = select(square < 0.3f, x * above, splat(2.0f));
  const Vector quotient = dividend / select(square < 0.3f, below, power + one);
  return select(square < 0.3f, quotient, one - quotient);
}

// Whole numbers from 0 to 255, to nearest even; 0 of a NaN. See BytesPart.
FASTGAN_INLINE Vector to_bytes(Vector x, float low, float scale) {
  x = (x - low) * scale;
  x = select(x == x, x, Vector{});
  const Vector shift = splat(12582912.0f);
  return (clamp(x, 0.0f, 255.0f) + shift) - shift;
}

}  // namespace
}  // namespace fastgan
