// Numbers as bfloat16: the upper half of a float.
#pragma once

#include <stdint.h>
#include <string.h>

namespace fastgan {

inline uint16_t to_bfloat16(float value) {  // to nearest even; a NaN stays one
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

inline float from_bfloat16(uint16_t upper) {
  const uint32_t bits = static_cast<uint32_t>(upper) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

inline float as_bfloat16(float value) { return from_bfloat16(to_bfloat16(value)); }

}  // namespace fastgan
