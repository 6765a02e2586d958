// The CPU lane type, for FASTGAN_LANES 64-bit lanes to a vector (1: plain C++), written with the
// vector extensions of GCC and Clang, and with intrinsics where those make poor code.
#pragma once

#include "philox.h"
#include "twin.h"

#if FASTGAN_LANES > 1 && defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fastgan {
namespace {

#if FASTGAN_LANES == 1

constexpr uint64_t kLanes = 1;

struct Lane : Scalar {
  static FASTGAN_FN Wide wide(uint64_t a) { return a; }
  static FASTGAN_FN Wide select_wide(bool mask, Wide a, Wide b) { return mask ? a : b; }
};

FASTGAN_FN uint64_t lane_of_block(uint64_t) { return 0; }

template <int K>
FASTGAN_FN void draw_group(const uint64_t (&c)[4], const Parameters& parameters, float* out) {
  Draw<Lane>::pair<K>(Lane::word(c[0]), Lane::word(c[1]), parameters, out[0], out[1]);
  Draw<Lane>::pair<K>(Lane::word(c[2]), Lane::word(c[3]), parameters, out[2], out[3]);
}

#else

struct Vector {
  typedef uint64_t Wide __attribute__((vector_size(8 * FASTGAN_LANES)));
  typedef uint32_t Word __attribute__((vector_size(8 * FASTGAN_LANES)));
  typedef int32_t Int __attribute__((vector_size(8 * FASTGAN_LANES)));
  typedef float Float __attribute__((vector_size(8 * FASTGAN_LANES)));

  static FASTGAN_FN Wide wide(uint64_t a) { return Wide{} + a; }
  static FASTGAN_FN Float to_float(Int a) { return __builtin_convertvector(a, Float); }
  static FASTGAN_FN Int to_signed(Word a) { return (Int)a; }
  static FASTGAN_FN Word to_unsigned(Int a) { return (Word)a; }
  static FASTGAN_FN Word bits(Float a) { return (Word)a; }
  static FASTGAN_FN Float from_bits(Word a) { return (Float)a; }
  static FASTGAN_FN Float minimum(Float a, float b) { return a < b ? a : Float{} + b; }
  static FASTGAN_FN Float select(Int mask, Float a, Float b) { return mask ? a : b; }
  template <class Mask>
  static FASTGAN_FN Wide select_wide(Mask mask, Wide a, Wide b) { return mask ? a : b; }

#if defined(__x86_64__) && FASTGAN_LANES == 8
  static FASTGAN_FN Wide high(Wide a) {  // a shift would wait for the one port that has shifts
    return (Wide)_mm512_shuffle_epi32((__m512i)a, (_MM_PERM_ENUM)0xF5);
  }
  static FASTGAN_FN Wide product(Wide a, uint32_t b) {
    return (Wide)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(b));
  }
  static FASTGAN_FN Float square_root(Float a) { return (Float)_mm512_sqrt_ps((__m512)a); }
  // The words of a in the even 32-bit lanes, those of b in the odd ones.
  static FASTGAN_FN Word merge(Wide a, Wide b) {
    return (Word)_mm512_mask_shuffle_epi32((__m512i)a, 0xAAAA, (__m512i)b, (_MM_PERM_ENUM)0xA0);
  }
  static FASTGAN_FN void store_interleaved(float* out, Float a, Float b) {
    _mm512_storeu_ps(out, _mm512_unpacklo_ps((__m512)a, (__m512)b));
    _mm512_storeu_ps(out + 16, _mm512_unpackhi_ps((__m512)a, (__m512)b));
  }
#elif defined(__x86_64__) && FASTGAN_LANES == 4
  static FASTGAN_FN Wide high(Wide a) { return a >> 32; }
  static FASTGAN_FN Wide product(Wide a, uint32_t b) {
    return (Wide)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(b));
  }
  static FASTGAN_FN Float square_root(Float a) { return (Float)_mm256_sqrt_ps((__m256)a); }
  static FASTGAN_FN Word merge(Wide a, Wide b) {
    return (Word)_mm256_blend_epi32((__m256i)a, _mm256_slli_epi64((__m256i)b, 32), 0xAA);
  }
  static FASTGAN_FN void store_interleaved(float* out, Float a, Float b) {
    _mm256_storeu_ps(out, _mm256_unpacklo_ps((__m256)a, (__m256)b));
    _mm256_storeu_ps(out + 8, _mm256_unpackhi_ps((__m256)a, (__m256)b));
  }
#elif defined(__x86_64__) && FASTGAN_LANES == 2
  static FASTGAN_FN Wide high(Wide a) { return a >> 32; }
  static FASTGAN_FN Wide product(Wide a, uint32_t b) {
    return (Wide)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(b));
  }
  static FASTGAN_FN Float square_root(Float a) { return (Float)_mm_sqrt_ps((__m128)a); }
  static FASTGAN_FN Word merge(Wide a, Wide b) { return (Word)((a & 0xFFFFFFFFu) | (b << 32)); }
  static FASTGAN_FN void store_interleaved(float* out, Float a, Float b) {
    _mm_storeu_ps(out, _mm_unpacklo_ps((__m128)a, (__m128)b));
    _mm_storeu_ps(out + 4, _mm_unpackhi_ps((__m128)a, (__m128)b));
  }
#else  // any other 128-bit vector unit
  static FASTGAN_FN Wide high(Wide a) { return a >> 32; }
  static FASTGAN_FN Wide product(Wide a, uint32_t b) { return (a & 0xFFFFFFFFu) * (uint64_t)b; }
  static FASTGAN_FN Float square_root(Float a) {
    for (int i = 0; i < 2 * FASTGAN_LANES; ++i) a[i] = __builtin_sqrtf(a[i]);
    return a;
  }
  static FASTGAN_FN Word merge(Wide a, Wide b) { return (Word)((a & 0xFFFFFFFFu) | (b << 32)); }
  static FASTGAN_FN void store_interleaved(float* out, Float a, Float b) {
    const float pairs[8] = {a[0], b[0], a[1], b[1], a[2], b[2], a[3], b[3]};
    memcpy(out, pairs, sizeof pairs);
  }
#endif
};

using Lane = Twin<Vector>;

constexpr uint64_t kLanes = sizeof(Lane::Wide) / 8;

// The interleaving store works within 128 bits, so it writes the blocks in the even 64-bit lanes of
// a vector first, then those in the odd ones.
FASTGAN_FN uint64_t lane_of_block(uint64_t i) {
  constexpr uint64_t lanes = FASTGAN_LANES;
  const uint64_t within = i % lanes;
  return i - within + (within < lanes / 2 ? 2 * within : 2 * (within - lanes / 2) + 1);
}

template <int K>
FASTGAN_FN void draw_group(const Lane::Wide (&c)[4], const Parameters& parameters, float* out) {
  Lane::Float a, b;
  Draw<Lane>::pair<K>(Lane::merge(c[0], c[2]), Lane::merge(c[1], c[3]), parameters, a, b);
  Lane::store_interleaved(out, a, b);
}

#endif

}  // namespace
}  // namespace fastgan
