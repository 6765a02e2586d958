#include "crc32.h"

#include "../processor.h"
#include "../targets/compiler.h"

#ifdef FASTGAN_X86
#include <immintrin.h>
#endif

namespace fastgan {
namespace {

// Of the bytes that follow each other, by place: slicing by 8 (Kounavis and Berry, 2005).
struct Tables {
  uint32_t of[8][256];

  constexpr Tables() : of() {
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
      of[0][i] = value;
    }
    for (int t = 1; t < 8; ++t) {
      for (uint32_t i = 0; i < 256; ++i) of[t][i] = of[t - 1][i] >> 8 ^ of[0][of[t - 1][i] & 255];
    }
  }
};
constexpr Tables kTables;

uint32_t by_tables(uint32_t crc, const unsigned char* p, uint64_t size) {
  const auto& t = kTables.of;
  for (; size >= 8; size -= 8, p += 8) {
    const uint32_t low = crc ^ (p[0] | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 |
                                uint32_t{p[3]} << 24);
    crc = t[7][low & 255] ^ t[6][low >> 8 & 255] ^ t[5][low >> 16 & 255] ^ t[4][low >> 24] ^
          t[3][p[4]] ^ t[2][p[5]] ^ t[1][p[6]] ^ t[0][p[7]];
  }
  for (; size > 0; --size, ++p) crc = crc >> 8 ^ t[0][(crc ^ *p) & 255];
  return crc;
}

#ifdef FASTGAN_X86
// Four sums of 16 bytes, each carried over the 64 bytes that follow by two products without carry
// (Gopal and others, "Fast CRC computation for generic polynomials using PCLMULQDQ", Intel, 2009);
// the constants are x^(64 * 8 + 32), x^(64 * 8 - 32), x^(16 * 8 + 32), x^(16 * 8 - 32), reflected.
constexpr uint64_t kFold = 64;
constexpr int64_t kOver64[2] = {0x154442bd4, 0x1c6e41596}, kOver16[2] = {0x1751997d0, 0x0ccaa009e};

__attribute__((target("pclmul"))) __m128i carried(__m128i sum, __m128i over, __m128i next) {
  const __m128i low = _mm_clmulepi64_si128(sum, over, 0x00);
  const __m128i high = _mm_clmulepi64_si128(sum, over, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

// At least 64 bytes, a multiple of them.
__attribute__((target("pclmul"))) uint32_t by_products(uint32_t crc, const unsigned char* p,
                                                       uint64_t size) {
  const __m128i over64 = _mm_set_epi64x(kOver64[1], kOver64[0]);
  const __m128i over16 = _mm_set_epi64x(kOver16[1], kOver16[0]);
  const auto at = [](const unsigned char* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  };
  __m128i sums[4];
  for (int i = 0; i < 4; ++i) sums[i] = at(p + 16 * i);
  sums[0] = _mm_xor_si128(sums[0], _mm_cvtsi32_si128(static_cast<int>(crc)));
  for (uint64_t done = kFold; done < size; done += kFold) {
    for (int i = 0; i < 4; ++i) sums[i] = carried(sums[i], over64, at(p + done + 16 * i));
  }
  for (int i = 1; i < 4; ++i) sums[i] = carried(sums[i - 1], over16, sums[i]);
  unsigned char left[16];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(left), sums[3]);
  return by_tables(0, left, sizeof left);
}
#endif

}  // namespace

uint32_t crc32(const char* data, uint64_t size) {
  const unsigned char* p = reinterpret_cast<const unsigned char*>(data);
  uint32_t crc = 0xFFFFFFFFu;
#ifdef FASTGAN_X86
  if (const uint64_t whole = size / kFold * kFold; whole > 0 && has_carryless_products()) {
    crc = by_products(crc, p, whole);
    p += whole, size -= whole;
  }
#endif
  return ~by_tables(crc, p, size);
}

}  // namespace fastgan
