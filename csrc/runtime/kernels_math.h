// What kernels_code.h has beyond direct_math.h: parts of vectors, and every curve.
#pragma once

#include <cmath>

#include "../direct_math.h"
#include "kernels.h"

namespace fastgan {
namespace {

#define FASTGAN_NOINLINE __attribute__((noinline))

// The first n < kWidth floats; zeros beyond.
FASTGAN_INLINE Vector load_some(const float* p, int64_t n) {
#if FASTGAN_WIDTH == 16
  return (Vector)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
#else
  Vector a{};
  for (int64_t i = 0; i < n; ++i) a[i] = p[i];
  return a;
#endif
}

FASTGAN_INLINE void store_some(float* p, Vector a, int64_t n) {
#if FASTGAN_WIDTH == 16
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)a);
#else
  for (int64_t i = 0; i < n; ++i) p[i] = a[i];
#endif
}

FASTGAN_INLINE Vector one_by_one(Vector x, float (*function)(float)) {
  for (int i = 0; i < kWidth; ++i) x[i] = function(x[i]);
  return x;
}

FASTGAN_INLINE Vector negative_part(Vector x, Vector there) { return x < 0.0f ? there : x; }

inline float softplus(float x) { return x > 20 ? x : std::log1p(std::exp(x)); }

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
      return negative_part(x, parameter * one_by_one(x, [](float a) { return std::expm1(a); }));
    case Curve::kSilu: return x * sigmoid(x);
    case Curve::kGelu:
      return x * 0.5f *
             (one + one_by_one(x * 0.70710678f, [](float a) { return std::erf(a); }));
    case Curve::kGeluTanh:
      return x * 0.5f *
             (one + hyperbolic_tangent(0.79788456f * multiply_add(x * x * x, splat(0.044715f), x)));
    case Curve::kMish: return x * hyperbolic_tangent(one_by_one(x, softplus));
    case Curve::kHardSwish: return x * clamp(x + 3.0f, 0.0f, 6.0f) / 6.0f;
    case Curve::kSoftplus: return one_by_one(x, softplus);
    case Curve::kExp: return one_by_one(x, [](float a) { return std::exp(a); });
    case Curve::kLog: return one_by_one(x, [](float a) { return std::log(a); });
    case Curve::kSqrt: return one_by_one(x, [](float a) { return std::sqrt(a); });
    case Curve::kReciprocal: return one / x;
    case Curve::kNeg: return -x;
    case Curve::kAbs: return one_by_one(x, [](float a) { return std::fabs(a); });
    case Curve::kErf: return one_by_one(x, [](float a) { return std::erf(a); });
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

inline Operands operands(const Epilogue& e, const float* bias, const float* scale,
                         const float* residual, int64_t image, int64_t y, int64_t x, int64_t c) {
  return {bias == nullptr ? nullptr : bias + c,
          scale == nullptr ? nullptr : scale + image * e.scale_image + c,
          residual == nullptr ? nullptr
                              : residual + image * e.residual_image + y * e.residual_row +
                                    x * e.residual_pixel + c * e.residual_channel,
          e.slopes == nullptr ? nullptr : e.slopes + c};
}

}  // namespace
}  // namespace fastgan
