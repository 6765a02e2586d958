// float and bfloat16 in memory, and the three copies of a loop that the loader picks from.
#pragma once

#include <stdint.h>
#include <string.h>

#include <limits>

#include "col2im.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FASTGAN_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FASTGAN_CLONES
#endif

namespace fastgan {
namespace {

inline float load(const float* p) { return *p; }
inline float load(const uint16_t* p) {
  const uint32_t bits = static_cast<uint32_t>(*p) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

inline void store(float* p, float value) { *p = value; }
inline void store(uint16_t* p, float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  // Round to nearest even; a NaN stays one, since its upper half is not zero after the or.
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  *p = static_cast<uint16_t>(value == value ? rounded : (bits >> 16) | 0x40);
}

// An activation: what is less than `least` becomes that, and what is below zero is sloped.
struct Bend {
  float least, below;

  Bend(Activation activation, float slope)
      : least(activation == kRelu ? 0.0f : -std::numeric_limits<float>::infinity()),
        below(activation == kLeakyRelu ? slope : 1.0f) {}
  float operator()(float value) const {
    value = value < least ? least : value;
    return value < 0 ? value * below : value;
  }
};

}  // namespace
}  // namespace fastgan
