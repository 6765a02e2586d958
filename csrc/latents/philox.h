// fastgan's random numbers, the one source for every CPU path and for CUDA.
//
// Element j of sample i is a function of (seed, stream, i, j) alone. Philox4x32-10 (Salmon, Moraes,
// Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turns
//
//     key     = (seed low 32 bits, seed high 32 bits)
//     counter = (i low 32 bits, i high 32 bits, block = j / 4, stream)
//
// into four 32-bit words; element j is made from word j % 4. A normal takes two neighbouring words
// for two neighbouring elements (0 with 1, 2 with 3), every other kind one word per element.
//
// fastgan/latents/philox.py is the specification. This file repeats it operation for operation, in IEEE
// single precision with one rounding each, so it must be compiled without contraction into fused
// multiply-adds and with correctly rounded division and square root (setup.py has the flags).
//
// Everything is written once for a lane type L, which is one lane (Scalar, below: a CUDA thread, or
// plain C++) or a CPU vector (lanes.h). L has the types
//     Wide   64-bit lanes holding a 32-bit word in the lower half; the upper half may be anything
//     Word, Int, Float   32-bit unsigned, signed and floating point lanes
// the C++ operators on them, and the few functions that operators do not give.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define FASTGAN_FN __host__ __device__ __forceinline__
#elif defined(_MSC_VER)
#define FASTGAN_FN __forceinline
#else
#define FASTGAN_FN inline __attribute__((always_inline))
#endif

namespace fastgan {

// What is drawn; the numbers are those of fastgan/latents/philox.py.
enum Kind { kBits = 0, kUniform = 1, kNormal = 2, kTruncated = 3, kHypersphere = 4 };
constexpr Kind kLastKind = kHypersphere;

// See Parameters in fastgan/latents/philox.py.
struct Parameters {
  float offset, scale, limit;
};

// Each translation unit is compiled for its own instruction set: no code here is shared by name.
namespace {

struct Scalar {
  using Wide = uint64_t;
  using Word = uint32_t;
  using Int = int32_t;
  using Float = float;

  static FASTGAN_FN Wide product(Wide a, uint32_t b) { return static_cast<uint64_t>(word(a)) * b; }
  static FASTGAN_FN Wide high(Wide a) { return a >> 32; }
  static FASTGAN_FN Word word(Wide a) { return static_cast<uint32_t>(a); }
  static FASTGAN_FN Float to_float(Int a) { return static_cast<float>(a); }
  static FASTGAN_FN Int to_signed(Word a) { return static_cast<int32_t>(a); }
  static FASTGAN_FN Word to_unsigned(Int a) { return static_cast<uint32_t>(a); }
  static FASTGAN_FN Word bits(Float a) {
    Word b;
    memcpy(&b, &a, sizeof b);
    return b;
  }
  static FASTGAN_FN Float from_bits(Word a) {
    Float b;
    memcpy(&b, &a, sizeof b);
    return b;
  }
  static FASTGAN_FN Float minimum(Float a, float b) { return a < b ? a : b; }
  static FASTGAN_FN Float select(bool mask, Float a, Float b) { return mask ? a : b; }
  static FASTGAN_FN Float square_root(Float a) {
#ifdef __CUDA_ARCH__
    return __fsqrt_rn(a);
#elif defined(_MSC_VER)
    return sqrtf(a);
#else
    return __builtin_sqrtf(a);
#endif
  }
};

// The keys of the ten rounds, in the lower halves.
struct Keys {
  uint64_t round[10][2];

  explicit FASTGAN_FN Keys(uint64_t seed) {
    uint32_t key_0 = static_cast<uint32_t>(seed), key_1 = static_cast<uint32_t>(seed >> 32);
    for (int i = 0; i < 10; ++i, key_0 += 0x9E3779B9u, key_1 += 0xBB67AE85u) {
      round[i][0] = key_0;
      round[i][1] = key_1;
    }
  }
};

// The ten rounds, in place: counter c -> words c.
template <class L>
FASTGAN_FN void philox(typename L::Wide (&c)[4], const Keys& keys) {
#ifdef __CUDACC__
#pragma unroll
#else
#pragma GCC unroll 10
#endif
  for (int round = 0; round < 10; ++round) {
    const typename L::Wide product_0 = L::product(c[0], 0xD2511F53u);
    const typename L::Wide product_1 = L::product(c[2], 0xCD9E8D57u);
    c[0] = L::high(product_1) ^ c[1] ^ keys.round[round][0];
    c[2] = L::high(product_0) ^ c[3] ^ keys.round[round][1];
    c[1] = product_1;
    c[3] = product_0;
  }
}

// The constants are explained in fastgan/latents/philox.py.
template <class L>
struct Draw {
  using Word = typename L::Word;
  using Int = typename L::Int;
  using Float = typename L::Float;

  // The upper 31 bits plus a half, rounded to single precision and kept below 2^31.
  static FASTGAN_FN Float magnitude(Word word) {
    return L::minimum(L::to_float(L::to_signed(word >> 1)) + 0.5f, 2147483520.0f);
  }

  // log(x / 2^Shift) for a normal, positive x.
  template <int Shift>
  static FASTGAN_FN Float log(Float x) {
    const int32_t sqrt_half = 0x3F3504F3;
    const Int bits = L::to_signed(L::bits(x)) - (sqrt_half + (Shift << 23));
    const Float exponent = L::to_float(bits >> 23);
    x = L::from_bits(L::to_unsigned((bits & 0x7FFFFF) + sqrt_half)) - 1.0f;
    Float p = x * 0.0914207846f + -0.14681676f;
    p = p * x + 0.149142057f;
    p = p * x + -0.165032625f;
    p = p * x + 0.19956477f;
    p = p * x + -0.250057071f;
    p = p * x + 0.333341986f;
    p = p * x + -0.499999166f;
    return (p * (x * x) + x) + exponent * 0.693147182f;
  }

  // -ndtri(p), the normal quantile, for p in [2^-33, 1/2]; q is 1/2 - p to full precision.
  static FASTGAN_FN Float minus_ndtri(Float p, Float q) {
    const Float squared = q * q, x = 0.16f - squared;
    const Float s = L::square_root(log<0>(p) * -2.0f);
    const auto tail = p < 0.1f;
    const Float leading = L::select(tail, s, q * 2.50662827f);
    const Float centre_over = (((x * 65.2566147f + 41.5559006f) * x) + 4.35781622f) * (squared * q);
    const Float centre_under = ((x * 39.1779823f + 52.9215355f) * x + 14.4645386f) * x + 1.0f;
    const Float tail_over = ((s * 0.0026618354f + 0.640420139f) * s + 4.51630449f) * s + 2.91524243f;
    const Float tail_under = ((s * 0.135890573f + 1.82067096f) * s + 3.40143251f) * s + 1.0f;
    const Float over = L::select(tail, -tail_over, centre_over);
    return leading + over / L::select(tail, tail_under, centre_under);
  }

  // offset + scale u, u in [0, 1) of 24 bits.
  static FASTGAN_FN Float uniform(Word word, const Parameters& parameters) {
    const Float u = L::to_float(L::to_signed(word >> 8)) * 0x1p-24f;
    return u * parameters.scale + parameters.offset;
  }

  // A normal conditioned on |z| <= limit: 31 bits for the tail, one for the sign.
  static FASTGAN_FN Float truncated(Word word, const Parameters& parameters) {
    const Float v = magnitude(word);
    const Float p = v * parameters.scale + parameters.offset;
    const Float q = (2147483648.0f - v) * parameters.scale;
    return L::from_bits(L::bits(L::minimum(minus_ndtri(p, q), parameters.limit)) ^ (word << 31));
  }

  // Box and Muller's two independent normals from two words; |z| <= 6.661, never zero.
  static FASTGAN_FN void normal_pair(Word radius_word, Word angle_word, Float& a, Float& b) {
    const Float radius = L::square_root(log<31>(magnitude(radius_word)) * -2.0f);
    const Float y = L::to_float(L::to_signed(angle_word << 2)) * 0x1p-31f + 0x1p-32f;
    const Float squared = y * y;
    Float sine = squared * -3.59504077e-05f + 0.00249000097f;
    sine = sine * squared + -0.0807454325f;
    sine = (sine * squared + 0.785398161f) * y;
    Float cosine = squared * 3.53033819e-06f + -0.00032594008f;
    cosine = cosine * squared + 0.0158543266f;
    cosine = cosine * squared + -0.308425136f;
    cosine = cosine * squared + 1.0f;
    cosine = L::from_bits(L::bits(cosine) ^ (angle_word & 0x80000000u));
    const auto swap = (angle_word & 0x40000000u) != 0u;
    a = radius * L::select(swap, sine, cosine);
    b = radius * L::select(swap, cosine, sine);
  }

  // Two neighbouring elements from their two words.
  template <int K>
  static FASTGAN_FN void pair(Word even, Word odd, const Parameters& parameters, Float& a,
                              Float& b) {
    if constexpr (K == kBits) {
      a = L::from_bits(even);
      b = L::from_bits(odd);
    } else if constexpr (K == kUniform) {
      a = uniform(even, parameters);
      b = uniform(odd, parameters);
    } else if constexpr (K == kTruncated) {
      a = truncated(even, parameters);
      b = truncated(odd, parameters);
    } else {
      normal_pair(even, odd, a, b);
    }
  }
};

// One block: four neighbouring elements of sample `sample`, on one lane.
template <int K>
FASTGAN_FN void draw_block(uint64_t seed, uint64_t sample, uint32_t block, uint32_t stream,
                           const Parameters& parameters, float* out) {
  uint64_t c[4] = {sample, sample >> 32, block, stream};
  philox<Scalar>(c, Keys(seed));
  for (int half = 0; half < 4; half += 2) {
    Draw<Scalar>::pair<K>(Scalar::word(c[half]), Scalar::word(c[half + 1]), parameters, out[half],
                          out[half + 1]);
  }
}

}  // namespace
}  // namespace fastgan
